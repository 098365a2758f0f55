"""The table of cases is complete."""

import inspect

import cases

from zoo import layers, recipes

ALL = [*cases.LAYERS, *cases.ATTENTION]


def without_a_case(kind, covered):
    """The public classes of a kind that no case covers, but those that others are made from."""
    public = {c for c in vars(layers).values() if inspect.isclass(c) and issubclass(c, kind) and c is not kind}
    return {c for c in public - covered if not any(other is not c and issubclass(other, c) for other in public)}


def test_every_sequence_layer_has_a_case():
    assert not without_a_case(layers.Recurrent, {case.layer for case in ALL})


def test_every_cell_has_a_case():
    rounds = layers.FakeQuantizedCell  # is no line, as it is around every other: tests/layers/test_fake_quantize.py
    assert not without_a_case(layers.Cell, {rounds} | {type(case.make().cell) for case in ALL})


def test_every_recipe_has_a_case():
    assert set(recipes.names()) == set(cases.RECIPES)
