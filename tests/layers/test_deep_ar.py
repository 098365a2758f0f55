"""Paths of several channels at once, against one walk of one channel after the other."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from zoo.errors import SettingError
from zoo.layers import DeepAR

BATCH, PAST, AHEAD, CHANNELS, KNOWN, PATHS = 2, 7, 3, 3, 2, 4


def made(channels=CHANNELS, **more):
    layer = DeepAR(AHEAD, units=6, paths=PATHS, seed=2, **more)
    series = np.random.normal(size=(BATCH, PAST + AHEAD, channels)).astype("float32")
    known = np.random.normal(size=(BATCH, PAST + AHEAD, KNOWN)).astype("float32")
    layer(series[:, :PAST], known)
    for weight in layer.trainable_weights:
        weight.assign(0.5 * np.random.normal(size=weight.shape))
    return layer, series, known


def array(tensor):
    return ops.convert_to_numpy(tensor)


def stepped(layer, series, known, noise):
    """Each channel and path on its own, one step of the cell after the other."""
    paths = np.empty((BATCH, AHEAD, CHANNELS, PATHS), "float32")
    for channel in range(CHANNELS):
        told = np.tile(array(layer.channel)[channel], (BATCH, PAST + AHEAD, 1)).astype("float32")
        told = np.concatenate([known, told], axis=-1)
        past = layer.reader.cell.get_initial_state(BATCH)
        for t in range(PAST - 1):
            read = np.concatenate([series[:, t, channel, None], told[:, t + 1]], axis=1)
            _, past = layer.reader.cell(read, past)
        for path in range(PATHS):
            states = [series[:, PAST - 1, channel, None], *past]
            for t in range(AHEAD):
                drawn = np.full((BATCH, 1), noise[path, t], "float32")
                value, states = layer.walker.cell(np.concatenate([drawn, told[:, PAST + t]], axis=1), states)
                paths[:, t, channel, path] = array(value)[:, 0]
    return paths


def test_every_path_of_every_channel_is_walked_on_its_own():
    layer, series, known = made()
    expected = stepped(layer, series[:, :PAST], known, array(layer.noise))
    np.testing.assert_allclose(array(layer(series[:, :PAST], known)), expected, rtol=1e-4, atol=1e-5)  # float32


def test_shown_the_future_it_tells_each_value_from_those_before():
    """One step ahead at a time: the mean and the spread are those of what it draws behind a longer past."""
    layer, series, known = made()
    mean, spread = (array(each) for each in layer.told(series, known))
    for t in range(AHEAD):
        one = DeepAR(1, units=6, paths=2)
        one(series[:, : PAST + t], known[:, : PAST + t + 1])
        for weight, same in zip(one.trainable_weights, layer.trainable_weights, strict=True):
            weight.assign(same)
        paths = array(one.walk(series[:, : PAST + t], known[:, : PAST + t + 1], np.array([[0.0], [1.0]], "float32")))
        np.testing.assert_allclose(paths[:, 0, :, 0], mean[:, t], rtol=1e-4, atol=1e-5)  # float32
        np.testing.assert_allclose(paths[:, 0, :, 1] - paths[:, 0, :, 0], spread[:, t], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("degrees", "distribution"), [(0, stats.norm), (5, stats.t(5))])
def test_the_draws_of_each_step_are_the_midpoints_of_equal_shares(degrees, distribution):
    layer, *_ = made(degrees=degrees)
    shares = np.sort(distribution.cdf(array(layer.noise)), axis=0)
    np.testing.assert_allclose(shares, np.tile((np.arange(PATHS)[:, None] + 0.5) / PATHS, AHEAD), atol=1e-5)


def test_the_draws_of_two_steps_hardly_correlate():
    """So that sums over steps vary as they should: of a random walk, whose values are such sums."""
    layer = DeepAR(30, units=2, paths=100, seed=0)
    layer.build((None, 5, 1))
    noise = array(layer.noise)
    correlation = np.corrcoef(noise, rowvar=False) - np.eye(30)
    assert np.abs(correlation).max() < 0.1  # by chance one of 435 would be about 0.3
    deviation = noise.cumsum(axis=1).std(axis=0) / np.sqrt(np.arange(1, 31))
    np.testing.assert_allclose(deviation, noise.std(), rtol=0.05)  # by chance 0.07 at one standard deviation


def test_more_steps_than_paths_have_draws_too():
    layer = DeepAR(30, units=2, paths=7)
    layer.build((None, 5, 1))
    np.testing.assert_allclose(np.sort(array(layer.noise), axis=0).std(axis=1), 0, atol=1e-6)


def test_a_path_is_the_same_after_saving(tmp_path):
    inputs = keras.Input((PAST, CHANNELS))
    model = keras.Model(inputs, DeepAR(AHEAD, units=6, paths=PATHS, degrees=4)(inputs))
    model.save(tmp_path / "m.keras")
    past = np.random.normal(size=(BATCH, PAST, CHANNELS)).astype("float32")
    loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    np.testing.assert_allclose(array(loaded(past)), array(model(past)), rtol=1e-6)  # the draws are weights
    assert loaded.layers[1].get_config() == model.layers[1].get_config()


@pytest.mark.parametrize(
    ("name", "value"), [("horizon", 0), ("units", -1), ("paths", 0), ("degrees", 2), ("degrees", 1.5)]
)
def test_arguments_out_of_range_are_refused(name, value):
    with pytest.raises(SettingError, match=f"{name} is {value}"):
        DeepAR(**{"horizon": 3, name: value})
