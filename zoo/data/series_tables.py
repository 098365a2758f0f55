"""Tables of series, as files hold them: CSV to text cells, text to times and numbers, times to an even grid."""

import gzip
import re
import zlib
from dataclasses import dataclass

import numpy as np

from zoo.errors import DataError

TIME_NAMES = ("date", "time", "timestamp", "datetime", "ds", "month", "week", "day", "year")
SERIES_NAMES = ("unique_id", "series_id", "item_id", "series")
_PARTS = ("year", "month", "day", "hour")  # columns that make a time together
_MISSING = ("", "na", "n/a", "nan", "null", "none", "?")
_SPARSE = 10  # a grid of more steps than this for each row is a mistake in a time
_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class Table:
    """The cells of a file as text; the row `i` of them is the line `i + 2` of a file without line breaks in cells."""

    path: str
    columns: tuple[str, ...]
    cells: np.ndarray  # object (rows, columns) of str

    def column(self, name):
        """Return the cells of one column.

        Raises:
            DataError: there is no such column.
        """
        if name not in self.columns:
            raise DataError(f"{self.path}: there is no column {name!r}, expected one of {', '.join(self.columns)}.")
        return self.cells[:, self.columns.index(name)]

    def rows(self, kept):
        return Table(self.path, self.columns, self.cells[kept])


def read_table(path):
    """Read a CSV file, gzipped if its name ends so, with commas, semicolons or tabs between the cells.

    Args:
        path: Path of the file, UTF-8, whose first row names the columns.

    Raises:
        DataError: the file is missing, damaged, not text, empty, or names a column twice or not at all.
    """
    import pandas

    if not path.is_file():
        raise DataError(f"{path}: there is no such file, expected a CSV file (.csv or .csv.gz): check the path.")
    options = {"header": None, "dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig") as file:
            header = file.readline()
        frame = pandas.read_csv(path, sep=max(",;\t", key=header.count), **options).fillna("")
    except (UnicodeDecodeError, pandas.errors.ParserError, pandas.errors.EmptyDataError) as error:
        raise DataError(f"{path}: is no CSV file in UTF-8 ({_line(error)}): save it as one.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({_line(error)}), expected a whole file: copy it again.") from error
    columns = tuple(name.strip() for name in frame.iloc[0])
    for name in columns:
        if not name or columns.count(name) > 1:
            problem = f"names the column {name!r} twice" if name else f"has no name for column {columns.index('') + 1}"
            raise DataError(f"{path}, row 1: {problem}, expected a name of its own for each: change the header.")
    if len(frame) < 2:
        raise DataError(f"{path}: has no row below its header {', '.join(columns)[:80]}: add the data.")
    return Table(str(path), columns, np.char.strip(frame.to_numpy(str)[1:]).astype(object))


def find_time(table, name=""):
    """Return the names of the columns that hold the time: one, or year, month, day and hour.

    Args:
        table: `Table`.
        name: the column that a user named, or "" to recognise it.

    Raises:
        DataError: no column is a time.
    """
    if name:
        table.column(name)
        return (name,)
    lower = {column.lower(): column for column in reversed(table.columns)}
    parts = tuple(lower[part] for part in _PARTS if part in lower)
    if len(parts) > 1 and not {"date", "time", "timestamp", "datetime", "ds"} & set(lower):
        return parts
    for known in TIME_NAMES:
        if known in lower:
            return (lower[known],)
    raise DataError(
        f"{table.path}: no column is named as a time ({', '.join(TIME_NAMES)}), received {', '.join(table.columns)}: "
        "give its name as time_column."
    )


def read_times(table, columns):
    """Return the time of every row: datetime64[s], or float64 where all are plain numbers (years, step numbers).

    NaT or NaN stands where a cell is no time.
    """
    cells = table.column(columns[0])
    if len(columns) > 1:
        shape = dict(zip(_PARTS, ("{:0>4}", "-{:0>2}", "-{:0>2}", "T{:0>2}"), strict=True))
        parts = [[shape[name.lower()].format(cell) for cell in table.column(name)] for name in columns]
        cells = ["".join(row) for row in zip(*parts, strict=True)]
    numbers = _numbers(cells)
    if np.isfinite(numbers).sum() * 2 > len(numbers) and not all(re.fullmatch(r"\d{8}", cell) for cell in cells):
        return numbers
    import pandas

    dates = pandas.to_datetime(pandas.Series(list(cells)), format="ISO8601", errors="coerce", utc=True)
    return dates.dt.tz_localize(None).to_numpy().astype("datetime64[s]")


def misplaced(times):
    """Yield (row, reason) of every row whose time cannot be used: unreadable, or not later than the row's before."""
    latest = None
    for row, time in enumerate(times):
        if np.isnat(time) if times.dtype.kind == "M" else np.isnan(time):
            yield row, "is no time, expected 2024-12-31, 2024-12-31 23:00:00 (ISO 8601) or a number"
        elif latest is not None and time == latest:
            yield row, "is the time of an earlier row, expected each time once"
        elif latest is not None and time < latest:
            yield row, f"is before {latest}, the time of an earlier row, expected rows from first to last"
        else:
            latest = time


def on_grid(times, where):
    """Return (place of each row on an even grid that starts at the first, steps of a season).

    The step is the most frequent difference, in months where all days of the month agree. A season is a day of hours
    or minutes, a week of days, a year of weeks, months or quarters, else 1.

    Args:
        times: of the rows, growing.
        where: str, the file and series, for messages.

    Raises:
        DataError: a time lies between two steps, or most steps have no row.
    """
    ticks, season_of = _ticks(times)
    if len(times) < 2:
        return np.zeros(len(times), int), 1
    differences, counts = np.unique(np.diff(ticks), return_counts=True)
    step = differences[counts.argmax()]
    places = (ticks - ticks[0]) / step
    off = np.flatnonzero(np.abs(places - np.round(places)) > 1e-6)
    if len(off):
        raise DataError(
            f"{where}: the time {times[off[0]]} is no whole number of steps after {times[0]}, where one step is the "
            f"most frequent, from {_example(times, ticks, step)}: correct it, or bring the series to even steps."
        )
    places = np.round(places).astype(int)
    if places[-1] >= _SPARSE * len(places):
        raise DataError(
            f"{where}: its {len(places)} rows spread over {places[-1] + 1} steps of time, expected most steps to have "
            "a row: look for a mistyped time."
        )
    return places, season_of(step)


def _ticks(times):
    """Numbers that are even where the times are, and the function from a step of them to its season."""
    if times.dtype.kind != "M":
        return times, lambda step: 1
    for shifted in (times, times + _DAY):  # the same day of every month, or each month's last
        months = shifted.astype("datetime64[M]")
        if len(set(shifted - months)) == 1 and len(times) > 1 and np.diff(months).min() > np.timedelta64(0, "M"):
            return months.astype(float), lambda step: 12 // int(step) if 12 % step == 0 else 1
    return times.astype("datetime64[s]").astype(float), _season_of_seconds


def _season_of_seconds(step):
    day = 86400
    if step < day:
        return round(day / step) if day % step == 0 else 1
    return {day: 7, 7 * day: 52}.get(int(step), 1)


def _example(times, ticks, step):
    at = int(np.flatnonzero(np.diff(ticks) == step)[0])
    return f"{times[at]} to {times[at + 1]}"


def read_values(table, columns):
    """Return (float64 (rows, columns), NaN where a cell is missing; [(row, column)] of cells that are no number)."""
    values, bad = np.empty((len(table.cells), len(columns))), []
    for place, name in enumerate(columns):
        cells = table.column(name)
        values[:, place] = _numbers(cells)
        unread = np.flatnonzero(~np.isfinite(values[:, place]))
        bad += [(int(row), name) for row in unread if not is_missing(cells[row])]
    values[~np.isfinite(values)] = np.nan
    return values, sorted(bad)


def is_missing(cell):
    """True where a cell, a str, says that there is no value."""
    return cell.lower() in _MISSING


def is_number(cell):
    """True where a cell, a str, is a finite number."""
    return bool(np.isfinite(_numbers([cell]))[0])


def holds_numbers(cells):
    """True where a cell is a number and most of those that are not missing are."""
    known = [cell for cell in cells if not is_missing(cell)]
    return 2 * np.isfinite(_numbers(known)).sum() > len(known)


def _numbers(cells):
    import pandas

    return pandas.to_numeric(pandas.Series(list(cells), dtype=object), errors="coerce").to_numpy(float)


def _line(error):
    return (str(error) or type(error).__name__).strip().splitlines()[0][:120]
