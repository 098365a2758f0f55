"""What every exporter asks of its arguments before it works, and how it leaves its file."""

import os
import secrets
from pathlib import Path

from zoo import checks
from zoo.errors import ExportError, SettingError
from zoo.export.rules import FORMATS, SCHEMES, TARGETS

STATES = ("reset", "internal", "external")
WRITTEN = {"tflite": SCHEMES, "onnx": SCHEMES}  # the schemes of each format


def check_options(*, format, scheme, target, state):
    """Raise SettingError unless the options that all formats share have values that exist.

    Args:
        format: "tflite" or "onnx".
        scheme: checked against `SCHEMES`.
        target: checked against those that files of `format` run on.
        state: checked against `STATES`.
    """
    checks.choice(format, "format", FORMATS)
    checks.choice(scheme, "scheme", SCHEMES)
    if scheme not in WRITTEN[format]:
        raise SettingError(
            f"scheme is {scheme!r}, which {format} files are not written in; take one of {', '.join(WRITTEN[format])}"
        )
    checks.choice(target, "target", TARGETS)
    if (format, target) == ("onnx", "mcu"):
        raise SettingError("target is 'mcu', where no runtime reads ONNX; export the model to tflite for it")
    checks.choice(state, "state", STATES)
    if (format, state) == ("onnx", "internal"):
        raise SettingError("state is 'internal', and an ONNX file has no place to keep one; take state='external'")


CALIBRATED = ("full_int8",)  # schemes that need examples
ON_MCU = ("float32", "full_int8")  # schemes whose ops TFLite Micro has
IO_DTYPES = ("float32", "int8")


def check_scheme(scheme, *, target, representative_data, keep_float, io_dtype):
    """Raise SettingError unless what comes along with a scheme fits it.

    Args:
        scheme: one of `SCHEMES`.
        target: where the file is to run.
        representative_data: examples, or None.
        keep_float: names of layers.
        io_dtype: one of `IO_DTYPES`.
    """
    checks.choice(io_dtype, "io_dtype", IO_DTYPES)
    if target == "mcu" and scheme not in ON_MCU:
        raise SettingError(
            f"scheme is {scheme!r}, whose ops TFLite Micro does not have; for mcu take 'float32' or 'full_int8'"
        )
    if scheme in CALIBRATED and representative_data is None:
        raise SettingError(f"scheme {scheme!r} calibrates; give representative_data=, some hundred examples")
    if scheme not in CALIBRATED and representative_data is not None:
        raise SettingError(f"scheme {scheme!r} does not calibrate; leave representative_data out")
    if io_dtype == "int8" and scheme not in CALIBRATED:
        raise SettingError(f"io_dtype is 'int8', and a file of scheme {scheme!r} takes float32; leave io_dtype out")
    check_names(keep_float, "keep_float")
    if scheme == "float32" and keep_float:
        raise SettingError("scheme is 'float32', in which every layer stays float32; leave keep_float out")


def check_names(names, option):
    """Raise SettingError unless `names` is a list of names of layers."""
    if not isinstance(names, (list, tuple, set, frozenset)) or not all(isinstance(name, str) for name in names):
        raise SettingError(f"{option} is {checks.shown(names)}; expected a list of names of layers")


def as_path(value, option, expected):
    """Return `value` as a Path; raise SettingError, which says what was `expected`, if it is none."""
    if not isinstance(value, (str, os.PathLike)) or "\0" in str(value):
        raise SettingError(f"{option} is {checks.shown(value)}; expected {expected}")
    return Path(value)


def check_path(path, suffix):
    """Return `path` as a Path that a new file ending in `suffix` can be written to.

    Raises:
        SettingError: not a path, another ending, no such folder, a folder that cannot be written, or it exists.
    """
    path = as_path(path, "path", f"the name of a file ending in {suffix}")
    if os.path.isdir(path):  # unlike Path's own, of a name too long this is no error
        raise SettingError(f"{path} is a folder; name a file in it, such as {path / f'model{suffix}'}")
    if path.suffix != suffix:
        raise SettingError(f"{path} does not end in {suffix}; name the file {path.name or 'model'}{suffix}")
    if os.path.exists(path):
        raise SettingError(f"{path} exists already; remove it or choose another name")
    if not os.path.isdir(path.parent):
        raise SettingError(f"there is no folder {path.parent} to write {path.name} to; create it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise SettingError(f"the folder {path.parent} cannot be written to; choose another for {path.name}")
    return path


def write(path, data):
    """Write the bytes `data` to `path`, whole or not at all."""
    unfinished = path.with_name(f".{secrets.token_hex(8)}")  # no longer than the longest that a file may have
    try:
        unfinished.write_bytes(data)
        os.replace(unfinished, path)
    except OSError as error:
        raise ExportError(f"{path} could not be written: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)
