"""What a device does around a forecasting model: the end of a CSV to its input, its output to a table. NumPy alone."""

import csv
import io
import itertools
import json
import re
from pathlib import Path

import numpy as np

if __package__:
    from zoo.errors import DataError
else:  # in a bundle
    from contents import DataError

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)  # quantiles, as the model gives them
STATIC = "static.json"  # [[column, its words; none where it holds numbers]]
LARGEST = 1 << 28  # bytes of a CSV file
LONGEST = 1 << 20  # steps that a model may look back
DAY = 86400  # seconds
CLOCKS = (DAY, 7 * DAY, 365.2425 * DAY)  # seconds of a turn: the hours, the weekdays, the seasons
_TIMES = ("date", "time", "timestamp", "datetime", "ds", "month", "week", "day", "year")
_MISSING = ("", "na", "n/a", "nan", "null", "none", "?")


def read(path, card):
    """Return the model's input from the last rows of a CSV file: {"history": (1, look_back, channels)}.

    A model that reads the calendar also gets {"clock": (1, 3)}, of the last row's time, and one that reads what columns
    say of the series as a whole {"static": (1, columns)}, of the last row. The columns are found by their
    names, in any order, others are passed over. A missing value may be empty or NA; a step that is missing must be a
    row with nothing but its time.

    Args:
        path: a CSV file in UTF-8 with commas, semicolons or tabs, whose first row names the columns.
        card: the bundle's card, with `labels`, the channels, `settings` of the recipe: look_back (steps), and whether
            it reads the calendar, and `assets`, with the words of the static columns if it reads any.

    Raises:
        DataError: the file is missing, too short, no CSV, lacks a channel, or has a cell that is no number among the
            rows that count; its times do not grow, or the last, where it is read, is no date; a static column says
            what no training series was; the card's settings are not those of a forecasting model.
    """
    look_back = card["settings"].get("look_back")
    if not isinstance(look_back, int) or not 0 < look_back <= LONGEST:
        raise DataError(f"the card's look_back is {ascii(look_back)[:80]}; expected a whole number above 0")
    header, rows = _read_csv(Path(path))
    static = _static(card)
    missing = [name for name in (*card["labels"], *static) if name not in header]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; it has {', '.join(header)[:200]}")
    if len(rows) < look_back:
        raise DataError(f"{path} has {len(rows)} rows; the model looks back over {look_back}")
    first = len(rows) - look_back
    _check_times(path, header, rows[first:], first, card["settings"].get("time_column"))
    history = np.empty((1, look_back, len(card["labels"])), np.float32)
    for channel, name in enumerate(card["labels"]):
        column = header.index(name)
        for step, row in enumerate(rows[first:]):
            history[0, step, channel] = _number(row[column], path, first + step + 2, name)
        if np.isnan(history[0, :, channel]).all():
            raise DataError(f"{path} has no number in the last {look_back} rows of column {name!r}; expected some")
    inputs = {"history": history}
    if card["settings"].get("calendar"):
        now = _last_time(path, header, rows[-1], card["settings"].get("time_column"))
        inputs["clock"] = clock(np.array([now])).astype(np.float32)
    if static:
        said = [_said(rows[-1][header.index(name)], words, path, name) for name, words in static.items()]
        inputs["static"] = np.array([said], np.float32)
    return inputs


def clock(times):
    """Return which part of the day, of the week from Monday, and of the year has gone by: float64 (times, 3).

    Args:
        times: datetime64[s] (times,).
    """
    days = times.astype("datetime64[s]").astype(np.int64) / DAY  # since a Thursday
    years = times.astype("datetime64[Y]")
    begin, end = (each.astype("datetime64[D]").astype(np.int64) for each in (years, years + 1))
    return np.stack([days % 1, (days + 3) / 7 % 1, (days - begin) / (end - begin)], axis=-1)


def answer(outputs, card):
    """Return {channel: {quantile: [value at each step ahead]}} from the model's outputs of one window."""
    (forecast,), labels = outputs.values(), card["labels"]
    forecast = np.asarray(forecast, np.float32)
    forecast = forecast[0] if forecast.ndim == 4 and len(forecast) == 1 else forecast
    if forecast.ndim != 3 or forecast.shape[1:] != (len(labels), len(LEVELS)):
        raise DataError(
            f"the model gives {forecast.shape}; expected (steps, {len(labels)} channels, {len(LEVELS)} quantiles) of "
            "one window: export it again"
        )
    return {
        label: {level: forecast[:, channel, place].tolist() for place, level in enumerate(LEVELS)}
        for channel, label in enumerate(labels)
    }


def show(answers):
    """Return the forecast as a table in CSV: a row for each step ahead; of each channel the median, 5% and 95%."""
    shown = (0.5, 0.05, 0.95)
    columns = [quantiles[level] for quantiles in answers.values() for level in shown]
    table = io.StringIO()
    lines = csv.writer(table, lineterminator="\n")
    lines.writerow(["step", *(f"{name}{end}" for name in answers for end in ("", " 5%", " 95%"))])
    lines.writerows([step, *(f"{value:.6g}" for value in values)] for step, *values in _numbered(columns))
    return table.getvalue().rstrip("\n")


def _numbered(columns):
    return ((step, *values) for step, values in enumerate(zip(*columns, strict=True), 1))


def _read_csv(path):
    """Return (names of the columns, rows of cells), all rows as long as the first."""
    if not path.is_file():  # a pipe would be waited for
        raise DataError(f"there is no file {path}; expected a CSV file")
    if path.stat().st_size > LARGEST:
        raise DataError(f"{path} has {path.stat().st_size} bytes; expected at most {LARGEST}: give its last rows alone")
    try:
        text = path.read_text(encoding="utf-8-sig")
        separator = max(",;\t", key=text.partition("\n")[0].count)
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), delimiter=separator) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV file in UTF-8 ({error}); save it as one") from None
    if not rows:
        raise DataError(f"{path} is empty; expected a CSV file")
    for place, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise DataError(f"{path}, row {place} has {len(row)} cells; the header has {len(rows[0])}")
    return rows[0], rows[1:]


def _last_time(path, header, row, named):
    """Return the time of a row; it may have columns of its own for year, month, day and hour."""
    cells = {name.lower(): cell for name, cell in zip(header, row, strict=True)}
    if named in header:
        cell = row[header.index(named)]
    elif {"year", "month"} <= set(cells) and not {"date", "time", "timestamp", "datetime", "ds"} & set(cells):
        parts = [cells["year"], cells["month"], cells.get("day", "1"), cells.get("hour", "0")]
        cell = "{:0>4}-{:0>2}-{:0>2}T{:0>2}".format(*parts)
    else:
        cell = next((cells[name] for name in _TIMES if name in cells), "")
    time = _time(re.sub(r"^(\d{4})(\d\d)(\d\d)$", r"\1-\2-\3", cell))
    if not isinstance(time, np.datetime64) or np.isnat(time):
        raise DataError(
            f"{path}: the last row's time is {cell[:40]!r}; expected a date, as the model reads the calendar"
        )
    return time


def _check_times(path, header, rows, first, named):
    """Raise DataError where a time is not later than the one before, if a column of times is known."""
    lower = [name.lower() for name in header]
    column = header.index(named) if named in header else next((lower.index(n) for n in _TIMES if n in lower), None)
    if column is None or {"year", "month"} <= set(lower):
        return
    times = [_time(row[column]) for row in rows]
    for step, (before, after) in enumerate(itertools.pairwise(times)):
        if before is not None and after is not None and type(before) is type(after) and not after > before:
            raise DataError(
                f"{path}, row {first + step + 3}: the time {rows[step + 1][column][:40]!r} is not later than the row's "
                "before; sort the file, each time once"
            )


def _time(cell):
    try:
        return float(cell)
    except ValueError:
        zone = re.search(r"(?:Z|([+-])(\d\d):?(\d\d))$", cell) if len(cell) > 10 else None
        ahead = int(zone[1] + zone[2]) * 60 + int(zone[1] + zone[3]) if zone and zone[1] else 0  # minutes
        try:
            date = (cell[: zone.start()] if zone else cell).replace(" ", "T")
            return np.datetime64(date, "s") - np.timedelta64(ahead, "m")
        except ValueError:
            return None


def _static(card):
    """Return {column: its words; none where it holds numbers} of the static columns that the model reads."""
    names = [name.strip() for name in str(card["settings"].get("static_columns", "")).split(",") if name.strip()]
    if not names:
        return {}
    try:
        words = {str(name): [str(word) for word in words] for name, words in json.loads(card["assets"][STATIC])}
        return {name: words[name] for name in names}
    except (KeyError, ValueError, TypeError):
        raise DataError(f"the bundle has no {STATIC} of the columns {', '.join(names)}; export it again") from None


def _said(cell, words, path, column):
    """Return what a static column says, as a number."""
    if words and cell not in words:
        known = ", ".join(words)[:200]
        raise DataError(f"{path}: column {column!r} has {cell[:40]!r} in the last row; expected one of {known}")
    number = words.index(cell) if words else _number(cell, path, "the last", column)
    if np.isnan(number):
        raise DataError(f"{path}: column {column!r} has nothing in the last row; expected a number")
    return number


def _number(cell, path, row, column):
    if cell.lower() in _MISSING:
        return np.nan
    try:
        number = float(cell)
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise DataError(f"{path}, row {row}: column {column!r} has {cell[:40]!r}; expected a number or nothing")
    return number
