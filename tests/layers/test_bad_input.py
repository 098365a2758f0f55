"""Every layer and cell refuses what it cannot use, by the name of the argument and with what it received."""

import inspect
import json

import cases
import keras
import numpy as np
import pytest

from zoo import layers
from zoo.errors import SettingError

NAN, INF = float("nan"), float("inf")
NO_NUMBER = [NAN, INF, "1", True, None, [1]]
NOT_WHOLE = [0, -1, 2.5, np.float32(4), np.float64(0.5), np.int64(0), NAN, True, np.True_, "4", [4]]
NO_SHARE = [0, -0.1, 1.1, *NO_NUMBER]
NO_RATE = [-0.1, 1.1, np.float32(1.5), *NO_NUMBER]
NOT_POSITIVE = [0, -1.0, *NO_NUMBER]
# What each argument must not be; of the same name it means the same in every class.
BAD = {
    **{name: [*NOT_WHOLE, None] for name in ("units", "memory_features")},
    **{name: NOT_WHOLE for name in ("steps", "projection", "input_rank", "recurrent_rank", "checkpoint_every")},
    **{name: NO_RATE for name in ("rate", "cell_rate", "hidden_rate")},
    **{name: [1, *NO_RATE] for name in ("input_rate", "state_rate", "momentum")},
    **{name: NO_SHARE for name in ("connectivity", "leak", "density")},
    **{name: NOT_POSITIVE for name in ("time_constant", "time_step", "threshold", "slope")},
    **{name: NOT_POSITIVE for name in ("spectral_radius", "input_scaling")},
    "bias_scaling": [-0.1, *NO_NUMBER],
    "rates": [
        {"nobody": 0.5},
        {"hidden": 2},
        {"hidden": NAN},
        {"hidden": True},
        {"hidden": "1"},
        0.5,
        None,
        ["hidden"],
    ],
    "heads": [4, *NOT_WHOLE],  # of 6 units
    "activation": ["gelu", None, 3, ["relu"]],
    "coupled": ["yes", 1, None],
    "cell": [None, 3, "LSTMCell", keras.layers.LSTMCell(3)],
    "cells": [[], None, [3], [keras.layers.LSTMCell(3)], "LSTMCell"],
    "seed": ["1", 1.5, True, -1, 2**32, [1]],
}
FLAGS = {"remember", "recurrent", "return_attention", "query_inputs"}  # anything is true or false


def good(kind):
    """Arguments with which `kind` can be made."""
    around = layers.AdditiveAttention(layers.LSTMCell(6), 3, 4) if kind is layers.AttentiveRecurrent else None
    values = {
        **dict.fromkeys(["units", "memory_features"], 6),
        **dict.fromkeys(["rate", "cell_rate", "hidden_rate"], 0.1),
        "rates": {"hidden": 0.1},
        "cell": around or layers.LSTMCell(6),
        "cells": [layers.LSTMCell(6)],
    }
    return {name: value for name, value in values.items() if name in arguments(kind)}


def arguments(kind):
    return [name for name in inspect.signature(kind).parameters if name != "kwargs"]


ABSTRACT = (layers.Cell, layers.LinearRecurrence, layers.LinearCell)
FROM_MODELS = (layers.FakeQuantized, layers.FakeQuantizedCell)  # made by fake_quantize, of layers of a model
KINDS = [
    kind
    for kind in (getattr(layers, name) for name in layers.__all__)
    if inspect.isclass(kind)
    and issubclass(kind, (layers.Cell, layers.Recurrent))
    and kind not in (*ABSTRACT, *FROM_MODELS)
]


def test_the_table_knows_every_argument_of_every_layer_and_cell():
    assert {type(case.make()) for case in [*cases.LAYERS, *cases.ATTENTION]} <= set(KINDS)
    assert {name for kind in KINDS for name in arguments(kind)} == {*BAD, *FLAGS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_argument_out_of_range_is_refused_by_name_and_value(kind):
    kind(**good(kind))
    for name in arguments(kind):
        for value in BAD.get(name, ()):
            with pytest.raises(SettingError) as caught:
                kind(**{**good(kind), name: value})
            said = str(caught.value)
            assert name.removesuffix("s") in said, (name, value, said)
            assert any(shown in said for shown in ways_to_say(value)), (name, said)


def ways_to_say(value):
    """The value, what kind of thing it is, or a part of it."""
    yield from (repr(value), str(value), type(value).__name__)
    for part in [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from ways_to_say(part)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_numbers_of_numpy_are_taken_where_they_fit(kind):
    given = {name: np.int64(6) if name in ("units", "memory_features") else v for name, v in good(kind).items()}
    given |= {name: np.float32(0.25) for name in arguments(kind) if "rate" in name and name != "rates"}
    config = kind(**given).get_config()
    assert config.get("units", 6) == 6


OTHERS = [
    lambda: layers.AudioAugment(seed=3),
    lambda: layers.SpectrogramMask(time=4, frequency=3, count=2, seed=3),
    lambda: layers.WordDropout(0.25, unknown=7, seed=3),
    lambda: layers.LogMel(8000, mels=20),
    lambda: layers.CalendarCycles(3, 2, [0.25]),
    lambda: layers.StaticCovariates(3, [(1.0, 2.0), ("a", "b")]),
    lambda: layers.SegRNN(4, units=8, segment=4, seed=3),
    lambda: layers.DeepAR(4, units=8, paths=5, degrees=3, seed=3),
    lambda: layers.AttentionPooling(3),
    lambda: layers.RecurrentBound(3),
    lambda: layers.KeepLargest(0.5),
]


@pytest.mark.parametrize("make", [*(case.make for case in cases.LAYERS), *OTHERS])
def test_whole_numbers_of_numpy_are_kept_as_pythons(make):
    layer = make()
    config = layer.get_config()
    again = type(layer).from_config(with_numpys(config)).get_config()
    assert json.dumps(again) == json.dumps(config)


def with_numpys(config):
    """A config with every int as NumPy's, at any depth."""
    if isinstance(config, dict):
        return {name: with_numpys(value) for name, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [with_numpys(value) for value in config]
    return np.int64(config) if type(config) is int else config


BATCH, TIME, FEATURES = 3, 4, 4
EACH = pytest.mark.parametrize("case", cases.LAYERS, ids=str)


@EACH
def test_states_of_another_number_or_shape_are_refused(case):
    layer = case.make()
    x = np.zeros((BATCH, TIME, FEATURES), "float32")
    layer.build(x.shape)
    states = [np.zeros((BATCH, *state.shape[1:]), "float32") for state in layer.cell.get_initial_state(BATCH)]
    layer(x, initial_state=states)
    projected = layer.cell.project(x[:, 0])
    wide = [*states[:-1], np.zeros((BATCH, states[-1].shape[1] + 1), "float32")]
    flat = [*states[:-1], np.zeros((states[-1].shape[1],), "float32")]
    for wrong, words in (
        ([*states, states[0]], f"states has {len(states) + 1} entries; expected {len(states)}"),
        (states[:-1], f"states has {len(states) - 1} entries; expected {len(states)}"),
        (wide, rf"state {len(states) - 1} of states has the shape \({BATCH}, "),
        (flat, rf"state {len(states) - 1} of states has the shape \({states[-1].shape[1]},\)"),
        ([state[:1] for state in states], r"state 0 of states has the shape \(1, "),
    ):
        for use in (lambda s: layer(x, initial_state=s), lambda s: layer.cell.step(projected, s)):
            with pytest.raises(SettingError, match=words):
                use(wrong)


@EACH
def test_a_cell_without_weights_says_so(case):
    cell = case.make().cell
    states = [np.zeros((BATCH, size), "float32") for size in keras.tree.flatten(cell.state_size)]
    uses = [
        lambda: cell.step(np.zeros((BATCH, 20), "float32"), states),
        lambda: cell.call(np.zeros((BATCH, 4)), states),
    ]
    if type(cell).fold is not layers.Cell.fold and getattr(cell, "steps", None) is None:
        uses.append(cell.fold)
    for use in uses:
        with pytest.raises(SettingError, match=r"has no weights yet; build it first"):
            use()


def test_a_reservoir_without_weights_has_no_matrix():
    with pytest.raises(SettingError, match=r"has no weights yet; build it first"):
        layers.EchoStateCell(6).matrix()


@pytest.mark.parametrize("ridges", [[], [0], [-1.0], [NAN], [INF], ["1"], [True], 1e-3, None, "1"])
def test_ridges_that_cannot_be_used_are_refused(ridges):
    with pytest.raises(SettingError, match="ridges is"):
        layers.RidgeReadout(ridges=ridges)
