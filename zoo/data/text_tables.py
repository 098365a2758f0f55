"""Tables of labelled texts: comma or tab-separated values and JSON lines, also gzipped."""

import csv
import gzip
import io
import json
import zlib
from dataclasses import dataclass

from zoo.errors import DataError

SUFFIXES = (".csv", ".tsv", ".jsonl")
TEXT_NAMES = ("text", "sentence", "review", "content", "comment", "message", "tweet")
LABEL_NAMES = ("label", "sentiment", "class", "category", "target", "rating", "stars")
_BREAK = "<br />"  # between the lines of IMDB's reviews
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class TextRow:
    """One text with its label, and what is wrong with it, if anything is."""

    text: str
    label: str
    split: str  # "" where the layout tells none
    place: str  # file and row
    problem: str  # "" for a row that can be used


def is_table(path):
    """True for a file whose name ends in .csv, .tsv or .jsonl, or one of these and .gz."""
    return _suffix(path) in SUFFIXES and path.is_file()


def read_table(path, split, text_column="", label_column=""):
    """List the rows of one table as `TextRow`.

    Tab-separated values have no quotes, as in the public sets; comma-separated ones do, and may have semicolons in
    place of commas. A table of two columns without their names is text and label.

    Args:
        path: Path.
        split: str, of all its rows.
        text_column: str, the name of a column; "" to recognise it by its name.
        label_column: likewise.

    Raises:
        DataError: the file cannot be read, is empty, or has no such column.
    """
    text = decode(_unpacked(path), path)
    records = _objects(text) if _suffix(path) == ".jsonl" else _cells(text, path)
    if not records:
        raise DataError(f"{path}: the file is empty, expected rows of a text and a label: check the file.")
    keys, named = _keys(records, path, text_column, label_column)
    return [_read(record, keys, split, f"{path}, row {number}") for number, record in records[named:]]


def make_row(text, label, split, place):
    """Return a `TextRow` of a text and a label as they were read, with what is wrong with them."""
    text, label = text.replace(_BREAK, " ").strip(), label.strip()
    problem = _undecoded(text) or _undecoded(label)
    for what, value in (("label", label), ("text", text)):
        problem = problem if value else f"has an empty {what}"
    return TextRow(text, label, split, place, problem)


def decode(data, path):
    """Return the text of a file in UTF-8; bytes that are none stay in it, to be found in the row that has them.

    Raises:
        DataError: the file is UTF-16, or holds zeros, which no text does.
    """
    if data.startswith(_UTF_16) or b"\0" in data:
        what = "is UTF-16" if data.startswith(_UTF_16) else f"has a zero at byte {data.index(0)}"
        raise DataError(f"{path}: the file {what}, expected text in UTF-8: save it as UTF-8.")
    return data.decode("utf-8-sig", errors="surrogateescape")


def _suffix(path):
    return next((each for each in reversed(path.suffixes) if each != ".gz"), "").lower()


def _unpacked(path):
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}), expected a table: copy or fetch it again.") from error


def _objects(text):
    """Return (row, object) of each line of JSON; a str in place of the object says what is wrong."""
    records = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                record = f"is not JSON ({error})"
            records.append((number, record if isinstance(record, (dict, str)) else "is no JSON object"))
    return records


def _cells(text, path):
    """Return (row, list of cells) of each row that has any; rows are counted as lines of the file, from 1."""
    if _suffix(path) == ".tsv":
        lines = enumerate(text.split("\n"), 1)
        return [(number, line.rstrip("\r").split("\t")) for number, line in lines if line.strip()]
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;", key=first.count))
    records, number = [], 1
    try:
        for cells in reader:
            if any(cells):
                records.append((number, cells))
            number = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, row {number}: {error}, expected comma-separated values: check its quotes.") from error
    return records


def _keys(records, path, text_column, label_column):
    """Return ({"text": key, "label": key} of a record, how many rows name the columns)."""
    first = next((record for _, record in records if not isinstance(record, str)), None)
    if first is None:
        raise DataError(f"{path}, row {records[0][0]}: {records[0][1]}, expected a JSON object in each line.")
    places = {name: name for name in first} if isinstance(first, dict) else {n: i for i, n in enumerate(first)}
    names = {name.strip().lower(): key for name, key in places.items()}
    keys = {
        what: next((names[name] for name in ([asked.strip().lower()] if asked else known) if name in names), None)
        for what, asked, known in (("text", text_column, TEXT_NAMES), ("label", label_column, LABEL_NAMES))
    }
    if None not in keys.values():
        return keys, int(isinstance(first, list))
    if isinstance(first, list) and len(first) == 2 and set(keys.values()) == {None} and not text_column + label_column:
        return {"text": 0, "label": 1}, 0
    missing = next(what for what, key in keys.items() if key is None)
    raise DataError(
        f"{path}: no column for the {missing} among {', '.join(map(repr, list(names)[:10]))}: name it by"
        f" {missing}_column."
    )


def _read(record, keys, split, place):
    if isinstance(record, str):
        return TextRow("", "", split, place, record)
    values = {}
    for what, key in keys.items():
        value = record.get(key) if isinstance(record, dict) else record[key] if key < len(record) else None
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):  # JSON has numbers and null too
            return TextRow("", "", split, place, f"has no {what}")
        values[what] = str(value)
    return make_row(values["text"], values["label"], split, place)


def _undecoded(text):
    """Say what of a text is no character, or nothing."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if 0xDC80 <= code <= 0xDCFF:  # as `decode` keeps a byte
            return f"has the byte 0x{code - 0xDC00:02X}, which is not UTF-8"
        return f"has half of the character U+{code:04X}"
    return ""
