"""Peephole LSTM against its formula."""

import keras
import numpy as np
import pytest
from gradients import finite_differences, gradients
from keras import ops
from numpy_rnn import peephole_lstm

from zoo.errors import SettingError
from zoo.layers import PeepholeLSTM, PeepholeLSTMCell

BATCH, TIME, FEATURES, UNITS = 2, 6, 3, 4


def layer_with_random_weights(dtype="float32", **options):
    layer = PeepholeLSTM(UNITS, dtype=dtype, **options)
    layer.build((BATCH, TIME, FEATURES))
    layer.set_weights([np.random.normal(size=w.shape).astype(dtype) for w in layer.get_weights()])
    return layer


@pytest.mark.parametrize("scale", [1.0, 30.0], ids=["usual inputs", "saturating inputs"])
def test_it_is_the_formula_of_the_paper(scale):
    layer = layer_with_random_weights(return_sequences=True, return_state=True)
    x = scale * np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    states = np.random.normal(size=(2, BATCH, UNITS)).astype("float32")
    got = layer(x, initial_state=list(states))
    expected = peephole_lstm(x.astype("float64"), [w.astype("float64") for w in layer.get_weights()], states)
    for ours, formula in zip(got, expected, strict=True):
        # float32 against float64; the argument of a gate reaches 100, where one unit in the last place is 8e-6
        np.testing.assert_allclose(ops.convert_to_numpy(ours), formula, atol=2e-5)


def test_without_peepholes_it_is_the_lstm_of_keras():
    layer = layer_with_random_weights(return_sequences=True)
    *weights, peephole = layer.get_weights()
    layer.set_weights([*weights, 0 * peephole])
    peer = keras.layers.LSTM(UNITS, return_sequences=True)
    x = np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    peer.build(x.shape)
    peer.set_weights(weights)
    np.testing.assert_allclose(*[ops.convert_to_numpy(one(x)) for one in (layer, peer)], atol=1e-6)


@pytest.mark.parametrize(
    "mask", [None, np.array([[1, 1, 0, 1, 1, 0], [0, 1, 1, 1, 0, 0]], bool)], ids=["plain", "mask"]
)
def test_gradients_equal_finite_differences_of_the_formula(mask):
    # Only on TensorFlow does Keras multiply float64 matrices in float64.
    dtype = "float64" if keras.backend.backend() == "tensorflow" else "float32"
    layer = layer_with_random_weights(dtype, return_sequences=True)
    x = np.random.normal(size=(BATCH, TIME, FEATURES))
    cotangent = np.random.normal(size=(BATCH, TIME, UNITS))
    weights = [w.astype("float64") for w in layer.get_weights()]
    states = np.zeros((2, BATCH, UNITS))

    def loss():
        return (peephole_lstm(x, weights, states, mask)[0] * cotangent).sum()

    numeric = finite_differences(loss, [x, *weights])
    ours = gradients(layer, x.astype(dtype), cotangent.astype(dtype), **({} if mask is None else {"mask": mask}))
    # Central differences with step 1e-6 in float64: rounding 1e-10 times the loss, curvature 1e-12.
    # In float32: sums of ten terms near 1 over six steps.
    rtol, atol = (1e-6, 1e-7) if dtype == "float64" else (1e-4, 1e-5)
    for one, other in zip(ours, numeric, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


def test_the_forget_gate_starts_open_and_the_rest_as_documented():
    cell = PeepholeLSTMCell(UNITS)
    cell.build((BATCH, FEATURES))
    bias = ops.convert_to_numpy(cell.bias)
    np.testing.assert_array_equal(bias.reshape(4, UNITS), np.repeat([[0.0], [1.0], [0.0], [0.0]], UNITS, axis=1))
    recurrent = ops.convert_to_numpy(cell.recurrent_kernel)
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(UNITS), atol=1e-5)
    assert not ops.convert_to_numpy(cell.peephole).any()


@pytest.mark.parametrize("units", [0, -3, 2.5, "8", True, None])
def test_units_must_be_a_positive_whole_number(units):
    with pytest.raises(SettingError, match=r"units is .*whole number"):
        PeepholeLSTM(units)


def test_units_may_be_an_integer_of_numpy():
    assert type(PeepholeLSTM(np.int64(8)).get_config()["units"]) is int
