"""MinGRU and MinLSTM against their formulas, and their scan against the loop."""

import keras
import numpy as np
import pytest
from gradients import gradients
from keras import ops
from numpy_rnn import sigmoid

from zoo.errors import SettingError
from zoo.layers import MinGRU, MinGRUCell, MinLSTM, MinLSTMCell

BATCH, TIME, FEATURES, UNITS = 3, 7, 4, 5
MASK = np.array([[1, 1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0, 0]], bool)

both = pytest.mark.parametrize("layer", [MinGRU, MinLSTM])


def min_gru(x, h, kernel, bias):
    z, candidate = np.split(x @ kernel + bias, 2, axis=-1)
    z = sigmoid(z)
    return (1 - z) * h + z * candidate


def min_lstm(x, h, kernel, bias):
    f, i, candidate = np.split(x @ kernel + bias, 3, axis=-1)
    f, i = sigmoid(f), sigmoid(i)
    return (f * h + i * candidate) / (f + i)


def with_random_weights(layer):
    layer.build((BATCH, TIME, FEATURES))
    layer.set_weights([np.random.normal(size=w.shape) for w in layer.get_weights()])
    return layer


@pytest.mark.parametrize(("layer", "formula"), [(MinGRU, min_gru), (MinLSTM, min_lstm)])
@pytest.mark.parametrize("time", [1, 2, 7, 33])
def test_it_is_the_formula_of_the_paper(layer, formula, time):
    layer = with_random_weights(layer(UNITS, return_sequences=True))
    x = 3 * np.random.normal(size=(BATCH, time, FEATURES)).astype("float32")
    start = np.random.normal(size=(BATCH, UNITS)).astype("float32")
    got = ops.convert_to_numpy(layer(x, initial_state=[start]))
    weights, hidden = [w.astype("float64") for w in layer.get_weights()], start.astype("float64")
    for t in range(time):
        hidden = formula(x[:, t].astype("float64"), hidden, *weights)
        np.testing.assert_allclose(got[:, t], hidden, rtol=1e-5, atol=1e-5)  # float32 of values near 10


@both
@pytest.mark.parametrize("mask", [None, MASK], ids=["unmasked", "masked"])
@pytest.mark.parametrize(
    "options", [{}, {"go_backwards": True}, {"zero_output_for_mask": True}, {"return_sequences": False}], ids=str
)
def test_the_scan_equals_the_loop_in_values_and_gradients(layer, mask, options):
    options = {"return_sequences": True, **options}
    scan = with_random_weights(layer(UNITS, **options))
    loop = layer(UNITS, unroll=True, **options)
    loop.build((BATCH, TIME, FEATURES))
    loop.set_weights(scan.get_weights())
    x = np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    call = {"initial_state": [ops.ones((BATCH, UNITS))]} | ({} if mask is None else {"mask": mask})
    outputs = [ops.convert_to_numpy(each(x, **call)) for each in (scan, loop)]
    np.testing.assert_allclose(*outputs, rtol=1e-5, atol=2e-6)  # float32, sums in another order
    cotangent = np.random.normal(size=outputs[0].shape).astype("float32")
    for one, other in zip(*[gradients(each, x, cotangent, **call) for each in (scan, loop)], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@both
def test_long_sequences_and_saturated_gates_stay_finite(layer):
    layer = with_random_weights(layer(UNITS, return_sequences=True))
    x = 300 * np.random.normal(size=(1, 2000, FEATURES)).astype("float32")
    got = ops.convert_to_numpy(layer(x))
    kernel, bias = layer.get_weights()
    candidates = (x @ kernel + bias)[..., -UNITS:]
    assert np.isfinite(got).all()
    assert np.abs(got).max() <= 1.001 * np.abs(candidates).max()  # a mean of candidates is no larger than they


def test_two_shut_gates_of_min_lstm_share_as_their_odds_say():
    cell = MinLSTMCell(1)
    cell.build((1, 1))
    cell.set_weights([np.zeros((1, 3)), np.array([-200.0, -200.0, 4.0])])
    output, _ = cell(np.zeros((1, 1), "float32"), [np.full((1, 1), 2.0, "float32")])
    assert ops.convert_to_numpy(output).item() == pytest.approx(3.0)  # both shut alike: the mean of state and candidate


def test_biases_start_so_that_the_state_stays():
    gru, lstm = MinGRUCell(2), MinLSTMCell(2)
    for cell in (gru, lstm):
        cell.build((None, FEATURES))
    np.testing.assert_array_equal(ops.convert_to_numpy(gru.bias), [-1, -1, 0, 0])
    np.testing.assert_array_equal(ops.convert_to_numpy(lstm.bias), [1, 1, 0, 0, 0, 0])


@both
def test_an_open_number_of_steps_gives_the_same(layer):
    known = with_random_weights(layer(UNITS, return_sequences=True))
    inputs = keras.Input((None, FEATURES))
    model = keras.Model(inputs, known(inputs))
    x = np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    np.testing.assert_allclose(model.predict(x, verbose=0), ops.convert_to_numpy(known(x)), rtol=1e-5, atol=2e-6)


@both
@pytest.mark.parametrize("units", [0, -3, 2.5, "8", True, None])
def test_units_must_be_a_positive_whole_number(layer, units):
    with pytest.raises(SettingError, match=r"units is .*whole number"):
        layer(units)
