"""Leaky integrate-and-fire neurons against the membrane equation and a gradient taken by hand."""

import keras
import numpy as np
import pytest
from gradients import gradients
from keras import ops
from numpy_rnn import lif, lif_gradients

from zoo.errors import SettingError
from zoo.layers import LIF, LIFCell

BATCH, TIME, FEATURES, UNITS = 3, 12, 4, 5
SETTINGS = {"time_constant": 0.005, "time_step": 0.001, "threshold": 0.8, "slope": 3.0}
MASK = np.arange(TIME) < np.array([[TIME], [7], [0]])

either = pytest.mark.parametrize("recurrent", [False, True], ids=["feed-forward", "recurrent"])


def layer_with_random_weights(**options):
    layer = LIF(UNITS, **SETTINGS, **options)
    layer.build((BATCH, TIME, FEATURES))
    layer.set_weights([np.random.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def in_float64(layer):
    kernel, bias, *recurrent = [w.astype("float64") for w in layer.get_weights()]
    return kernel, bias, recurrent[0] if recurrent else np.zeros((UNITS, UNITS))


def inputs():
    return np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")


@either
def test_it_is_the_membrane_equation(recurrent):
    layer, x = layer_with_random_weights(recurrent=recurrent, return_sequences=True, return_state=True), inputs()
    start = np.random.normal(size=(2, BATCH, UNITS))
    start[0] = start[0] > 0
    states = [ops.convert_to_tensor(state, "float32") for state in start]
    outputs, spikes, voltage = [ops.convert_to_numpy(y) for y in layer(x, initial_state=states)]
    raised, fired = lif(x.astype("float64"), *in_float64(layer), *start, **SETTINGS)
    assert np.abs(raised - SETTINGS["threshold"]).min() > 1e-5  # or the rounding of float32 could decide on a spike
    assert 0.1 < fired.mean() < 0.9
    np.testing.assert_array_equal(outputs, fired)
    np.testing.assert_array_equal(spikes, fired[:, -1])
    # float32 against float64: sums of ten terms near 1, kept for a few steps
    np.testing.assert_allclose(voltage, np.where(fired[:, -1], 0, raised[:, -1]), atol=1e-5)


@either
@pytest.mark.parametrize("mask", [None, MASK], ids=["plain", "mask"])
def test_gradients_are_those_of_the_surrogate_taken_by_hand(recurrent, mask):
    layer, x = (
        layer_with_random_weights(recurrent=recurrent, return_sequences=True, zero_output_for_mask=True),
        inputs(),
    )
    cotangent = np.random.normal(size=(BATCH, TIME, UNITS)).astype("float32")
    counted = cotangent if mask is None else cotangent * mask[..., None]
    by_hand = lif_gradients(x.astype("float64"), *in_float64(layer), counted, **SETTINGS)
    ours = gradients(layer, x, cotangent, **({} if mask is None else {"mask": mask}))
    for one, other in zip(ours, by_hand[: len(ours)], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)  # float32 sums over batch and time


def test_spikes_are_exactly_zero_or_one_in_training_too():
    layer = layer_with_random_weights(recurrent=True, return_sequences=True)
    assert set(np.unique(ops.convert_to_numpy(layer(inputs(), training=True)))) == {0.0, 1.0}


def test_a_steady_input_makes_a_neuron_fire_at_the_interval_of_its_equation():
    """Solved between two spikes, tau dv/dt = R I - v reaches the threshold after -tau log(1 - threshold / R I)."""
    layer = LIF(1, time_constant=0.02, time_step=1e-4, threshold=1.0, return_sequences=True)
    layer.build((1, None, 1))
    layer.set_weights([np.array([[1e-4 / 0.02 * 1.5]]), np.zeros(1)])  # R I is 1.5 with R = time_constant / time_step
    spikes = np.flatnonzero(ops.convert_to_numpy(layer(np.ones((1, 700, 1), "float32"))))
    interval = -0.02 * np.log(1 - 1 / 1.5)
    # 220 steps: forward Euler errs by half a step in each time constant of 200, and spikes fall on whole steps
    np.testing.assert_allclose(np.diff(spikes) * 1e-4, interval, atol=2e-4)
    assert len(spikes) == 3


def test_a_fresh_layer_fires_for_inputs_of_variance_one():
    spikes = ops.convert_to_numpy(LIF(64, return_sequences=True)(np.random.normal(size=(8, 100, 32))))
    assert 0.01 < spikes.mean() < 0.5


def test_it_learns_which_of_two_inputs_spiked_first():
    """The answer is in the order alone: every example has one spike on each input."""
    times = np.array([(a, b) for a in range(8) for b in range(8) if a != b])
    x = np.zeros((len(times), 8, 2), "float32")
    x[np.arange(len(times))[:, None], times, [0, 1]] = 1
    y = (times[:, 0] < times[:, 1]).astype("float32")
    neurons = {"time_constant": 0.01, "recurrent": True, "return_sequences": True}
    model = keras.Sequential(
        [keras.Input((8, 2)), LIF(32, **neurons), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1)]
    )
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.03), loss, metrics=[keras.metrics.BinaryAccuracy(threshold=0.0)])
    model.fit(x, y, epochs=40, batch_size=len(x), verbose=0)
    assert model.evaluate(x, y, verbose=0)[1] > 0.75  # half without a gradient through the spikes


@pytest.mark.parametrize("name", ["time_constant", "time_step", "threshold", "slope"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "1", True, None])
def test_its_numbers_must_be_finite_and_above_zero(name, value):
    with pytest.raises(SettingError, match=f"{name} is .*finite number above 0"):
        LIFCell(3, **{name: value})


def test_a_step_longer_than_the_time_constant_is_refused():
    with pytest.raises(SettingError, match=r"time_step is 0\.03 s and time_constant 0\.02 s"):
        LIF(3, time_step=0.03)
    LIF(3, time_step=0.02)


@pytest.mark.parametrize("units", [0, 2.5, True, None])
def test_units_must_be_a_positive_whole_number(units):
    with pytest.raises(SettingError, match=r"units is .*whole number"):
        LIF(units)


def test_numbers_may_be_those_of_numpy():
    config = LIF(np.int64(8), threshold=np.float32(0.5)).get_config()
    assert type(config["units"]) is int
    assert type(config["threshold"]) is float
