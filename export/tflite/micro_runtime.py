"""Run a file in TFLite Micro's own interpreter, in the converter's process: a kernel may end it."""

import os
import tempfile

import numpy as np

from zoo.errors import DataError, ExportError
from zoo.export import child
from zoo.export.tflite.flatbuffer import Editor, op_histogram

LARGEST_ARENA = 1 << 28  # bytes: beyond any microcontroller


def arena_size(path):
    """Return how many bytes of memory, the tensor arena, TFLite Micro needs for a file, rounded up to 16.

    Measured by loading the file into smaller and smaller arenas in TFLite Micro's own interpreter on this machine; a
    microcontroller, whose pointers are shorter, needs somewhat less.

    Args:
        path: a .tflite file.

    Raises:
        DataError: no such file, no TFLite file, or the package tflite-micro is missing.
        ExportError: TFLite Micro does not take the file.
    """
    op_histogram(path)  # refuses what is no TFLite file
    return child.run("tflite.micro_runtime:measure", path=str(path))


def run_micro(path, inputs):
    """Return what TFLite Micro answers to each of several invocations, one after the other.

    Args:
        path: a .tflite file.
        inputs: one list of arrays for each invocation, in the order of the file's inputs.

    Returns:
        One list of arrays for each invocation, in the order of the file's outputs.

    Raises:
        DataError, ExportError: as `arena_size`.
    """
    op_histogram(path)
    with tempfile.TemporaryDirectory(prefix="recurrent-zoo-") as folder:
        given, answered = f"{folder}/inputs.npz", f"{folder}/outputs.npz"
        np.savez(given, **{f"{n}_{i}": a for n, arrays in enumerate(inputs) for i, a in enumerate(arrays)})
        counts = child.run("tflite.micro_runtime:invoke", path=str(path), inputs=given, outputs=answered)
        with np.load(answered) as stored:
            return [[stored[f"{n}_{i}"] for i in range(count)] for n, count in enumerate(counts)]


def measure(path):
    """Return the size of the smallest arena in which the file at `path` loads and runs, a multiple of 16."""
    runtime, data = _runtime(), _read(path)
    _load(runtime, data, LARGEST_ARENA)  # says why if it does not load at all
    short, enough = 0, LARGEST_ARENA
    while enough - short > 16:
        middle = (short + enough) // 32 * 16
        if _fits(runtime, data, middle):
            enough = middle
        else:
            short = middle
    return enough


def _fits(runtime, data, arena):
    """Return whether the file loads and runs; tried in a fork, as TFLite Micro may crash where memory runs short."""
    process = os.fork()
    if not process:
        status = 1
        try:
            runtime.Interpreter.from_bytes(data, arena_size=arena).invoke()
            status = 0
        finally:
            os._exit(status)  # without what a process does at its end, which is the parent's
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def invoke(path, inputs, outputs):
    """Run the file at `path` on the arrays in `inputs` and write its answers to `outputs`; return how many each has."""
    interpreter = _load(_runtime(), _read(path), LARGEST_ARENA)
    count, answers, counts = len(Editor(_read(path)).model.subgraphs[0].outputs), {}, []
    with np.load(inputs) as stored:
        names = sorted(stored, key=lambda name: tuple(map(int, name.split("_"))))
        for number in dict.fromkeys(int(name.split("_")[0]) for name in names):
            for name in (name for name in names if name.startswith(f"{number}_")):
                interpreter.set_input(stored[name], int(name.split("_")[1]))
            interpreter.invoke()
            answers |= {f"{number}_{i}": interpreter.get_output(i) for i in range(count)}
            counts.append(count)
    np.savez(outputs, **answers)
    return counts


def _runtime():
    try:
        from tflite_micro.python.tflite_micro import runtime
    except ImportError:
        raise DataError("TFLite Micro's interpreter is missing; install it with: pip install tflite-micro") from None
    return runtime


def _read(path):
    with open(path, "rb") as file:
        return file.read()


def _load(runtime, data, arena):
    try:
        return runtime.Interpreter.from_bytes(data, arena_size=arena)
    except RuntimeError as error:
        raise ExportError(f"TFLite Micro does not take the file: {str(error).strip().splitlines()[-1]}") from error
