"""Zoneout against its formula, and its chance against its rates."""

import keras
import numpy as np
import pytest
from gradients import finite_differences, gradients
from keras import ops
from numpy_rnn import zoneout_lstm

from zoo.errors import SettingError
from zoo.layers import GRUCell, LSTMCell, Recurrent, Zoneout, ZoneoutGRU, ZoneoutLSTM

BATCH, TIME, FEATURES, UNITS = 2, 6, 3, 4
RATES = {"hidden": 0.3, "cell": 0.6}


def layer_with_random_weights(dtype="float32"):
    layer = ZoneoutLSTM(UNITS, RATES["cell"], RATES["hidden"], return_sequences=True, return_state=True, dtype=dtype)
    layer.build((BATCH, TIME, FEATURES))
    layer.set_weights([np.random.normal(size=w.shape).astype(dtype) for w in layer.get_weights()])
    return layer


def masks():
    """What keeps its state: (states, time, batch, units), in the order hidden, cell."""
    rates = np.array(list(RATES.values())).reshape(2, 1, 1, 1)
    return np.random.uniform(size=(2, TIME, BATCH, UNITS)) < rates


def hold(layer, kept):
    layer.cell.draw_own_noise = lambda steps, batch_size: [ops.convert_to_tensor(mask) for mask in kept]


@pytest.mark.parametrize("training", [False, True])
def test_it_is_the_formula_of_the_paper(training):
    layer, kept = layer_with_random_weights(), masks()
    hold(layer, kept)
    x = np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    states = np.random.normal(size=(2, BATCH, UNITS)).astype("float32")
    keep = kept if training else np.broadcast_to(np.array(list(RATES.values())).reshape(2, 1, 1, 1), kept.shape)
    expected = zoneout_lstm(x.astype("float64"), [w.astype("float64") for w in layer.get_weights()], states, keep)
    for ours, formula in zip(layer(x, initial_state=list(states), training=training), expected, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(ours), formula, atol=5e-6)  # float32 against float64


def test_gradients_equal_finite_differences_of_the_formula_with_the_same_masks():
    # Only on TensorFlow does Keras multiply float64 matrices in float64.
    dtype = "float64" if keras.backend.backend() == "tensorflow" else "float32"
    layer, kept = layer_with_random_weights(dtype), masks()
    layer.return_state = False
    hold(layer, kept)
    x = np.random.normal(size=(BATCH, TIME, FEATURES))
    cotangent = np.random.normal(size=(BATCH, TIME, UNITS))
    weights = [w.astype("float64") for w in layer.get_weights()]

    def loss():
        return (zoneout_lstm(x, weights, np.zeros((2, BATCH, UNITS)), kept)[0] * cotangent).sum()

    numeric = finite_differences(loss, [x, *weights])
    ours = gradients(layer, x.astype(dtype), cotangent.astype(dtype))
    # Central differences with step 1e-6 in float64: rounding 1e-10 times the loss, curvature 1e-12.
    # In float32: sums of ten terms near 1 over six steps.
    rtol, atol = (1e-6, 1e-7) if dtype == "float64" else (1e-4, 1e-5)
    for one, other in zip(ours, numeric, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


def test_each_state_is_kept_as_often_as_its_rate_says():
    cell = Zoneout(LSTMCell(50), RATES, seed=1)
    drawn = [ops.convert_to_numpy(mask) for mask in cell.draw_own_noise(40, 20)]
    assert [mask.shape for mask in drawn] == [(40, 20, 50)] * 2
    for mask, rate in zip(drawn, RATES.values(), strict=True):
        deviation = (rate * (1 - rate) / mask.size) ** 0.5
        assert abs(mask.mean() - rate) < 5 * deviation  # passed by chance once in 2 million seeds; this one is fixed
        steps = mask.mean(axis=(1, 2))
        assert steps.std() < 3 * (rate * (1 - rate) / steps.size) ** 0.5  # steps are drawn apart
        assert (mask[0] != mask[1]).any()


@pytest.mark.parametrize(
    ("make", "peer"),
    [(lambda: ZoneoutLSTM(UNITS, 0, 0), LSTMCell), (lambda: ZoneoutGRU(UNITS, 0.0), GRUCell)],
    ids=["lstm", "gru"],
)
def test_at_a_rate_of_zero_it_is_the_plain_layer(make, peer):
    x = np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    layer, plain = make(), Recurrent(peer(UNITS))
    for one in (layer, plain):
        one.build(x.shape)
    plain.set_weights(layer.get_weights())
    expected = ops.convert_to_numpy(plain(x))
    for training in (False, True):
        np.testing.assert_array_equal(ops.convert_to_numpy(layer(x, training=training)), expected)


def test_at_a_rate_of_one_nothing_ever_changes():
    x = np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    state = np.random.normal(size=(BATCH, UNITS)).astype("float32")
    layer = ZoneoutGRU(UNITS, 1)
    for training in (False, True):
        got = ops.convert_to_numpy(layer(x, initial_state=[state], training=training))
        np.testing.assert_array_equal(got, state)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ZoneoutLSTM(0, 0.1, 0.1), "units is 0"),
        (lambda: ZoneoutGRU(2.5, 0.1), r"units is 2\.5"),
        (lambda: ZoneoutLSTM(3, 1.5, 0.1), r"cell_rate is 1\.5"),
        (lambda: ZoneoutLSTM(3, 0.1, -0.1), r"hidden_rate is -0\.1"),
        (lambda: ZoneoutGRU(3, "0.1"), "rate is '0.1'"),
        (lambda: ZoneoutGRU(3, float("nan")), "rate is nan"),
        (lambda: Zoneout(GRUCell(3), {"hidden": 2}), "rate of hidden is 2"),
        (lambda: Zoneout(GRUCell(3), {"cell": 0.1}), r"rates is .*'cell'.*\['hidden'\]"),
        (lambda: Zoneout(GRUCell(3), 0.1), r"rates is 0\.1"),
        (lambda: Zoneout(keras.layers.GRUCell(3), {}), "cell is a GRUCell; expected a zoo Cell"),
    ],
)
def test_bad_settings_are_refused_by_name(make, message):
    with pytest.raises(SettingError, match=message):
        make()
