"""The int8 scheme of ONNX files."""

import tempfile
from pathlib import Path

import onnx
from onnxruntime import quantization

from zoo.export.onnx.conversion import quiet

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
            onnx.ModelProto.FromString(model.SerializeToString()),
            written,
            op_types_to_quantize=_OPS,
            nodes_to_exclude=sorted(keep_float),
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
        )
        return onnx.load(written)
