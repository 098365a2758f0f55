"""Clocks that are turned from the last step of the past, against the times themselves."""

import numpy as np
import pytest
from keras import ops

from zoo.layers import CalendarCycles
from zoo.recipes.forecasting.device import CLOCKS, DAY, clock


def hands(times):
    angles = 2 * np.pi * clock(times)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)


@pytest.mark.parametrize("step", [3600, 900, DAY])
def test_turned_clocks_show_the_times_before_and_after(step):
    times = np.datetime64("2024-06-14T05:00:00") + np.arange(40) * np.timedelta64(step, "s")
    layer = CalendarCycles(30, 10, [step / turn if 2 * step < turn else 0.0 for turn in CLOCKS])
    found = ops.convert_to_numpy(layer(clock(times[29:30]).astype("float32")))[0]
    used = [place for place in range(6) if layer.turns[place % 3]]
    # float32, and of the year 365.2425 days for the 366 of this one: in 30 days 0.06 of a day, of which 2 pi / 365
    np.testing.assert_allclose(found, hands(times)[:, used], atol=2e-3)
    assert found.shape == layer.compute_output_shape((1, 3))[1:]


def test_the_day_begins_at_midnight_the_week_on_monday_and_the_year_in_january():
    monday = np.array(["2024-01-01T00:00:00", "2024-01-02T12:00:00", "2025-12-31T00:00:00"], "datetime64[s]")
    expected = [[0, 0, 0], [0.5, 1.5 / 7, 1.5 / 366], [0, 2 / 7, 364 / 365]]
    np.testing.assert_allclose(clock(monday), expected, atol=1e-9)  # float64 of days since 1970
