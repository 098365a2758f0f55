"""The scheme `full_int8` of ONNX files: weights and what they are multiplied with in eight bits, ranges seen before."""

import numpy as np
import onnx

from zoo.export.onnx.dynamic_int8 import lookup, lstm, product
from zoo.export.onnx.graphs import Nodes
from zoo.export.onnx.rewriting import Rewriter, symmetric
from zoo.export.onnx.weights import SMALLEST, store_as_int8
from zoo.export.trace import FLOAT_SCOPE


def full_int8(graph, ranges, *, ends=()):
    """Bring the products of `graph` to integers, in place, by ranges seen on examples.

    What becomes int8: weights of at least `SMALLEST` numbers, symmetric, with one scale for each output channel; and by
    the ranges seen, with one scale for each tensor, what dense layers, the input projections of loops and the steps of
    unrolled layers multiply with them, and the inputs and results of convolutions. Within loops, and in LSTM, whose
    integer kernel takes it so, a step's factor has the range of the moment, as with `dynamic_int8`. GRU, SimpleRNN and
    every other cell is a loop or unrolled, as their ops have no integer kernel. What stays float32: gates, activations,
    norms and states, which ONNX Runtime has quicker so; biases; and all of a layer with `quantizable = False` or named
    in `keep_float`.

    What it costs: every weight and every factor moves by up to half a step of 1/255 of its range, and what lies outside
    the ranges seen is cut off. What it gives: a file of little more than a quarter, integer products, and no search
    for ranges outside of loops.

    Args:
        graph: tidied.
        ranges: {tensor: (least, greatest)} of what `calibrated` names, and of `ends`.
        ends: names of float32 inputs and outputs that are to be int8.

    Returns:
        {name: (scale, zero point)} of the ends.
    """
    rewriter, results = Rewriter(graph), _results(graph)
    grids = {name: _grid(*extent) for name, extent in ranges.items()}

    def on_grid(nodes, name, output=None):
        grid = [rewriter.constant(part, f"{name}/grid_{i}") for i, part in enumerate(grids[name])]
        small = nodes.add("QuantizeLinear", [f"{name}/exact" if output else name, *grid])
        return nodes.add("DequantizeLinear", [small, *grid], output and [output])

    def rewrite(node, nodes):
        if _is_convolution(rewriter, node) and node.input[0] in grids:  # within a loop nothing was seen of it
            _restore_convolution(rewriter, node, nodes, grids[node.input[0]][0])
            node.input[0] = on_grid(nodes, node.input[0])
        elif _is_product(rewriter, node):
            return product(rewriter, node, nodes, grids.get(node.input[0]))
        elif node.op_type in _MOMENTARY and _MOMENTARY[node.op_type](rewriter, node, nodes):
            return True
        else:
            store_as_int8(rewriter, node)
        made = onnx.NodeProto.FromString(node.SerializeToString())
        nodes.nodes.append(made)
        if made.output[0] in results:
            made.output[0] = f"{node.output[0]}/exact"
            on_grid(nodes, node.output[0], node.output[0])
        return True

    rewriter.each_node(rewrite)
    ends = {name: _grid(*ranges[name], np.int8) for name in ends}
    for name, grid in ends.items():
        _as_int8(graph, name, [rewriter.constant(part, f"{name}/end_{i}") for i, part in enumerate(grid)])
    return ends


def calibrated(graph):
    """Return the names of the tensors whose ranges `full_int8` needs, or that int8 must be able to hold, outermost."""
    rewriter, names = Rewriter(graph), list(_results(graph))
    for node in graph.node:
        kind = _is_convolution(rewriter, node) or _is_product(rewriter, node)
        if (kind or node.op_type == "LSTM") and FLOAT_SCOPE not in node.name:
            names.append(node.input[0])
    return list(dict.fromkeys(names))


_MOMENTARY = {"LSTM": lstm, "Gather": lookup}


def _is_convolution(rewriter, node):
    return node.op_type == "Conv" and rewriter.weights(node, 1) is not None


def _is_product(rewriter, node):
    value = rewriter.weights(node, 1) if node.op_type == "MatMul" else None
    return value is not None and value.ndim == 2 and value.size >= SMALLEST


def _results(graph):
    """Return the names of what convolutions give: after the activation, where one follows that integers can clip."""
    rewriter, names = Rewriter(graph), set()
    for node in graph.node:
        if _is_convolution(rewriter, node) and FLOAT_SCOPE not in node.name:
            readers = [other for other in graph.node if node.output[0] in other.input]
            clipped = len(readers) == 1 and readers[0].op_type in ("Relu", "Clip")
            names.add(readers[0].output[0] if clipped else node.output[0])
    return names


def _grid(least, greatest, dtype=np.uint8):
    """Return scale and zero point for values of this range, which holds zero; uint8 is what integer kernels are for."""
    scale, limits = np.float32(max(greatest - least, 1e-8) / 255), np.iinfo(dtype)
    return scale, np.clip(np.round(limits.min - least / scale), limits.min, limits.max).astype(dtype)


def _restore_convolution(rewriter, node, nodes, scale):
    """Let a convolution read its kernel from int8, and its bias from int32 on the grid of the sums."""
    kernel, bias = rewriter.weights(node, 1), rewriter.weights(node, 2)
    over = tuple(range(1, kernel.ndim))
    if bias is not None:
        step = (symmetric(kernel, over)[1].ravel() * scale).astype(np.float32)
        whole = rewriter.constant(np.round(bias / step).astype(np.int32), f"{node.name}/bias/int32")
        step = rewriter.constant(step, f"{node.name}/bias/scale")
        node.input[2] = nodes.add("DequantizeLinear", [whole, step], axis=0)
    small, name, channels = rewriter.int8(node.input[1], over)
    channels = rewriter.constant(channels.ravel(), f"{name}/channel_scale")
    node.input[1] = nodes.add("DequantizeLinear", [small, channels], axis=0)


def _as_int8(graph, name, grid):
    """Make an input or output of `graph` int8; `grid` names the constants of its scale and zero point."""
    nodes, exact = Nodes(name), f"{name}/end"
    for node in graph.node:
        node.input[:] = [exact if one == name else one for one in node.input]
        node.output[:] = [exact if one == name else one for one in node.output]
    value = next(value for value in (*graph.input, *graph.output) if value.name == name)
    value.type.tensor_type.elem_type = onnx.TensorProto.INT8
    if value in graph.input:
        nodes.add("DequantizeLinear", [name, *grid], [exact])
        graph.node.insert(0, nodes.nodes[0])
    else:
        nodes.add("QuantizeLinear", [exact, *grid], [name])
        graph.node.append(nodes.nodes[0])
