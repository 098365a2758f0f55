"""Numbers rounded in training as an int8 file has them, and the twins that train with them."""

import keras
import numpy as np
import pytest
from cases import LAYERS
from gradients import gradients
from keras import layers as L

from zoo import export
from zoo.errors import SettingError
from zoo.layers import FakeQuantized, FakeQuantizedCell, GRUCell, LSTMCell, PeepholeLSTM, Recurrent, fake_quantize

X = np.random.default_rng(0).normal(size=(7, 5)).astype("float32")


def rounded(x):
    """Activations on 256 steps between the least and the greatest, zero among them."""
    least, greatest = min(x.min(), 0), max(x.max(), 0)
    scale = np.float32(greatest - least) / 255
    zero = np.round(-128 - least / scale)
    return scale * (np.clip(np.round(x / scale) + zero, -128, 127) - zero)


def rounded_kernel(w):
    scale = np.abs(w).max(axis=0, keepdims=True) / 127
    return scale * np.round(w / scale)


def test_activations_are_on_the_steps_of_their_range_and_zero_stays_zero():
    x = np.concatenate([X.ravel(), [0.0]]).astype("float32")
    y = keras.ops.convert_to_numpy(fake_quantize(keras.ops.convert_to_tensor(x)))
    np.testing.assert_allclose(y, rounded(x), atol=1e-6)
    assert y[-1] == 0 and len(np.unique(y)) < len(x) and np.abs(y - x).max() <= np.ptp(x) / 255 / 2 + 1e-6


def test_a_kernel_has_a_scale_for_each_output():
    w = X * np.array([1e-3, 1, 10, 0, 100], "float32")  # a column of zeros too
    y = keras.ops.convert_to_numpy(fake_quantize(keras.ops.convert_to_tensor(w), channels=(-1,)))
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(y, np.nan_to_num(rounded_kernel(w)), rtol=1e-5, atol=1e-7)


def test_the_gradient_passes_as_if_nothing_had_happened():
    layer = FakeQuantized(L.Dense(3, use_bias=False))
    layer.build(X.shape)
    _, d_kernel = gradients(layer, X, np.ones((7, 3), "float32"))
    np.testing.assert_allclose(d_kernel, np.repeat(X.sum(axis=0)[:, None], 3, axis=1), rtol=1e-4)


def test_a_cell_is_the_formula_on_rounded_numbers():
    cell = FakeQuantizedCell(LSTMCell(4))
    cell.build((None, 5))
    cell.cell.bias.assign(np.linspace(-1, 1, 16))
    kernel, recurrent, bias = cell.get_weights()
    h, c = states = np.random.default_rng(1).normal(size=(2, 7, 4)).astype("float32")
    gates = rounded(rounded(X) @ rounded_kernel(kernel) + bias) + rounded(rounded(h) @ rounded_kernel(recurrent))
    i, f, g, o = np.split(gates, 4, axis=-1)

    def sigmoid(a):
        return np.round(256 / (1 + np.exp(-a))).clip(0, 255) / 256

    def tanh(a):
        return np.round(128 * np.tanh(a)).clip(-128, 127) / 128

    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    output, _ = cell(X, list(states))
    expected = sigmoid(o) * tanh(c)
    # half a step of the gate inputs, where a sum in another order rounds to the neighbour
    np.testing.assert_allclose(keras.ops.convert_to_numpy(output), expected, atol=np.ptp(gates) / 255)
    assert np.median(np.abs(keras.ops.convert_to_numpy(output) - expected)) < 1e-5


def test_what_goes_into_an_activation_is_rounded_too():
    plain = L.Dense(3, activation="softmax")
    layer = FakeQuantized(plain)
    y = keras.ops.convert_to_numpy(layer(X))
    kernel, bias = plain.get_weights()
    logits = rounded(X @ rounded_kernel(kernel) + bias)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(y, rounded(softmax), atol=1e-6)
    assert plain.activation is keras.activations.softmax


@pytest.mark.parametrize("case", [case for case in LAYERS if not case.spikes], ids=str)
def test_every_cell_rounded_stays_near_itself(case):
    layer = case.make(return_sequences=True)
    x = np.random.default_rng(0).normal(size=(3, 9, 4)).astype("float32")
    plain = keras.ops.convert_to_numpy(layer(x))
    twin = Recurrent(FakeQuantizedCell(layer.cell), return_sequences=True)
    quantized = keras.ops.convert_to_numpy(twin(x))
    difference = np.abs(quantized - plain).max()
    assert 0 < difference < 0.1 * np.ptp(plain) + 0.02


def model_of_all_sorts():
    inputs = keras.Input((12, 6))
    x = L.BatchNormalization()(L.Conv1D(8, 3, padding="causal")(inputs))
    x = L.Bidirectional(L.GRU(7, return_sequences=True))(x)
    x = PeepholeLSTM(5, projection=3, return_sequences=True)(L.LSTM(6, return_sequences=True)(x))
    return keras.Model(inputs, L.Dense(2)(Recurrent(GRUCell(4))(x)))


def test_a_twin_trains_the_weights_of_the_model_itself():
    keras.utils.set_random_seed(0)
    model = model_of_all_sorts()
    twin = export.quantize_aware(model)
    x = np.random.default_rng(0).normal(size=(64, 12, 6)).astype("float32")
    assert 0 < np.abs(model.predict(x, verbose=0) - twin.predict(x, verbose=0)).max() < 0.05
    before = model.get_weights()
    twin.compile("adam", "mse")
    losses = twin.fit(x, x[:, :, :2].mean(axis=1), epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert len(twin.weights) == len(model.weights)
    trained = [not np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True)]
    assert all(trained)
    np.testing.assert_allclose(model.predict(x, verbose=0), twin.predict(x, verbose=0), atol=0.05)


def test_what_is_to_stay_float_is_not_rounded():
    model = keras.Sequential([keras.Input((4, 3)), L.SimpleRNN(5, name="plain"), L.Dense(2, name="out")])
    with pytest.raises(SettingError, match="plain is a SimpleRNN that has no twin in int8"):
        export.quantize_aware(model)
    twin = export.quantize_aware(model, keep_float=["plain", "out"])
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    np.testing.assert_array_equal(model.predict(x, verbose=0), twin.predict(x, verbose=0))
    with pytest.raises(SettingError, match="'nobody', which is no layer"):
        export.quantize_aware(model, keep_float=["nobody"])


def test_only_layers_with_a_kernel_can_be_wrapped():
    with pytest.raises(SettingError, match="layer is a Dropout; expected one of Dense"):
        FakeQuantized(L.Dropout(0.1))
