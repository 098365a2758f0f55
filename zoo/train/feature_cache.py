"""What is slow to compute, kept on disk until its settings or its data change."""

import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from zoo.train.fingerprint import fingerprint


def kept(folder, key, compute):
    """Return `compute()`, from a file where it was computed before from an equal `key`.

    Args:
        folder: of the files; made if it is missing. Each is named by the SHA-256 of its key.
        key: all that the result depends on: settings, arrays, versions, in nested dicts, lists and dataclasses.
        compute: function without arguments that gives a dict of arrays.

    Returns:
        dict of arrays. A file that cannot be read is computed again.
    """
    path = Path(folder).expanduser() / f"{fingerprint(key)}.npz"
    if path.is_file():
        try:
            with np.load(path, allow_pickle=False) as held:
                return {name: held[name] for name in held.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            path.unlink()
    found = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".unfinished-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **found)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return found
