"""Read what is in a bundle: the card and the files that it names, none of which is trusted. NumPy alone.

A bundle holds a copy of this file under the same name. It is all parsed: JSON, and NumPy arrays without pickle.
"""

import hashlib
import json
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

try:
    from zoo.errors import DataError
except ImportError:  # on a device, where the zoo is not installed

    class DataError(ValueError):
        """A file or folder cannot be used as it is."""


CARD, EXAMPLE, LABELS = "card.json", "example.npz", "labels.json"
LARGEST = 1 << 30  # bytes: no model for a device is larger, and nothing larger is read
LONGEST_NAME = 255  # bytes, in the file systems of today


def file_at(path, expected):
    """Return `path` as a Path if there is a file, else raise DataError; `expected` says of which kind."""
    if not isinstance(path, (str, os.PathLike)):
        raise DataError(f"the path of a file is a {type(path).__name__}; expected {expected}")
    if not os.path.isfile(path):  # a folder or a pipe is none
        raise DataError(f"there is no file {path}; expected {expected}")
    return Path(path)


def read_card(folder):
    """Return the card of a bundle, checked: a dict with every file's name, sha256 and size, all within the folder.

    Raises:
        DataError: not a bundle, or one whose card cannot be trusted.
    """
    if not isinstance(folder, (str, os.PathLike)):
        raise DataError(
            f"the folder of a bundle is a {type(folder).__name__}; expected the path of one that `zoo export` wrote"
        )
    path = Path(folder) / CARD
    if not os.path.isfile(path) or path.is_symlink():
        raise DataError(f"{folder} is no bundle: it has no {CARD}; give the folder that `zoo export` wrote")
    card = _json(path)
    try:
        models, files = card["models"], card["files"]
        for entry in [*models, *files]:
            _check_entry(entry["name"], entry)
        for entry in models:
            _check_model_entry(entry)
        if len({entry["name"] for entry in [*models, *files]}) < len(models) + len(files):
            raise DataError(f"{CARD} lists a file twice; export the bundle again")
        if not models or not isinstance(card["recipe"], str) or not isinstance(card["settings"], dict):
            raise DataError(f"{CARD} names no model, recipe or settings; export the bundle again")
    except (KeyError, TypeError, AttributeError):
        raise DataError(f"{CARD} is not the card of a bundle; export the bundle again") from None
    return card


def _check_entry(name, entry):
    plain = isinstance(name, str) and Path(name).name == name and name not in ("", ".", "..")
    if not plain or not name.isprintable() or len(os.fsencode(name)) > LONGEST_NAME:
        raise DataError(f"{CARD} names the file {ascii(name)[:80]}; expected a plain name within the folder")
    if not isinstance(entry["sha256"], str) or not _is_whole(entry["bytes"]):
        raise DataError(f"{CARD} gives no sha256 and size for {name}; export the bundle again")


def _check_model_entry(entry):
    atol, leads, chunk = entry["atol"], entry.get("leads") or {}, entry.get("chunk", 1)
    whole = all(v is None or _is_whole(v) for v in leads.values())
    if not _is_number(atol) or not _is_whole(chunk) or not whole or not isinstance(entry.get("part", ""), str):
        raise DataError(f"{CARD} has atol, leads, chunk or part of {entry['name']} wrong; export the bundle again")


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= LARGEST


def _is_whole(value):
    return _is_number(value) and isinstance(value, int)


def model_path(folder, card, name=None):
    """Return the path of the bundle's model file called `name`, or of its first, checked against the card."""
    entries = {entry["name"]: entry for entry in card["models"]}
    name = next(iter(entries)) if name is None else name
    if name not in entries:
        raise DataError(f"the bundle has no model file {name!r}; it has {', '.join(entries)}")
    return checked_file(folder, entries[name])


def checked_file(folder, entry):
    """Return the path of a bundle's file after comparing its size and sha256 with its entry in the card."""
    path = Path(folder) / entry["name"]
    if path.is_symlink() or not path.is_file():
        raise DataError(f"{path.name} is missing from {folder}; copy the whole bundle again")
    if path.stat().st_size != entry["bytes"]:
        raise DataError(f"{path.name} has {path.stat().st_size} bytes, its card says {entry['bytes']}; copy it again")
    if hashlib.sha256(read_bytes(path)).hexdigest() != entry["sha256"]:
        raise DataError(f"{path.name} is damaged: its sha256 is not the one on the card; copy it again")
    return path


def listed(card, name):
    """Return the entry that the card has for one of the files that are no models."""
    for entry in card["files"]:
        if entry["name"] == name:
            return entry
    raise DataError(f"{CARD} lists no {name}; export the bundle again")


def example_name(part=""):
    """Return the name of the file that holds the stored example of a model, or of a part of it."""
    return f"example.{part}.npz" if part else EXAMPLE


def parts_of(card, entry):
    """Return {part: entry} of all files of a card that are run in turn with that of `entry`, itself among them."""
    alike = ("format", "target", "scheme")
    others = [one for one in card["models"] if all(one.get(key) == entry.get(key) for key in alike)]
    return {one["part"]: one for one in others if "part" in one}


def read_example(folder, name=EXAMPLE):
    """Return ({input name: array}, {output name: array}) of an example stored in a bundle."""
    try:
        arrays = _arrays(Path(folder) / name)
    except _UNREADABLE as error:
        raise DataError(f"{name} cannot be read: {first_line(error)}; export the bundle again") from None
    return [{n[len(kind) :]: a for n, a in arrays.items() if n.startswith(kind)} for kind in ("input_", "output_")]


# What a damaged archive or array ends in; a RuntimeError where it is encrypted.
_UNREADABLE = (ValueError, OSError, EOFError, KeyError, TypeError, RuntimeError, MemoryError, SyntaxError)
_UNREADABLE += (zipfile.BadZipFile, zlib.error)


def _arrays(path):
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > LARGEST:
        raise ValueError(f"it unpacks to {unpacked} bytes, more than {LARGEST}")
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
            raise ValueError(f"{name} holds no numbers")
    return arrays


def read_labels(folder, card):
    """Return the labels of a bundle, a list of words."""
    labels = _json(checked_file(folder, listed(card, LABELS)))
    if not isinstance(labels, list) or not all(isinstance(label, str) and label.isprintable() for label in labels):
        raise DataError(f"{LABELS} is no list of words; export the bundle again")
    return labels


def read_assets(folder, card):
    """Return {file name: bytes} of what the task needs beside the labels; a card from before there was any has none."""
    names = card.get("assets", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{CARD} has assets wrong; export the bundle again")
    return {name: read_bytes(checked_file(folder, listed(card, name))) for name in names}


def _json(path):
    if path.stat().st_size > LARGEST >> 6:
        raise DataError(f"{path.name} has {path.stat().st_size} bytes; expected a small JSON file")
    try:
        return json.loads(read_bytes(path).decode())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name} is not JSON: {first_line(error)}; export the bundle again") from None


def read_bytes(path):
    """Return the content of a file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def first_line(error):
    """Return what an error says first, as one printable line."""
    line = (str(error) or type(error).__name__).strip().split("\n")[0][:200]
    return "".join(char if char.isprintable() else "?" for char in line)  # a runtime quotes what it finds
