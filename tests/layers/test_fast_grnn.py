"""FastGRNN against its formula, and its size."""

import keras
import numpy as np
import pytest
from keras import ops
from numpy_rnn import sigmoid

from zoo.errors import SettingError
from zoo.layers import FastGRNN, FastGRNNCell

BATCH, TIME, FEATURES, UNITS = 2, 6, 3, 5


@pytest.mark.parametrize("ranks", [(None, None), (2, None), (None, 3), (2, 3)], ids=str)
def test_it_is_the_formula_of_the_paper(ranks):
    layer = FastGRNN(UNITS, *ranks, return_sequences=True)
    layer.build((BATCH, TIME, FEATURES))
    layer.set_weights([np.random.normal(size=w.shape) for w in layer.get_weights()])
    x = np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    h = np.random.normal(size=(BATCH, UNITS)).astype("float32")
    got = ops.convert_to_numpy(layer(x, initial_state=[h]))
    named = {v.name: ops.convert_to_numpy(v).astype("float64") for v in layer.cell.variables}
    kernel = named["kernel"] if ranks[0] is None else named["kernel_in"] @ named["kernel_out"]
    recurrent = named["recurrent_kernel"] if ranks[1] is None else named["recurrent_in"] @ named["recurrent_out"]
    zeta, nu = sigmoid(named["scales"])
    for t in range(TIME):
        shared = x[:, t] @ kernel + h @ recurrent
        z = sigmoid(shared + named["bias"][0])
        h = (zeta * (1 - z) + nu) * np.tanh(shared + named["bias"][1]) + z * h
        np.testing.assert_allclose(got[:, t], h, atol=1e-5)  # float32 against float64, six steps


@pytest.mark.parametrize("density", [0.3, 0.05])
def test_training_keeps_the_share_of_entries_that_was_asked_for(density):
    layer = FastGRNN(20, input_rank=4, density=density)
    model = keras.Sequential([keras.Input((TIME, FEATURES)), layer, keras.layers.Dense(1)])
    model.compile("adam", "mse", jit_compile=False)
    model.fit(np.random.normal(size=(8, TIME, FEATURES)), np.random.normal(size=(8, 1)), epochs=2, verbose=0)
    for weight in layer.cell.trainable_variables[:3]:
        value = ops.convert_to_numpy(weight)
        assert value.ndim == 2 and np.count_nonzero(value) == max(1, round(density * value.size)), weight.name


def test_the_constraint_keeps_the_entries_of_largest_size():
    matrix = np.array([[0.1, -0.9, 0.3], [0.5, 0.2, -0.4]], "float32")
    cell = FastGRNNCell(3, density=0.5)
    cell.build((None, 2))
    kept = ops.convert_to_numpy(cell.trainable_variables[0].constraint(matrix))
    np.testing.assert_array_equal(kept, np.array([[0, -0.9, 0], [0.5, 0, -0.4]], "float32"))


def test_the_low_rank_form_has_as_many_weights_as_its_factors():
    cell = FastGRNNCell(100, input_rank=16, recurrent_rank=25)
    cell.build((None, 32))
    assert cell.count_params() == 32 * 16 + 16 * 100 + 2 * 100 * 25 + 2 * 100 + 2


def test_the_state_starts_kept_and_the_scales_as_in_the_paper():
    cell = FastGRNNCell(UNITS)
    cell.build((None, FEATURES))
    np.testing.assert_array_equal(ops.convert_to_numpy(cell.bias), np.repeat([[1.0], [0.0]], UNITS, axis=1))
    np.testing.assert_array_equal(ops.convert_to_numpy(cell.scales), [1.0, -4.0])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("units", 0),
        ("units", 2.5),
        ("input_rank", 0),
        ("recurrent_rank", 1.5),
        ("recurrent_rank", True),
        ("density", 0),
        ("density", 1.1),
        ("density", "half"),
        ("density", float("nan")),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(SettingError, match=rf"{name} is {value!r}; expected"):
        FastGRNN(**{"units": 5, name: value})
