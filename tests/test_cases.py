"""The table of cases is complete."""

import inspect

import cases

from zoo import layers, recipes


def test_every_sequence_layer_has_a_case():
    public = {
        item
        for item in vars(layers).values()
        if inspect.isclass(item) and issubclass(item, layers.Recurrent) and item is not layers.Recurrent
    }
    assert public == {case.layer for case in cases.LAYERS} - {layers.Recurrent}


def test_every_cell_has_a_case():
    public = {
        item
        for item in vars(layers).values()
        if inspect.isclass(item) and issubclass(item, layers.Cell) and item is not layers.Cell
    }
    assert public <= {type(case.make().cell) for case in cases.LAYERS}


def test_every_recipe_has_a_case():
    assert set(recipes.names()) == set(cases.RECIPES)
