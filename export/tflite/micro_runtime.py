"""Run a file in TFLite Micro's own interpreter, in the converter's process: a kernel may end it."""

import os
import tempfile

import numpy as np

from zoo.errors import DataError, ExportError
from zoo.export import child
from zoo.export.session import to_floats, to_integers
from zoo.export.tflite.flatbuffer import NUMPY, Editor, op_histogram

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
    return child.run("tflite.micro_runtime:measure", path=os.path.abspath(path))


def run_micro(path, inputs):
    """Return what TFLite Micro answers to each of several invocations, one after the other.

    Numbers go in and come out as they are, also where the file holds them as integers with a scale.

    Args:
        path: a .tflite file.
        inputs: one {input name: array} for each invocation.

    Returns:
        One {output name: array} for each invocation.

    Raises:
        DataError, ExportError: as `arena_size`.
    """
    op_histogram(path)
    with tempfile.TemporaryDirectory(prefix="recurrent-zoo-") as folder:
        given, answered = f"{folder}/inputs.npz", f"{folder}/outputs.npz"
        np.savez(given, **{f"{n}/{name}": a for n, arrays in enumerate(inputs) for name, a in arrays.items()})
        names = child.run("tflite.micro_runtime:invoke", path=os.path.abspath(path), inputs=given, outputs=answered)
        with np.load(answered) as stored:
            return [{name: stored[f"{n}/{name}"] for name in names} for n in range(len(inputs))]


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
    """Run the file at `path` on the arrays in `inputs`, write its answers to `outputs`, return their names."""
    graph = Editor(_read(path)).model.subgraphs[0]
    takes, gives = ([_detail(graph.tensors[i]) for i in ends] for ends in (graph.inputs, graph.outputs))
    interpreter, answers = _load(_runtime(), _read(path), LARGEST_ARENA), {}
    with np.load(inputs) as stored:
        for number in range(len(stored.files) // len(takes)):
            for place, detail in enumerate(takes):
                array = stored[f"{number}/{detail['name']}"]
                interpreter.set_input(to_integers(array, detail).astype(detail["dtype"]), place)
            interpreter.invoke()
            for place, detail in enumerate(gives):
                answers[f"{number}/{detail['name']}"] = to_floats(interpreter.get_output(place), detail)
    np.savez(outputs, **answers)
    return [detail["name"] for detail in gives]


def _detail(tensor):
    """Return name, type and scale of a tensor as LiteRT describes them."""
    found = tensor.quantization
    grid = (found.scale[0], found.zeroPoint[0]) if found is not None and found.scale is not None else (0, 0)
    return {"name": tensor.name.decode(), "dtype": NUMPY[tensor.type], "quantization": grid}


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
