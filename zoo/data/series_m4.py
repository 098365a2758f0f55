"""The files of the M4 competition: a series in each row, its future in a second file."""

import numpy as np

from zoo.data import series_tables as tables
from zoo.errors import DataError

_SEASONS = {"Hourly": 24, "Daily": 1, "Weekly": 1, "Monthly": 12, "Quarterly": 4, "Yearly": 1}  # the organisers'


def m4_twin(path):
    """Return the other file of the M4 layout, `Weekly-test.csv` of `Weekly-train.csv`, or None for another name."""
    name = path.name
    frequency, _, rest = name.partition("-")
    if frequency not in _SEASONS or not rest.startswith(("train", "test")):
        return None
    twin = {"train": "test", "test": "train"}[rest.split(".")[0]]
    found = [path.with_name(f"{frequency}-{twin}{end}") for end in (".csv", ".csv.gz")]
    return next((twin for twin in found if twin.is_file()), found[0])


def read_m4(path):
    """Read both files of a pair, of which `path` is one.

    Returns:
        ([(name, values (steps, 1), how many of the last steps are the test file's)], steps of a season).

    Raises:
        DataError: a file is missing or no table, a cell is no number, or a series has no future.
    """
    files = {("train" if "-train" in each.name else "test"): each for each in (path, m4_twin(path))}
    rows = {kind: _rows(file) for kind, file in files.items()}
    series = []
    for name, values in rows["train"].items():
        if name not in rows["test"]:
            raise DataError(
                f"{files['test']}: has no series {name!r}, which {files['train'].name} has: fetch both again."
            )
        future = rows["test"][name]
        series.append((name, np.concatenate([values, future])[:, None], len(future)))
    return series, _SEASONS[path.name.partition("-")[0]]


def _rows(path):
    table = tables.read_table(path)
    values, bad = tables.read_values(table, table.columns[1:])
    if bad:
        row, column = bad[0]
        raise DataError(f"{path}, row {row + 2}: column {column!r} has {table.column(column)[row][:40]!r}, no number.")
    ends = [np.flatnonzero(np.isfinite(row)).max(initial=-1) + 1 for row in values]
    return {name: row[:end] for name, row, end in zip(table.cells[:, 0], values, ends, strict=True)}
