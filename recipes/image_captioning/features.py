"""What a frozen encoder makes of pictures, computed once and kept on disk."""

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np

from zoo.data.catalogue import CACHE_VARIABLE
from zoo.errors import DataError
from zoo.recipes.image_captioning import encoders
from zoo.train.shared_batches import predict_batch

_BATCH = 32  # pictures
_VERSION = "1"  # of what the files hold: raise it when features of the same pictures change


def features(encoder, pictures, read, cache=None):
    """Return float16 (pictures, ...) of what an encoder makes of pictures, from a file where they were seen before.

    The file is named by a hash of the encoder's layers and weights and of every picture: its pixels, or its path, size
    and time of change. It appears under its name only when it is complete. Float16 holds features of up to 65504 with
    three digits.

    Args:
        encoder: `keras.Model` from pictures to features.
        pictures: list of paths or arrays.
        read: function of a picture that returns its array, as the encoder takes it.
        cache: str or Path of a folder (default: RECURRENT_ZOO_CACHE, or ~/.cache/recurrent-zoo).

    Raises:
        DataError: a picture cannot be read, or the folder cannot be written.
    """
    cache = Path(cache or os.environ.get(CACHE_VARIABLE) or "~/.cache/recurrent-zoo").expanduser()
    hashed = hashlib.sha256(f"{_VERSION} {encoders.identity(encoder)} {encoder.input_shape}".encode())
    for picture in pictures:
        hashed.update(_told_apart(picture))
    path = cache / f"features-{hashed.hexdigest()[:24]}.npy"
    if path.is_file():
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is damaged ({error}), expected features that were kept: remove it.") from error
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="features-") as folder:
            unfinished = Path(folder, "features.npy")
            _compute(encoder, pictures, read, unfinished)
            os.replace(unfinished, path)
    except OSError as error:
        raise DataError(
            f"{cache}: cannot be written ({error.strerror or error}), expected a folder for features: free some space,"
            f" or name another folder in the environment variable {CACHE_VARIABLE}."
        ) from error
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _compute(encoder, pictures, read, path):
    stored = np.lib.format.open_memmap(path, "w+", np.float16, (len(pictures), *encoder.output_shape[1:]))
    for start in range(0, len(pictures), _BATCH):
        batch = np.stack([read(picture) for picture in pictures[start : start + _BATCH]]).astype(np.float32)
        stored[start : start + len(batch)] = predict_batch(encoder, batch)
    stored.flush()


def _told_apart(picture):
    if isinstance(picture, np.ndarray):
        return hashlib.sha256(np.ascontiguousarray(picture).tobytes()).digest()
    path = Path(picture)
    try:
        seen = path.stat()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}, expected a picture: check the path.") from error
    return f"{path.resolve()} {seen.st_size} {seen.st_mtime_ns}\n".encode()
