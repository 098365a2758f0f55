"""Series of numbers over time, ready to train on: the demo set, the layouts of public sets, and a user's own tables."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zoo.data import series_tables as tables
from zoo.data.series_m4 import m4_twin, read_m4
from zoo.data.series_static import read_static
from zoo.errors import DataError, SettingError

SPLITS = ("train", "validation", "test")
DEMO = Path(__file__).parent / "demo" / "sea_surface.csv"
_SHARES = (0.7, 0.8)  # of a table's steps, where validation and test begin
_ETT = {"ETTh1": 24, "ETTh2": 24, "ETTm1": 96, "ETTm2": 96}  # steps of a day; 30 days are a month of its split


@dataclass(frozen=True)
class Panel:
    """Channels over one axis of time, on an even grid."""

    name: str  # "" for a table's only one
    times: np.ndarray | None  # (steps,), datetime64[s] or numbers; None where the layout tells no times
    values: np.ndarray  # float64 (steps, channels), NaN where a value is missing
    validation: int  # the first step of the split
    test: int
    static: tuple[float, ...] = ()  # of each static column its number, or the place of its word

    def span(self, split):
        """Return (first, end): the steps that a split forecasts."""
        steps = (0, self.validation, self.test, len(self.values))
        return steps[SPLITS.index(split)], steps[SPLITS.index(split) + 1]


@dataclass(frozen=True)
class Series:
    """Panels of the same channels: one of a wide table, one for each series of a long one."""

    panels: tuple[Panel, ...]
    channels: tuple[str, ...]
    season: int  # steps after which things repeat, 1 if nothing tells
    skipped: tuple[tuple[str, str], ...]  # (row or column, reason)
    static: tuple[tuple[str, tuple[str, ...]], ...] = ()  # (column, its words; none where it holds numbers)

    def windows(self, split, look_back, horizon):
        """Return every window whose future lies in a split: int (windows, 2) of (panel, first step of the past).

        The past of the first ones lies in the split before. A window is left out where a channel's whole past, or
        everything in its future, is missing: there is nothing to forecast from, or to compare with.

        Args:
            split: 'train', 'validation' or 'test'.
            look_back: steps of the past.
            horizon: steps of the future.

        Raises:
            SettingError: there is no split of that name.
        """
        if split not in SPLITS:
            raise SettingError(f"split is {split!r}, expected one of {', '.join(SPLITS)}.")
        found = []
        for number, panel in enumerate(self.panels):
            first, end = panel.span(split)
            starts = np.arange(max(0, first - look_back), end - look_back - horizon + 1)
            known = np.cumsum(np.isfinite(panel.values), axis=0, dtype=int)
            known = np.concatenate([np.zeros_like(known[:1]), known])
            past = known[starts + look_back] - known[starts]
            future = known[starts + look_back + horizon] - known[starts + look_back]
            starts = starts[(past > 0).all(axis=1) & (future > 0).any(axis=1)]
            found.append(np.stack([np.full_like(starts, number), starts], axis=1))
        return np.concatenate(found)

    def cut(self, windows, look_back, horizon):
        """Return (past, future) of windows: float32 (windows, look_back or horizon, channels)."""
        pieces = np.empty((len(windows), look_back + horizon, len(self.channels)), np.float32)
        for piece, (number, start) in zip(pieces, windows, strict=True):
            piece[:] = self.panels[number].values[start : start + look_back + horizon]
        return pieces[:, :look_back], pieces[:, look_back:]

    def spread(self):
        """Return the standard deviation of each channel in the train split, over all panels, float64 (channels,)."""
        return np.nanstd(np.concatenate([panel.values[: panel.validation] for panel in self.panels]), axis=0)

    def mean(self):
        """Return the mean of each channel in the train split, over all panels, float64 (channels,)."""
        return np.nanmean(np.concatenate([panel.values[: panel.validation] for panel in self.panels]), axis=0)

    def naive_errors(self):
        """Return the mean absolute error of last season's value before the test split, float64 (panels, channels).

        What MASE divides by. Where those steps are no longer than a season, or repeat themselves, the last value's.
        """
        errors = np.empty((len(self.panels), len(self.channels)))
        for row, panel in zip(errors, self.panels, strict=True):
            for channel, values in enumerate(panel.values[: panel.test].T):
                for lag in (self.season, 1):
                    steps = np.abs(values[lag:] - values[:-lag])
                    row[channel] = np.nanmean(steps) if np.isfinite(steps).any() else 0.0
                    if row[channel] > 0:
                        break
        return errors


def load_series(
    data,
    *,
    look_back,
    horizon,
    time_column="",
    value_columns="",
    series_column="",
    static_columns="",
    season=0,
    skip_bad=False,
):
    """Load series and split them by time.

    A path is recognised by what it holds. ETT: a file named ETTh1, ETTh2, ETTm1 or ETTm2, split at 12, 16 and 20 months
    of 30 days. M4: `Weekly-train.csv` beside `Weekly-test.csv` (or Hourly, ...), a series in each row; the test file is
    the test split, as many last steps of the train file validation. Any other CSV file has a column of times and
    columns of numbers, each a channel; with a column that names the series, its rows are those of many series, one
    below the other. Of each, the first 70% train, the next 10% validate, the rest tests. Missing values may be empty or
    NA; rows that are missing from an even grid of times are missing values too.

    Args:
        data: 'demo' (sea surface temperature by month, built in), or the path of a CSV file, gzipped or not.
        look_back: int, steps that a forecast is made from.
        horizon: int, steps of a forecast.
        time_column: str, which column holds the time ("": recognised by its name).
        value_columns: str, names of the channels with commas between ("": all that hold numbers).
        series_column: str, which column names the series ("": recognised by its name, or none).
        static_columns: str, names with commas between of the columns that say something of each series as a whole, in
            numbers or in words ("": none).
        season: int, steps after which things repeat (0: recognised by the times).
        skip_bad: bool, leave out rows, columns and series that cannot be used and list them in `skipped` (default: the
            first is an error).

    Returns:
        Series.

    Raises:
        DataError: the file cannot be used; the message names it, the row, the column, and says what to do.

    Example:
        >>> series = load_series("demo", look_back=48, horizon=12)
        >>> past, future = series.cut(series.windows("train", 48, 12), 48, 12)
        >>> past.shape[1:], future.shape[1:], series.season
        ((48, 1), (12, 1), 12)
    """
    path = DEMO if data == "demo" else Path(data).expanduser()
    asked, static = (
        tuple(name.strip() for name in names.split(",") if name.strip()) for names in (value_columns, static_columns)
    )
    skipped = _Skipped(path, skip_bad)
    if m4_twin(path):
        if static:
            raise DataError(f"{path}: M4's files say nothing of their series: leave static_columns empty.")
        rows, found_season = read_m4(path)
        panels = [
            Panel(name, None, values, len(values) - 2 * ahead, len(values) - ahead) for name, values, ahead in rows
        ]
        found = panels, ("value",), found_season, ()
    else:
        found = _read_table(tables.read_table(path), time_column, asked, series_column, static, skipped)
    return _checked(*found, season, look_back, horizon, skipped)


class _Skipped(list):
    """What was left out; raises at the first where nothing may be."""

    def __init__(self, path, allowed):
        self.path, self.allowed = path, allowed

    def add(self, place, reason, advice="correct it"):
        if not self.allowed:
            raise DataError(f"{self.path}, {place}: {reason}; {advice}, or set skip_bad=True to leave such out.")
        self.append((place, reason))


def _read_table(table, time_column, asked, series_column, static, skipped):
    """Return (panels, channels, season, static columns) of a table, wide or long."""
    time = tables.find_time(table, time_column)
    if not series_column:
        series_column = next((name for name in table.columns if name.lower() in tables.SERIES_NAMES), "")
    others = [name for name in table.columns if name not in (*time, series_column, *static)]
    channels = asked or tuple(name for name in others if tables.holds_numbers(table.column(name)))
    for name in channels:
        if not tables.holds_numbers(table.column(name)):
            raise DataError(f"{table.path}: column {name!r} holds no numbers, expected numbers: choose another.")
    if not channels:
        raise DataError(f"{table.path}: no column holds numbers beside the time, received {', '.join(table.columns)}.")
    if not asked:
        skipped.extend((f"column {name!r}", "holds no numbers") for name in others if name not in channels)
    if not series_column:
        if static:
            raise DataError(
                f"{table.path}: static_columns tell series apart, and no column names the series: give its name as "
                "series_column."
            )
        panel, season = _read_panel(table, "", np.arange(len(table.cells)), time, channels, (), skipped)
        return [panel], channels, season, ()
    of_row = table.column(series_column)
    rows_of = {name: np.flatnonzero(of_row == name) for name in dict.fromkeys(of_row)}
    static, told = read_static(table, rows_of, static, skipped)
    read = [_read_panel(table, name, rows_of[name], time, channels, said, skipped) for name, said in told.items()]
    return [panel for panel, _ in read], channels, max(season for _, season in read), static


def _read_panel(table, name, rows, time, channels, static, skipped):
    """Return (panel, season) of some rows of a table, its values put on an even grid of times."""
    part = table.rows(rows)
    values, bad_cells = tables.read_values(part, channels)
    times, kept = tables.read_times(part, time), np.ones(len(rows), bool)
    for row, column in bad_cells:
        if kept[row]:
            cell = part.column(column)[row]
            skipped.add(f"row {rows[row] + 2}", f"column {column!r} has {cell[:40]!r}, expected a number or nothing")
        kept[row] = False
    times_kept = np.flatnonzero(kept)
    for row, reason in tables.misplaced(times[kept]):
        row = times_kept[row]
        cell = " ".join(part.column(column)[row] for column in time)
        skipped.add(f"row {rows[row] + 2}", f"column {time[0]!r}: {cell[:40]!r} {reason}")
        kept[row] = False
    where = f"{table.path}, series {name!r}" if name else table.path
    if not kept.any():
        raise DataError(f"{where}: no row can be used, expected times and numbers: check the file.")
    times = times[kept]
    places, season = tables.on_grid(times, where)
    grid = np.full((places[-1] + 1, len(channels)), np.nan)
    grid[places] = values[kept]
    validation, test, end = _split(Path(table.path), len(grid))
    return Panel(name, _fill_times(times, places)[:end], grid[:end], validation, test, static), season


def _fill_times(times, places):
    """The times of the whole grid: those that have no row lie evenly between their neighbours."""
    every = np.interp(np.arange(places[-1] + 1), places, times.astype(float))
    every = np.round(every) if times.dtype.kind == "M" else every
    return every.astype(times.dtype)


def _split(path, steps):
    """Return the first step of validation, the first of test, and the end."""
    month = 30 * _ETT.get(path.name.split(".")[0], 0)
    if month and steps >= 20 * month:
        return 12 * month, 16 * month, 20 * month  # what comes after is not part of the published split
    return *(int(share * steps) for share in _SHARES), steps


def _checked(panels, channels, found_season, static, season, look_back, horizon, skipped):
    """Return the Series of what is long enough and not constant."""
    needed = {"train": look_back + horizon, "validation": horizon, "test": horizon}
    kept = []
    for panel in panels:
        sizes = [(split, panel.span(split)[1] - panel.span(split)[0]) for split in SPLITS]
        short = [(split, steps) for split, steps in sizes if steps < needed[split]]
        reason = short and (
            f"has {len(panel.values)} steps, of them {short[0][1]} in the {short[0][0]} split, expected at least "
            f"{needed[short[0][0]]} there for look_back={look_back} and horizon={horizon}"
        )
        if short and len(panels) == 1:
            raise DataError(f"{skipped.path}: {reason}: shorten them, or give a longer series.")
        if short:
            skipped.add(f"series {panel.name!r}", reason, "shorten them")
        else:
            kept.append(panel)
    if not kept:
        raise DataError(f"{skipped.path}: no series is long enough for look_back={look_back} and horizon={horizon}.")
    flat = [_flat(kept, channel) for channel in range(len(channels))]
    for name, reason in zip(channels, flat, strict=True):
        if reason:
            skipped.add(f"column {name!r}", reason)
    used = [channel for channel, reason in enumerate(flat) if not reason]
    if not used:
        raise DataError(f"{skipped.path}: no column can be used: each is constant or empty in the train split.")
    kept = [replace(panel, values=panel.values[:, used]) for panel in kept]
    names = tuple(channels[channel] for channel in used)
    series = Series(tuple(kept), names, season or found_season, tuple(skipped), static)
    for split in SPLITS:
        if not len(series.windows(split, look_back, horizon)):
            raise DataError(
                f"{skipped.path}: every window of the {split} split is missing, expected some values there."
            )
    return series


def _flat(panels, channel):
    """Why a channel has nothing to learn from, or None."""
    values = np.concatenate([panel.values[: panel.validation, channel] for panel in panels])
    values = values[np.isfinite(values)]
    if not len(values):
        return "has no value in the train split, expected some"
    if (values == values[0]).all():
        return f"is {values[0]:g} in all of the train split, expected values that change"
    return None
