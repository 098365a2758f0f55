"""What is said of a split: back-tests, odd values, pictures. The forecaster here says what it should."""

import numpy as np
import pytest

from zoo.errors import SettingError
from zoo.recipes import Forecasting
from zoo.recipes.forecasting.scores import LEVELS
from zoo.recipes.forecasting.views import anomalies, backtest, plot

SIZES = {"look_back": 12, "horizon": 4}


class LastValue:
    """Forecasts the last value, with quantiles one, two and three to either side."""

    def predict(self, past, **_):
        around = np.arange(-3.0, 4)
        return np.repeat(past[:, -1:], SIZES["horizon"], axis=1)[..., None] + around


@pytest.fixture
def recipe(tmp_path):
    """Two series of two channels, one odd value in the test split of one."""
    rows = []
    for name in ("up", "down"):
        for day in range(100):
            value = 50 if (name, day) == ("down", 93) else day % 2
            rows.append(f"{name},{np.datetime64('2024-01-01') + day},{value},{'' if day == 90 else 7 - day % 2}")
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["series,date,flow,level", *rows]))
    return Forecasting(data=path, **SIZES)


def test_origins_are_a_horizon_apart_and_see_the_past_alone(recipe):
    found = backtest(recipe, LastValue())
    assert [origin.series for origin in found] == ["up"] * 5 + ["down"] * 5
    for place, origin in enumerate(found):
        now = 80 + 4 * (place % 5)
        day = np.datetime64("2024-01-01T00:00:00") + np.arange(now - 12, now + 4) * np.timedelta64(1, "D")
        np.testing.assert_array_equal(np.concatenate([origin.past_times, origin.times]), day)
        np.testing.assert_array_equal(origin.forecast[..., 3], np.repeat(origin.past[-1:], 4, axis=0))
    np.testing.assert_array_equal(found[0].actual[:, 0], [0, 1, 0, 1])


def test_the_stride_is_the_distance_of_origins(recipe):
    found = backtest(recipe, LastValue(), split="validation", stride=2)
    assert [str(origin.times[0])[:10] for origin in found[:4]] == [
        "2024-03-11",
        "2024-03-13",
        "2024-03-15",
        "2024-03-17",
    ]
    with pytest.raises(SettingError, match="stride is -1"):
        backtest(recipe, LastValue(), stride=-1)


def test_each_origin_has_its_own_scores_and_together_they_are_those_of_the_split(recipe):
    found = backtest(recipe, LastValue(), stride=1)
    errors = [np.abs(origin.actual - origin.past[-1]) / recipe.load().spread() for origin in found]
    for origin, error in zip(found, errors, strict=True):
        assert origin.scores["mae"] == pytest.approx(np.nanmean(error)) and origin.scores["windows"] == 1
    whole = recipe.evaluate(LastValue())
    assert whole["mae"] == pytest.approx(np.nanmean(errors)) and whole["windows"] == len(found)


def test_the_odd_value_is_found_and_no_other(recipe):
    odd, *others = anomalies(recipe, LastValue())
    assert (odd.series, odd.channel, odd.value) == ("down", "flow", 50.0)
    assert str(odd.time) == "2024-04-03T00:00:00" and (odd.low, odd.high) == (-2.0, 4.0)
    assert not others  # day 93 is not the last of a past: origins are at 80, 84, ...


def test_a_picture_shows_the_series_the_forecast_and_its_intervals(recipe, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *given, **more: (drawn.append(self), save(self, *given, **more))
    )
    origin = backtest(recipe, LastValue())[0]
    path = plot(origin, recipe.labels, tmp_path / "forecast.png")
    assert path.read_bytes().startswith(b"\x89PNG") and {each.name for each in tmp_path.iterdir()} == {
        "a.csv",
        path.name,
    }
    (figure,) = drawn
    assert [axes.get_title() for axes in figure.axes] == ["up flow", "up level"]
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    np.testing.assert_array_equal(lines["forecast"], origin.forecast[:, 0, LEVELS.index(0.5)])
    np.testing.assert_array_equal(lines["series"], np.concatenate([origin.past, origin.actual])[:, 0])
    assert [area.get_label() for area in figure.axes[0].collections] == ["90%", "50%"]
