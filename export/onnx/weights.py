"""The schemes `float16` and `weight_int8` of ONNX files: smaller weights in the file, float32 arithmetic."""

import numpy as np
import onnx

from zoo.export.onnx.rewriting import Rewriter

SMALLEST = 256  # numbers; a smaller constant saves no more than the nodes that restore it take

# Weights of an op as {input: axes that share one scale}: those that a product sums over, so that every output has one.
_SUMMED = {
    "Conv": {1: slice(1, None)},
    "ConvTranspose": {1: slice(0, 1)},
    "GRU": {1: slice(2, 3), 2: slice(2, 3)},
    "Gather": {0: slice(0, 1)},
    "LSTM": {1: slice(2, 3), 2: slice(2, 3)},
    "MatMul": {0: slice(-1, None), 1: slice(-2, -1)},
    "RNN": {1: slice(2, 3), 2: slice(2, 3)},
}


def float16(graph):
    """Store the constants of `graph` as float16, in place.

    What becomes float16: every constant of at least `SMALLEST` numbers, kernels, recurrent kernels, biases and tables
    alike, those that bodies of loops read too. A `Cast` makes each float32 again, which ONNX Runtime does once, when it
    loads the file, so that all arithmetic is that of `float32` and runs wherever that does: few processors have float16
    kernels. What stays float32: inputs, outputs, all of a layer with `quantizable = False` or named in `keep_float`.

    What it costs: a weight keeps 11 bits, and moves by at most 1/2048 of itself. What it gives: a file of little more
    than half.
    """
    rewriter, largest = Rewriter(graph), np.finfo(np.float16).max

    def rewrite(node, nodes):
        for place, name in enumerate(node.input):
            value = rewriter.weights(node, place)
            if value is not None and value.size >= SMALLEST:
                small = rewriter.constant(np.clip(value, -largest, largest).astype(np.float16), f"{name}/float16")
                node.input[place] = rewriter.once("Cast", [small], f"{name}/restored", to=onnx.TensorProto.FLOAT)
        return False

    rewriter.each_node(rewrite)


def weight_int8(graph):
    """Store the weights of `graph` as int8, in place.

    What becomes int8: kernels, recurrent kernels and tables of at least `SMALLEST` numbers, those that bodies of loops
    read too; symmetric, with one scale for each output channel, of each gate in each direction. Two nodes make each
    float32 again, which ONNX Runtime does once, when it loads the file, so that all arithmetic is in float32 and as
    quick. What stays float32: biases and peepholes, activations, and all of a layer with `quantizable = False` or named
    in `keep_float`.

    What it costs: a weight moves by at most half a step, 1/254 of the largest of its channel. What it gives: a file of
    little more than a quarter; in the device's memory the weights are as large as in float32.
    """
    rewriter = Rewriter(graph)

    def rewrite(node, nodes):
        store_as_int8(rewriter, node)
        return False

    rewriter.each_node(rewrite)


def store_as_int8(rewriter, node):
    """Let `node` read its weights from int8 constants, restored to float32."""
    for place, axes in _SUMMED.get(node.op_type, {}).items():
        value = rewriter.weights(node, place)
        if value is None or value.size < SMALLEST or value.ndim < 2:
            continue
        small, name, scale = rewriter.int8(node.input[place], tuple(range(value.ndim)[axes]))
        # Not DequantizeLinear, which ONNX Runtime takes for a mark of its integer ops and computes anew at every run.
        wide = rewriter.once("Cast", [small], f"{name}/wide", to=onnx.TensorProto.FLOAT)
        scale = rewriter.constant(scale, f"{name}/scale")
        node.input[place] = rewriter.once("Mul", [wide, scale], f"{name}/restored")
