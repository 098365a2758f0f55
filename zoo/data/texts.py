"""Labelled texts, ready to train on: the demo set, public sets by name or path, and a user's own tables."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zoo.data import catalogue, demo_reviews
from zoo.data import text_layouts as layouts
from zoo.data.text_tables import SUFFIXES, TextRow, is_table, read_table
from zoo.errors import DataError, SettingError

NAMED = ("demo", "imdb")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Texts:
    """Texts with their labels and splits."""

    texts: tuple[str, ...]
    labels: np.ndarray  # int32 (texts,), indices into label_names
    label_names: tuple[str, ...]
    split: np.ndarray  # str (texts,): 'train', 'validation' or 'test'
    skipped: tuple[tuple[str, str], ...]  # (file and row, reason)

    def select(self, split):
        """Return the texts of one split.

        Args:
            split: 'train', 'validation' or 'test'.

        Returns:
            (texts, labels): a list of str and int32 (texts,).

        Raises:
            SettingError: there is no split of that name.
        """
        if split not in SPLITS:
            raise SettingError(f"split is {split!r}, expected one of {', '.join(SPLITS)}.")
        rows = np.flatnonzero(self.split == split)
        return [self.texts[row] for row in rows], self.labels[rows]


def load_texts(data, *, text_column="", label_column="", skip_bad=False):
    """Load texts with their labels.

    What lies in a folder is recognised by its layout: tables named after their split, `train.tsv` and so on, or the
    folders of aclImdb. A split that is missing, and both of a single file, are a tenth of the training texts each, by a
    hash of the text, so that no text is in two of them.

    Args:
        data: 'demo' (synthetic, built in), 'imdb' (fetched once, see `zoo.data.catalogue`), the path of a folder, or
            of a .csv, .tsv or .jsonl file, which may be gzipped.
        text_column: str, the column of the texts (default: recognised by its name).
        label_column: str, that of the labels.
        skip_bad: bool, leave out rows that cannot be used and list them in `skipped` (default: the first is an error).

    Returns:
        Texts.

    Raises:
        DataError: `data`, a file or a row cannot be used; the message names it and says what to do.

    Example:
        >>> texts = load_texts("demo")
        >>> texts.label_names
        ('negative', 'positive')
    """
    rows = _rows(data, text_column, label_column)
    skipped = []
    usable = []
    for row in rows:
        if row.problem:
            _skip(row.place, row.problem, skip_bad, skipped)
        else:
            usable.append(row)
    if not usable:
        raise DataError(f"{data}: no text can be used ({len(skipped)} were skipped), expected some: check the file.")
    usable = _split(usable)
    names = _label_names(usable, data)
    known = []
    for row in usable:
        if row.label in names:
            known.append(row)
        else:
            _skip(row.place, f"has the label {row.label!r}, which no training text has", skip_bad, skipped)
    texts = Texts(
        texts=tuple(row.text for row in known),
        labels=np.array([names.index(row.label) for row in known], np.int32),
        label_names=names,
        split=np.array([row.split for row in known]),
        skipped=tuple(skipped),
    )
    for split in SPLITS:
        if not (texts.split == split).any():
            raise DataError(f"{data}: no text is left for the {split} split, expected at least one: add texts.")
    return texts


def _rows(data, text_column, label_column):
    if data == "demo":
        return [TextRow(each.text, each.label, each.split, "demo", "") for each in demo_reviews.load()]
    path = catalogue.fetch(data) if data in NAMED else Path(data).expanduser()
    columns = {"text_column": text_column, "label_column": label_column}
    if path.is_dir():
        tables = layouts.tables(path)
        if "train" in tables:
            return [row for split, table in tables.items() for row in read_table(table, split, **columns)]
        if layouts.has_label_folders(path):
            return layouts.read_label_folders(path)
        raise DataError(
            f"{path}: no table named train, as train.tsv, and no folder train of one folder of text files for each"
            " label: name a file, or name the files after their split."
        )
    if is_table(path):
        return read_table(path, "", **columns)
    raise DataError(
        f"{data}: {'is no table' if path.exists() else 'no such file or folder'}, expected a folder, a file ending in"
        f" {', '.join(SUFFIXES)}, or one of {', '.join(NAMED)}: check the path."
    )


def _split(rows):
    """Take splits that are missing from training, a tenth of the texts each."""
    missing = [split for split in SPLITS[1:] if not any(row.split == split for row in rows)]
    taken = []
    for row in rows:
        share = int.from_bytes(hashlib.sha256(row.text.encode()).digest()[:8]) / 2**64
        place = int(share * 10)
        split = missing[place] if place < len(missing) and row.split in ("", "train") else row.split or "train"
        taken.append(replace(row, split=split))
    return taken


def _label_names(rows, data):
    """The labels of the training texts in order, of numbers that of their values."""
    names = sorted({row.label for row in rows if row.split == "train"})
    if len(names) < 2:
        found = f"of the label {names[0]!r} only" if names else "none"
        raise DataError(f"{data}: the training texts are {found}, expected two labels or more: add texts.")
    try:
        return tuple(sorted(names, key=float))
    except ValueError:
        return tuple(names)


def _skip(place, reason, skip_bad, skipped):
    if not skip_bad:
        raise DataError(f"{place}: {reason}; mend the row, or set skip_bad=True to leave such rows out.")
    skipped.append((place, reason))
