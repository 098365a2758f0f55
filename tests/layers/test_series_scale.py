"""What brings a series to a network and back: against pandas and NumPy."""

import keras
import numpy as np
import pandas
import pytest

from zoo.layers import ResidualQuantiles, SeriesScale


@pytest.fixture
def gappy():
    """Series of 13 steps with gaps of every kind: at either end, inside, of one step and of nine."""
    series = np.random.normal(size=(40, 13, 2)).astype("float32") * 50 + 300
    series[np.random.uniform(size=series.shape) < np.linspace(0, 0.8, 40)[:, None, None]] = np.nan
    series[0, :9], series[1, 3:12], series[2, 4:] = np.nan, np.nan, np.nan
    series[np.isnan(series).all(axis=1).any(axis=1)] = 1.0
    return series


def test_gaps_take_the_value_before_them_or_else_behind(gappy):
    filled = keras.ops.convert_to_numpy(SeriesScale([1.0, 1.0]).filled(gappy))
    for one, expected in zip(filled, gappy, strict=True):
        np.testing.assert_array_equal(one, pandas.DataFrame(expected).ffill().bfill().to_numpy())


def test_a_channel_of_which_nothing_is_known_is_zeros():
    scaled, level, _ = SeriesScale()(np.full((1, 5, 1), np.nan, "float32"))
    assert not np.any(keras.ops.convert_to_numpy(scaled)) and float(level[0, 0, 0]) == 0


def test_spreads_that_are_given_divide_each_channel(gappy):
    scaled, level, spread = map(keras.ops.convert_to_numpy, SeriesScale([2.0, 5.0])(np.nan_to_num(gappy, nan=3.0)))
    series = np.nan_to_num(gappy, nan=3.0).astype(float)
    np.testing.assert_allclose(scaled, (series - series[:, -1:]) / [2, 5], rtol=1e-5, atol=1e-5)  # float32 of 300
    np.testing.assert_array_equal(spread, np.broadcast_to([2.0, 5.0], level.shape))


def test_without_them_it_is_the_windows_own_deviation(gappy):
    series = np.nan_to_num(gappy, nan=3.0)
    scaled, level, spread = map(keras.ops.convert_to_numpy, SeriesScale()(series))
    np.testing.assert_allclose(spread[3:, 0], series[3:].astype(float).std(axis=1), rtol=1e-4, atol=1e-2)  # as above
    np.testing.assert_allclose(scaled * spread + level, series, rtol=1e-5, atol=1e-3)


def test_a_constant_window_stays_finite():
    for value in (0.0, 7.0, 1e8, -3e-5):
        scaled, _, spread = SeriesScale()(np.full((1, 50, 1), value, "float32"))
        scaled = keras.ops.convert_to_numpy(scaled)
        assert np.abs(scaled).max() < 0.1 and 0 < float(spread[0, 0, 0]) <= 1e-5 * abs(value) + 1e-11, value


def test_quantiles_stand_where_the_offsets_say():
    layer = ResidualQuantiles([0.1, 0.5, 0.8])
    layer.build((None, 4, 2))
    forecast, offset = np.random.normal(size=(3, 4, 2)), np.random.normal(size=(4, 2, 3))
    np.testing.assert_allclose(layer(forecast), np.repeat(forecast[..., None], 3, -1), rtol=1e-6)  # float32
    layer.offset.assign(offset)
    np.testing.assert_allclose(layer(forecast), forecast[..., None] + offset, atol=1e-6)
    assert not layer.trainable_weights


def test_they_say_the_same_after_saving(gappy, tmp_path):
    series = keras.Input((13, 2))
    scaled, level, _ = SeriesScale([2.0, 5.0])(series)
    model = keras.Model(series, [ResidualQuantiles([0.5, 0.9])(scaled), level])
    model.layers[-1].offset.assign(np.random.normal(size=(13, 2, 2)))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for one, other in zip(again.predict(gappy, verbose=0), model.predict(gappy, verbose=0), strict=True):
        np.testing.assert_array_equal(one, other)
