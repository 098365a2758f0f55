"""Run a float ONNX model on representative examples and note how far its activations reach."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx.helper import tensor_dtype_to_np_dtype

from zoo.export import child
from zoo.export.onnx.graphs import Nodes
from zoo.export.representative import check_range
from zoo.export.session import NEXT

EXAMPLES_AT_ONCE = 32


def seen_ranges(model, names, examples, states=()):
    """Return {name: (least, greatest)} of float tensors of the outermost graph; zero is in every range.

    The runtime is native code, and the model may be anybody's: it runs in the converter's process.

    Args:
        model: the bytes of an ONNX model.
        names: of the tensors.
        examples: {input name: array}, the first axis counting examples.
        states: names of inputs that are states, zeros before the first chunk of an example.

    Raises:
        DataError: the model computes no number from them that int8 can stand for.
        CrashError: the runtime crashes on the model.
    """
    with tempfile.TemporaryDirectory(prefix="recurrent-zoo-") as folder:
        Path(folder, "model.onnx").write_bytes(model)
        np.savez(f"{folder}/examples.npz", **{f"input_{i}": array for i, array in enumerate(examples.values())})
        names = {"names": list(names), "inputs": list(examples), "states": list(states)}
        return child.run("onnx.ranges:measure", folder=folder, **names)


def measure(folder, names, inputs, states):
    """Do what `seen_ranges` asks for, with its files in `folder`."""
    with np.load(f"{folder}/examples.npz") as stored:
        examples = {name: stored[f"input_{i}"] for i, name in enumerate(inputs)}
    model = onnx.ModelProto.FromString(Path(folder, "model.onnx").read_bytes())
    nodes, watches = Nodes("watch"), {}
    for name in names:
        for op in ("ReduceMin", "ReduceMax"):
            watches[nodes.add(op, [name], keepdims=0)] = name
    model.graph.node.extend(nodes.nodes)
    scalars = [onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, []) for output in watches]
    model.graph.output.extend(scalars)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ranges = dict.fromkeys(names, (0.0, 0.0))
    for values in _runs(session, model.graph, examples, states, list(watches)):
        for name, value in zip(watches.values(), values, strict=True):
            low, high = ranges[name]
            ranges[name] = float(np.minimum(low, value)), float(np.maximum(high, value))  # NaN, if any is
    for name, pair in ranges.items():
        check_range(name, *pair)
    return ranges


def _runs(session, graph, examples, states, outputs):
    """Yield the values of `outputs` at each run: all examples, chunk after chunk where the model keeps states."""
    shapes = {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim] for value in graph.input}
    types = {value.name: tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type) for value in graph.input}
    for start in range(0, len(next(iter(examples.values()))), EXAMPLES_AT_ONCE):
        batch = {name: array[start : start + EXAMPLES_AT_ONCE] for name, array in examples.items()}
        size = len(next(iter(batch.values())))
        before = [np.zeros([size, *shapes[name][1:]], types[name]) for name in states]
        for chunk in _chunks(batch, shapes) if states else [batch]:
            values = session.run(
                [*outputs, *(f"{name}{NEXT}" for name in states)], {**chunk, **dict(zip(states, before, strict=True))}
            )
            before = values[len(outputs) :]
            yield values[: len(outputs)]


def _chunks(batch, shapes):
    """Yield pieces along the second axis, as long as the model takes them; what has none goes whole into each."""
    pieces = max(array.shape[1] // shapes[name][1] for name, array in batch.items() if array.ndim > 1)
    for k in range(pieces):
        yield {
            name: array[:, k * shapes[name][1] : (k + 1) * shapes[name][1]] if array.ndim > 1 else array
            for name, array in batch.items()
        }
