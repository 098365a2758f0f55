"""What the columns of a long table say of each series as a whole: a region, a size, in words or in numbers."""

from zoo.data import series_tables as tables
from zoo.errors import DataError


def read_static(table, rows_of, columns, skipped):
    """Return ((column, its words; none of numbers), ...) and {series: what each column says of it, as numbers}.

    A number stands for itself, and a word is its place among the column's words, in the order of the alphabet.

    Args:
        table: `series_tables.Table`.
        rows_of: {series: its rows}.
        columns: names of the columns that count.
        skipped: takes a series of which a column says nothing, or two things, and its reason; it may raise.

    Raises:
        DataError: a column tells no series from another; there is no such column; no series is left.
    """
    said = {name: [] for name in rows_of}
    for column in columns:
        cells = table.column(column)
        for name, rows in rows_of.items():
            first, others = cells[rows[0]], rows[cells[rows] != cells[rows[0]]]
            if name in said and (len(others) or tables.is_missing(first)):
                row = others[0] if len(others) else rows[0]
                before = f" and {first[:40]!r} in row {rows[0] + 2}" if len(others) else ""
                skipped.add(
                    f"row {row + 2}",
                    f"column {column!r} says {cells[row][:40]!r} of series {name[:40]!r}{before}, expected one thing "
                    "in all its rows",
                )
                del said[name]
            elif name in said:
                said[name].append(first)
    if not said:
        raise DataError(f"{table.path}: of no series all static columns are known: correct them, or leave them out.")
    static, numbers = [], []
    for place, column in enumerate(columns):
        of_series = [cells[place] for cells in said.values()]
        if len(set(of_series)) == 1:
            raise DataError(
                f"{table.path}: column {column!r} says {of_series[0][:40]!r} of every series, which tells none apart: "
                "leave it out of static_columns."
            )
        words = () if all(tables.is_number(cell) for cell in of_series) else tuple(sorted(set(of_series)))
        static.append((column, words))
        numbers.append([float(words.index(cell) if words else cell) for cell in of_series])
    return tuple(static), {name: tuple(each[row] for each in numbers) for row, name in enumerate(said)}
