"""Read ONNX files, those of strangers included."""

from collections import Counter

import onnx
from google.protobuf.message import DecodeError

from zoo.errors import VerifyError
from zoo.export.contents import file_at, read_bytes
from zoo.export.onnx.graphs import subgraphs


def read_model(path):
    """Read an ONNX file without following what it refers to.

    Args:
        path: the file.

    Returns:
        `onnx.ModelProto`; tensors that the file keeps in files beside it are not loaded.

    Raises:
        DataError: no such file.
        VerifyError: no ONNX model, a damaged one, or one that refers to a file outside its own folder.
    """
    path = file_at(path, "an ONNX model")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(read_bytes(path))
    except DecodeError:
        raise VerifyError(f"{path} is damaged or no ONNX file: it cannot be parsed; export it again") from None
    if not model.ir_version or not model.opset_import or not model.graph.output:
        raise VerifyError(f"{path} is no ONNX model: it names no version or gives no output; export it again")
    folder = path.resolve().parent
    for name, location in _external(model):
        target = (folder / location).resolve()
        if not target.is_relative_to(folder):
            raise VerifyError(f"{path} keeps tensor {name!r} in {location!r}, outside its folder; do not run this file")
    return model


def op_histogram(path):
    """Count the operations of an ONNX file, those inside of loops and branches included.

    Args:
        path: the file.

    Returns:
        {name: count}, sorted by name; an op of another domain than ONNX's own is named "domain.Name".

    Raises:
        DataError, VerifyError: as `read_model`.
    """
    model = read_model(path)
    nodes = [node for graph in subgraphs(model.graph) for node in graph.node]
    nodes += [node for function in model.functions for node in _function_nodes(function)]
    counts = Counter(f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in nodes)
    return dict(sorted(counts.items()))


def _function_nodes(function):
    body = onnx.GraphProto(node=function.node)
    return [node for graph in subgraphs(body) for node in graph.node]


def _external(model):
    """Return (name, location) of every tensor that is kept outside the file."""
    found = []
    for graph in [*subgraphs(model.graph), *(onnx.GraphProto(node=f.node) for f in model.functions)]:
        tensors = [*graph.initializer, *(t for s in graph.sparse_initializer for t in (s.values, s.indices))]
        for node in graph.node:
            for attribute in node.attribute:
                tensors += [attribute.t, *attribute.tensors]
        for tensor in tensors:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                entries = {entry.key: entry.value for entry in tensor.external_data}
                found.append((tensor.name, entries.get("location", "")))
    return found
