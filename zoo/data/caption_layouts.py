"""How pictures with captions are laid out: each function here lists the captions of one layout."""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

from zoo.data.keyword_layouts import SPLITS
from zoo.data.transcript_layouts import read_text
from zoo.errors import DataError

TABLES = ("captions.csv", "captions.tsv", "captions.jsonl")
PICTURE_NAMES = ("image", "file", "file_name", "path", "picture", "video", "clip")  # of a column
CAPTION_NAMES = ("caption", "captions", "text", "sentence")
_FLICKR_TOKENS = "*.token.txt"
_FLICKR_SPLITS = {"train": "train", "dev": "validation", "val": "validation", "test": "test"}
_COCO = "captions_*.json"


@dataclass(frozen=True)
class Row:
    """One caption and the picture that it is of."""

    where: str  # the file and row that errors name
    path: Path
    caption: str
    split: str  # "" to be decided by a hash of the file's name


def find_layout(folder):
    """Return the function that lists the captions of a folder.

    Raises:
        DataError: the folder has none of the layouts.
    """
    if any((folder / name).is_file() for name in TABLES):
        return own_folder
    if next(folder.glob(_FLICKR_TOKENS), None) is not None:
        return flickr
    if coco_files(folder):
        return coco
    raise DataError(
        f"{folder}: no captions, expected {' or '.join(TABLES)} with the columns image and caption, Flickr8k's"
        f" {_FLICKR_TOKENS}, or COCO's annotations/{_COCO}: write a table, or check the path."
    )


def own_folder(folder):
    """List what captions.csv, .tsv or .jsonl names: image and caption, and if there is such a column, split.

    Paths are relative to the table. A picture may have several rows.
    """
    path = next(folder / name for name in TABLES if (folder / name).is_file())
    rows = []
    for number, row in _json_rows(path) if path.suffix == ".jsonl" else _csv_rows(path):
        where = f"{path}: line {number}"
        picture, caption = _column(row, PICTURE_NAMES, where), _column(row, CAPTION_NAMES, where)
        split = row.get("split") or ""
        if split not in ("", *SPLITS):
            raise DataError(f"{where} has the split {split!r}, expected one of {', '.join(SPLITS)}: rename it.")
        rows.append(Row(where, _within(folder, picture, where), caption, split))
    return rows


def flickr(folder):
    """List Flickr8k and Flickr30k: `*.token.txt` of lines `picture#number<TAB>caption`, and lists of splits.

    The splits are files `*train*.txt`, `*dev*.txt` and `*test*.txt`; with such lists, pictures of none are left out.
    """
    tokens = sorted(folder.glob(_FLICKR_TOKENS))[0]
    lists = [path for path in folder.glob("*mages.txt") if _flickr_split(path)]
    splits = {name: _flickr_split(path) for path in lists for name in read_text(path).split()}
    pictures = next((folder / n for n in ("images", "Flicker8k_Dataset", "Images") if (folder / n).is_dir()), folder)
    rows = []
    for number, line in enumerate(read_text(tokens).splitlines(), 1):
        where = f"{tokens}: line {number}"
        name, tab, caption = line.partition("\t")
        name, mark, _ = name.partition("#")
        if not tab or not mark:
            raise DataError(f"{where} is {line[:80]!r}, expected picture#number, a tab and a caption: fetch it again.")
        if not splits or name in splits:
            rows.append(Row(where, _within(pictures, name, where), caption, splits.get(name, "")))
    return rows


def coco_files(folder):
    """Return the files of captions in COCO's layout, in `folder` or its `annotations`."""
    return sorted([*folder.glob(_COCO), *folder.glob(f"annotations/{_COCO}")])


def coco(folder):
    """List COCO: `annotations/captions_train2017.json` and so on, with `images` and `annotations`.

    Pictures are in the folder named as the file is, as `train2017`, or in `images`. COCO publishes no captions of its
    test: what is named val tests, and a share of what is named train validates.
    """
    rows = []
    for path in coco_files(folder):
        named = path.stem.partition("_")[2]
        split = {"train": "train", "val": "test", "test": "test"}.get(named.rstrip("0123456789"), "")
        pictures = next((folder / n for n in (named, f"images/{named}", "images") if (folder / n).is_dir()), folder)
        try:
            stored = json.loads(read_text(path))
            files = {one["id"]: one["file_name"] for one in stored["images"]}
            captions = [(one["image_id"], one["caption"]) for one in stored["annotations"]]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{path} is not COCO's captions ({error!r}), expected images and annotations.") from error
        for number, (image, caption) in enumerate(captions, 1):
            where = f"{path}: annotation {number}"
            if image not in files or not isinstance(caption, str):
                raise DataError(f"{where} is of image {image!r}, which the file does not list: fetch it again.")
            rows.append(Row(where, _within(pictures, files[image], where), caption, split))
    return rows


def _flickr_split(path):
    name = path.stem.lower()
    return next((split for part, split in _FLICKR_SPLITS.items() if part in name), "")


def _column(row, names, where):
    name = next((name for name in names if isinstance(row.get(name), str)), None)
    if name is None:
        has = ", ".join(str(key) for key in row)
        raise DataError(f"{where} has no column {names[0]}, only {has}, expected image and caption: add it.")
    return row[name]


def _within(folder, name, where):
    path = Path(name)
    if not name or path.is_absolute() or ".." in path.parts:
        raise DataError(f"{where} names the picture {name!r}, expected a path within {folder}: correct it.")
    return folder / path


def _json_rows(path):
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: line {number} is not JSON ({error}): write one object on each line.") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}: line {number} is {line[:80]!r}, expected an object with image and caption.")
        yield number, row


def _csv_rows(path):
    delimiter = "\t" if path.suffix == ".tsv" else ","
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.reader.line_num} is not CSV ({error}): correct it.") from error
