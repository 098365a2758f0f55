"""Files that are whole or as they were before, whenever the process ends."""

import json
import os
from pathlib import Path

from zoo.errors import TrainError

UNFINISHED = ".unfinished"  # how the names of what is being written end


def write_json(path, value):
    """Put `value` in the place of a file's content at once."""
    replace(path, json.dumps(value, indent=1) + "\n")


def replace(path, text):
    """Put `text` in the place of a file's content at once.

    Raises:
        TrainError: it cannot be written, as where the disk is full; the file is as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}{UNFINISHED}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise TrainError(
            f"{path} could not be written ({error.strerror or error}); make room and try again."
        ) from error


def settle(path):
    """Wait until the content of a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
