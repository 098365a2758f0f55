"""SegRNN against its formula and against Keras' GRU."""

import keras
import numpy as np
import pytest

from zoo.errors import SettingError
from zoo.layers import SegRNN


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru_step(x, h, kernel, recurrent_kernel, bias):
    x_z, x_r, x_h = np.split(x @ kernel + bias[0], 3, axis=-1)
    h_z, h_r, h_h = np.split(h @ recurrent_kernel + bias[1], 3, axis=-1)
    z, r = sigmoid(x_z + h_z), sigmoid(x_r + h_r)
    return z * h + (1 - z) * np.tanh(x_h + r * h_h)


def forecast(layer, series):
    """The paper's equations, one sample, channel and segment of the future at a time."""
    names = ("kernel", "recurrent_kernel", "bias")
    cell = [np.array(getattr(layer.recurrent.cell, name), float) for name in names]
    embed, predict = ([np.array(w, float) for w in each.get_weights()] for each in (layer.embed, layer.predict))
    position, channel = np.array(layer.position, float), np.array(layer.channel, float)
    out = np.empty((len(series), layer.horizon, series.shape[2]))
    for sample in range(len(series)):
        for c in range(series.shape[2]):
            h = np.zeros(layer.units)
            for segment in series[sample, :, c].reshape(-1, layer.segment):
                h = gru_step(np.maximum(segment @ embed[0] + embed[1], 0), h, *cell)
            ahead = [gru_step(np.concatenate([p, channel[c]]), h, *cell) @ predict[0] + predict[1] for p in position]
            out[sample, :, c] = np.concatenate(ahead)[: layer.horizon]
    return out


@pytest.fixture
def layer():
    layer = SegRNN(7, units=6, segment=3, dropout=0.4, seed=1)
    layer.build((None, 12, 2))
    for weight in layer.weights:
        if weight.dtype == "float32":  # not the seed of the dropout
            weight.assign(np.random.normal(size=weight.shape) * 0.5)
    return layer


def test_it_is_the_papers_formula(layer):
    series = np.random.normal(size=(3, 12, 2)).astype("float32")
    outputs = keras.ops.convert_to_numpy(layer(series))
    assert outputs.shape == (3, 7, 2)
    np.testing.assert_allclose(outputs, forecast(layer, series), atol=1e-5)  # float32: a dozen sums of values about 1


def test_it_has_the_weights_of_the_paper():
    layer = SegRNN(720, units=512, segment=48)
    layer.build((None, 96, 7))
    gru = 3 * 512 * (512 + 512 + 2)
    assert layer.count_params() == (48 * 512 + 512) + gru + (512 * 48 + 48) + 15 * 256 + 7 * 256


def test_a_gradient_reaches_every_weight(layer):
    series, future = np.random.normal(size=(8, 12, 2)), np.random.normal(size=(8, 7, 2))
    model = keras.Sequential([keras.Input((12, 2)), layer])
    before = model.get_weights()
    model.compile("sgd", "mse")
    model.fit(series, future, verbose=0)
    trained = {weight.path for weight in model.trainable_weights}
    for weight, old, new in zip(model.weights, before, model.get_weights(), strict=True):
        assert weight.path not in trained or not np.array_equal(old, new), weight.path


def test_training_drops_features_by_the_seed():
    def run(seed):
        keras.utils.set_random_seed(0)
        layer = SegRNN(4, units=8, segment=4, dropout=0.5, seed=seed)
        outputs = layer(np.ones((2, 8, 1), "float32"), training=True)
        return keras.ops.convert_to_numpy(outputs), keras.ops.convert_to_numpy(layer(np.ones((2, 8, 1), "float32")))

    (dropped, whole), (again, _), (other, _) = run(3), run(3), run(4)
    np.testing.assert_array_equal(dropped, again)
    assert not np.array_equal(dropped, whole) and not np.array_equal(dropped, other)


def test_it_says_the_same_after_saving(layer, tmp_path):
    model = keras.Sequential([keras.Input((12, 2)), layer])
    model.save(tmp_path / "model.keras")
    series = np.random.normal(size=(3, 12, 2))
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(series, verbose=0), model.predict(series, verbose=0))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"horizon": 0}, "horizon is 0"),
        ({"horizon": 3, "units": 7}, "units is 7; expected an even number"),
        ({"horizon": 3, "segment": -1}, "segment is -1"),
        ({"horizon": 3, "units": 4, "segment": 5}, "the past has 12 steps and a segment 5"),
    ],
)
def test_wrong_arguments_are_explained(arguments, says):
    with pytest.raises(SettingError, match=says):
        SegRNN(**arguments).build((None, 12, 2))
