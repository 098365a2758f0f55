"""LSTM with layer normalisation against its formula."""

import numpy as np
import pytest
from keras import ops
from numpy_rnn import sigmoid

from zoo.errors import SettingError
from zoo.layers import LayerNormLSTM, LayerNormLSTMCell

BATCH, TIME, FEATURES, UNITS = 2, 6, 3, 4


def normal(v):
    return (v - v.mean(axis=-1, keepdims=True)) / np.sqrt(v.var(axis=-1, keepdims=True) + 1e-5)


@pytest.mark.parametrize("features", [FEATURES, 5 * UNITS], ids=["few features", "more features than gates"])
@pytest.mark.parametrize("scale", [1.0, 100.0], ids=["usual inputs", "large inputs"])
def test_it_is_the_formula_of_the_paper(scale, features):
    layer = LayerNormLSTM(UNITS, return_sequences=True, return_state=True)
    layer.build((BATCH, TIME, features))
    layer.set_weights([np.random.normal(size=w.shape) for w in layer.get_weights()])
    x = scale * np.random.normal(size=(BATCH, TIME, features)).astype("float32")
    h, c = np.random.normal(size=(2, BATCH, UNITS)).astype("float32")
    outputs, *final = layer(x, initial_state=[h, c])
    kernel, recurrent, bias, input_scale, recurrent_scale, cell_scale, cell_bias = [
        w.astype("float64") for w in layer.get_weights()
    ]
    x, h, c = [v.astype("float64") for v in (x, h, c)]
    for t in range(TIME):
        z = normal(x[:, t] @ kernel) * input_scale + normal(h @ recurrent) * recurrent_scale + bias
        i, f, g, o = np.split(z, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(normal(c) * cell_scale + cell_bias)
        # float32 against float64: a norm divides by a deviation that can be a tenth of the values
        np.testing.assert_allclose(ops.convert_to_numpy(outputs[:, t]), h, atol=2e-5)
    for ours, formula in zip(final, (h, c), strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(ours), formula, atol=2e-5)


def test_the_scale_of_inputs_and_kernels_does_not_matter():
    cell = LayerNormLSTMCell(UNITS)
    cell.build((BATCH, FEATURES))
    x = np.random.normal(size=(BATCH, FEATURES)).astype("float32")
    states = [np.random.normal(size=(BATCH, UNITS)).astype("float32") for _ in range(2)]
    before = ops.convert_to_numpy(cell(x, states)[0])
    kernel, recurrent, *others = cell.get_weights()
    cell.set_weights([10 * kernel, 10 * recurrent, *others])
    # but for the epsilon, 1e-5 beside variances near 0.1
    np.testing.assert_allclose(ops.convert_to_numpy(cell(10 * x, states)[0]), before, atol=1e-3)


def test_scales_start_at_one_and_the_forget_gate_open():
    cell = LayerNormLSTMCell(UNITS)
    cell.build((BATCH, FEATURES))
    for scale in (cell.input_scale, cell.recurrent_scale, cell.cell_scale):
        np.testing.assert_array_equal(ops.convert_to_numpy(scale), 1)
    bias = ops.convert_to_numpy(cell.bias).reshape(4, UNITS)
    np.testing.assert_array_equal(bias, np.repeat([[0.0], [1.0], [0.0], [0.0]], UNITS, axis=1))


@pytest.mark.parametrize("units", [0, 1, 2.5, "8", True])
def test_units_must_be_a_whole_number_of_at_least_two(units):
    with pytest.raises(SettingError, match=rf"units is {units!r}; expected"):
        LayerNormLSTM(units)
