"""The scheme `dynamic_int8` of ONNX files: weights in eight bits, activations in the range they have at that moment."""

import numpy as np
import onnx

from zoo.export.onnx.rewriting import Rewriter, symmetric
from zoo.export.onnx.weights import SMALLEST, store_as_int8

MICROSOFT = "com.microsoft"  # domain of the ops that ONNX Runtime adds to ONNX


def dynamic_int8(graph):
    """Bring the weights of `graph` to int8, in place, and its products to integers where ONNX Runtime has them so.

    What becomes int8: weights of at least `SMALLEST` numbers, symmetric, with one scale for each output channel.
    Products with a matrix (Dense and the like, the input projections and the steps of loops) and LSTM compute in
    integers: activations are brought to eight bits by the range that they have at that moment, and the results are
    float32. Embeddings are looked up in int8. Convolutions, GRU and SimpleRNN as ops of their own have no such kernel:
    their weights are stored in int8 and restored, as `weight_int8` does. What stays float32: biases, peepholes, states,
    inputs, outputs, and all of a layer with `quantizable = False` or named in `keep_float`.

    What it costs: a weight moves by at most half a step, 1/254 of the largest of its channel, and each activation
    likewise; x86 processors without VNNI add products in pairs that can overflow where both are near their largest.
    What it gives: a file of little more than a quarter, and for wide layers less time.
    """
    rewriter = Rewriter(graph)
    kinds = {"MatMul": product, "LSTM": lstm, "Gather": lookup}

    def rewrite(node, nodes):
        kind = kinds.get(node.op_type)
        if kind is not None and kind(rewriter, node, nodes):
            return True
        store_as_int8(rewriter, node)
        return False

    rewriter.each_node(rewrite)


def product(rewriter, node, nodes, grid=None):
    """Add a product of integers to `nodes` in place of `node`, which has a matrix as its second factor; say whether.

    The first factor has the range that it has at that moment, or is brought to `grid`, its scale and zero point.
    """
    value = rewriter.weights(node, 1)
    if value is None or value.ndim != 2 or value.size < SMALLEST:
        return False
    weights, name, scale = rewriter.int8(node.input[1], (0,))
    zero = rewriter.constant(np.zeros(value.shape[1], np.int8), f"{name}/zero")
    if grid is None:
        small, moment, shift = (f"{node.name}/{part}" for part in ("small", "scale", "shift"))
        nodes.add("DynamicQuantizeLinear", node.input[:1], [small, moment, shift])
        scale = nodes.add("Mul", [moment, rewriter.constant(scale.ravel(), f"{name}/column_scale")])
    else:
        constants = [rewriter.constant(part, f"{node.input[0]}/grid_{i}") for i, part in enumerate(grid)]
        small, shift = nodes.add("QuantizeLinear", [node.input[0], *constants]), constants[1]
        scale = rewriter.constant(scale.ravel() * grid[0], f"{node.name}/scale")
    # Integers by name: between DequantizeLinear nodes, ONNX Runtime may join product and bias to one of floats. In this
    # order, as it makes one op of all of these when it loads the file.
    sums = nodes.add("MatMulInteger", [small, weights, shift, zero])
    wide = nodes.add("Cast", [sums], to=onnx.TensorProto.FLOAT)
    nodes.add("Mul", [wide, scale], list(node.output))
    return True


def lstm(rewriter, node, nodes):
    """Add the op with integer weights to `nodes` in place of the LSTM `node`, and say whether."""
    arguments, quantised = list(node.input) + [""] * (8 - len(node.input)), []
    for place in (1, 2):
        if rewriter.weights(node, place) is None:
            return False
        small, scale = symmetric(rewriter.weights(node, place), (2,))  # (directions, gates * units, inputs)
        name = f"{node.input[place]}/transposed"
        arguments[place] = rewriter.constant(small.transpose(0, 2, 1), f"{name}/int8")
        quantised.append(rewriter.constant(scale[..., 0], f"{name}/scale"))
        quantised.append(rewriter.constant(np.zeros(small.shape[:2], np.int8), f"{name}/zero"))
    nodes.add("DynamicQuantizeLSTM", [*arguments, *quantised], list(node.output), domain=MICROSOFT)
    nodes.nodes[-1].attribute.extend(node.attribute)
    return True


def lookup(rewriter, node, nodes):
    """Add a lookup in a table of integers to `nodes` in place of the Gather `node`, and say whether."""
    value = rewriter.weights(node, 0)
    if (
        value is None
        or value.ndim != 2
        or value.size < SMALLEST
        or any(a.name == "axis" and a.i for a in node.attribute)
    ):
        return False
    table, name, scale = rewriter.int8(node.input[0], (0,))
    rows = nodes.add("Gather", [table, node.input[1]])
    scale = rewriter.constant(scale.ravel(), f"{name}/column_scale")
    nodes.add("DequantizeLinear", [rows, scale], list(node.output), axis=-1)
    return True
