"""The hash of a data set, by which a run that goes on knows it again."""

import dataclasses
import hashlib

import numpy as np


def fingerprint(value):
    """Return the SHA-256, in hex, of all that nested dataclasses, lists, dicts, arrays and plain values hold."""
    digest = hashlib.sha256()
    _feed(digest, value)
    return digest.hexdigest()


def _feed(digest, value):
    if dataclasses.is_dataclass(value):
        value = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if isinstance(value, dict):
        value = list(value.items())
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        digest.update(f"{value.dtype.str}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
    elif isinstance(value, (list, tuple, np.ndarray)):
        digest.update(f"{len(value)}[".encode())
        for one in value:
            _feed(digest, one)
    else:
        text = repr(value).encode()
        digest.update(f"{len(text)}:".encode() + text)
