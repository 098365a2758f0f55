"""The scalar LSTM against its formula without a stabiliser."""

import numpy as np
import pytest
from keras import ops
from numpy_rnn import sigmoid

from zoo.errors import SettingError
from zoo.layers import SLSTM, SLSTMCell

BATCH, TIME, FEATURES, UNITS, HEADS = 2, 6, 3, 6, 3


def unstabilised(x, weights):
    """Equations 8 to 14 of the paper, in float64 whose exponents are large enough for moderate gates."""
    kernel, recurrent, bias = weights
    whole = np.zeros((UNITS, 4, UNITS))  # the heads as blocks of one matrix for each gate
    width = UNITS // HEADS
    for head in range(HEADS):
        part = slice(head * width, (head + 1) * width)
        whole[part, :, part] = recurrent[head].reshape(width, 4, width)
    h = c = n = np.zeros((len(x), UNITS))
    outputs = []
    for t in range(x.shape[1]):
        i, f, z, o = np.split(x[:, t] @ kernel + h @ whole.reshape(UNITS, 4 * UNITS) + bias, 4, axis=-1)
        c = sigmoid(f) * c + np.exp(i) * np.tanh(z)
        n = sigmoid(f) * n + np.exp(i)
        h = sigmoid(o) * c / n
        outputs.append(h)
    return np.stack(outputs, axis=1), c, n


def layer_with_random_weights(**options):
    layer = SLSTM(UNITS, HEADS, return_sequences=True, **options)
    layer.build((BATCH, TIME, FEATURES))
    layer.set_weights([np.random.normal(size=w.shape) for w in layer.get_weights()])
    return layer


@pytest.mark.parametrize("scale", [1.0, 40.0], ids=["usual inputs", "exponents beyond float32"])
def test_it_is_the_formula_of_the_paper_and_the_stabiliser_changes_nothing(scale):
    layer = layer_with_random_weights(return_state=True)
    x = scale * np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    outputs, _, cell, normaliser, stabiliser = [ops.convert_to_numpy(each).astype("float64") for each in layer(x)]
    expected, c, n = unstabilised(x.astype("float64"), [w.astype("float64") for w in layer.get_weights()])
    # float32 against float64; a gate's argument reaches 200, one unit in the last place of which is 1.5e-5
    np.testing.assert_allclose(outputs, expected, atol=1e-6 if scale == 1 else 1e-4)
    rtol = 1e-5 if scale == 1 else 1e-3
    np.testing.assert_allclose(cell * np.exp(stabiliser), c, rtol=rtol, atol=1e-6)
    np.testing.assert_allclose(normaliser * np.exp(stabiliser), n, rtol=rtol)


def test_inputs_far_below_and_above_stay_finite_from_the_first_step_on():
    layer = layer_with_random_weights(return_state=True)
    x = 1e4 * np.random.choice([-1.0, 1.0], size=(BATCH, TIME, FEATURES)).astype("float32")
    outputs, *states = [ops.convert_to_numpy(each) for each in layer(x)]
    assert all(np.isfinite(each).all() for each in (outputs, *states))
    assert np.abs(outputs).max() <= 1
    assert states[2].min() >= 1  # of the largest exponent 1 is left


def test_each_head_starts_orthogonal_and_the_forget_gate_open():
    cell = SLSTMCell(UNITS, HEADS)
    cell.build((BATCH, FEATURES))
    for head in ops.convert_to_numpy(cell.recurrent_kernel):
        np.testing.assert_allclose(head @ head.T, np.eye(UNITS // HEADS), atol=1e-5)
    bias = ops.convert_to_numpy(cell.bias).reshape(4, UNITS)
    np.testing.assert_array_equal(bias, np.repeat([[0.0], [1.0], [0.0], [0.0]], UNITS, axis=1))


@pytest.mark.parametrize("units", [0, -3, 2.5, "8", True, None])
def test_units_must_be_a_positive_whole_number(units):
    with pytest.raises(SettingError, match=r"units is .*whole number"):
        SLSTM(units)


@pytest.mark.parametrize("heads", [0, 4, 1.5, "2", True])
def test_heads_must_divide_the_units(heads):
    divides = " that divides the 6 units" if heads == 4 else ""
    with pytest.raises(SettingError, match=rf"heads is {heads!r}; expected a whole number{divides}"):
        SLSTM(6, heads)
