"""Checkpoints as files: whole or not there at all, each named by its place in training and the hash of its content."""

import hashlib
import io
import json
import os
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np

from zoo.errors import TrainError, ZooWarning
from zoo.train.files import settle

_NOTES = "notes"  # the entry that holds JSON; arrays have the names of their numbers
_UNFINISHED = ".unfinished-"


def write(folder, epoch, batch, notes, arrays, *, keep):
    """Write a checkpoint, and remove all but the newest `keep`.

    The file gets its name when all of it is on the disk: whatever happens before leaves the older ones as they were.

    Args:
        folder: of the checkpoints; made if it is missing.
        epoch: whole epochs behind it.
        batch: batches of the next epoch behind it.
        notes: what JSON can hold.
        arrays: list of arrays.
        keep: how many checkpoints stay.

    Returns:
        The path of the file.

    Raises:
        TrainError: it cannot be written, as where the disk is full.
    """
    folder = Path(folder)
    temporary = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=_UNFINISHED, dir=folder)
        with os.fdopen(handle, "wb") as file:
            _put(file, notes, arrays)
            file.flush()
            os.fsync(file.fileno())
        path = folder / f"{epoch:06}-{batch:08}-{_hash(temporary)}.npz"
        os.replace(temporary, path)
        settle(folder)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise TrainError(
            f"no checkpoint could be written to {folder} ({error.strerror or error}); the ones before are as they "
            "were: make room, and train again with the same settings to go on from there."
        ) from error
    for old in _found(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def read_newest(folder):
    """Return (notes, arrays) of the newest checkpoint that is whole, or None.

    A damaged one is passed over with a `ZooWarning`. What a killed process left half-written is removed.
    """
    folder = Path(folder)
    for left in folder.glob(f"{_UNFINISHED}*"):
        left.unlink(missing_ok=True)
    for path in reversed(_found(folder)):
        try:
            if _hash(path) != path.stem.rpartition("-")[2]:
                raise ValueError("its content has another hash than its name")
            return _get(path)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            warnings.warn(f"the checkpoint {path} is damaged and passed over: {error}", ZooWarning, stacklevel=2)
    return None


def read_newest_of_chief(folder, cluster):
    """Return what `read_newest` finds where the chief of a cluster is; all workers call this together.

    Args:
        folder: the chief's; that of the others is not looked at.
        cluster: `zoo.train.cluster.Cluster`, or None where there is one process alone.
    """
    if cluster is None:
        return read_newest(folder)
    content = io.BytesIO()
    if cluster.chief and (found := read_newest(folder)):
        _put(content, *found)
    content = cluster.from_chief(content.getvalue())
    return _get(io.BytesIO(content)) if content else None


def _put(file, notes, arrays):
    text = np.frombuffer(json.dumps(notes).encode(), np.uint8)
    np.savez(file, **{_NOTES: text}, **{str(place): array for place, array in enumerate(arrays)})


def _get(file):
    with np.load(file, allow_pickle=False) as held:
        notes = json.loads(held[_NOTES].tobytes())
        return notes, [held[str(place)] for place in range(len(held.files) - 1)]


def _found(folder):
    """Return the checkpoints, the oldest first."""
    return sorted(folder.glob("[0-9]*-[0-9]*-*.npz"), key=lambda path: path.name.split("-")[:2])


def _hash(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
