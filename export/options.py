"""What every exporter asks of its arguments before it works, and how it leaves its file."""

import os
import secrets
from pathlib import Path

from zoo.errors import ExportError, SettingError
from zoo.export.planning import check_choice, check_target
from zoo.export.rules import SCHEMES

STATES = ("reset", "internal", "external")
WRITTEN = {"tflite": SCHEMES, "onnx": SCHEMES}  # the schemes of each format


def check_options(*, format, scheme, target, state, time_steps=None):
    """Raise SettingError unless the options that all formats share have values that exist.

    Args:
        format: "tflite" or "onnx".
        scheme: checked against `SCHEMES`.
        target: checked against those that files of `format` run on.
        state: checked against `STATES`.
        time_steps: None or a whole number of steps, at least 1.
    """
    check_choice("scheme", scheme, SCHEMES)
    if scheme not in WRITTEN[format]:
        raise SettingError(
            f"scheme is {scheme!r}, which {format} files are not written in; take one of {', '.join(WRITTEN[format])}"
        )
    check_target(target, format=format)
    check_choice("state", state, STATES)
    if (format, state) == ("onnx", "internal"):
        raise SettingError("state is 'internal', and an ONNX file has no place to keep one; take state='external'")
    check_time_steps(time_steps)


def check_time_steps(time_steps):
    """Raise SettingError unless `time_steps` is None or a whole number of at least 1."""
    if time_steps is not None and (isinstance(time_steps, bool) or not isinstance(time_steps, int) or time_steps < 1):
        raise SettingError(f"time_steps is {time_steps!r}; expected a whole number of at least 1, or None")


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
    check_choice("io_dtype", io_dtype, IO_DTYPES)
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
    if isinstance(keep_float, str) or not all(isinstance(name, str) for name in keep_float):
        raise SettingError(f"keep_float is {keep_float!r}; expected a list of names of layers")
    if scheme == "float32" and keep_float:
        raise SettingError("scheme is 'float32', in which every layer stays float32; leave keep_float out")


def check_path(path, suffix):
    """Return `path` as a Path that a new file ending in `suffix` can be written to.

    Raises:
        SettingError: not a path, another ending, no such folder, a folder that cannot be written, or it exists.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise SettingError(f"path is {path!r}; expected the name of a file ending in {suffix}")
    path = Path(path)
    if path.is_dir():
        raise SettingError(f"{path} is a folder; name a file in it, such as {path / f'model{suffix}'}")
    if path.suffix != suffix:
        raise SettingError(f"{path} does not end in {suffix}; name the file {path.name or 'model'}{suffix}")
    if path.exists():
        raise SettingError(f"{path} exists already; remove it or choose another name")
    if not path.parent.is_dir():
        raise SettingError(f"there is no folder {path.parent} to write {path.name} to; create it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise SettingError(f"the folder {path.parent} cannot be written to; choose another for {path.name}")
    return path


def write(path, data):
    """Write the bytes `data` to `path`, whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        unfinished.write_bytes(data)
        os.replace(unfinished, path)
    except OSError as error:
        raise ExportError(f"{path} could not be written: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)
