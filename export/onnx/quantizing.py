"""The int8 scheme of ONNX files."""

import tempfile
from pathlib import Path

import onnx
from onnxruntime import quantization

from zoo.export.onnx.conversion import quiet
from zoo.export.onnx.graphs import subgraphs

DOMAIN = "com.microsoft"  # of DynamicQuantizeLSTM
_OPS = ["LSTM", "MatMul", "Gather"]  # what ONNX Runtime runs in int8 with scales taken as the values come


def dynamic_int8(model, keep_float):
    """Return `model` with int8 weights in LSTM, matrix products and embeddings.

    Args:
        model: `onnx.ModelProto`, left as it is.
        keep_float: names of the nodes to leave in float32.
    """
    with quiet(), tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "quantised.onnx"
        quantization.quantize_dynamic(
            _with_own_constants(model),
            written,
            op_types_to_quantize=_OPS,
            nodes_to_exclude=sorted(keep_float),
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
        )
        return onnx.load(written)


def _with_own_constants(model):
    """Return a copy of `model` whose nodes share no constant: the quantiser would quantise a shared one for all."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    constants = {constant.name: constant for constant in model.graph.initializer}
    taken = {name for part in subgraphs(model.graph)[1:] for node in part.node for name in node.input}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name in taken and name in constants:
                copy = onnx.TensorProto.FromString(constants[name].SerializeToString())
                copy.name = node.input[place] = f"{node.name}/own_{place}"
                model.graph.initializer.append(copy)
            elif name in constants:
                taken.add(name)
    return model
