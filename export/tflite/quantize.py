"""The scheme `dynamic_int8`: weights in eight bits, everything else as it was."""

import numpy as np

from zoo.export.tflite.flatbuffer import ABSENT
from zoo.export.tflite.integers import add_constant, symmetric
from zoo.export.trace import FLOAT_SCOPE

SMALLEST = 1024  # weights; below, an op gains nothing in eight bits, in size or in time

# Weights of an op as {input: axis that has a scale for each of its places, None for one scale in all}, the version of
# the op that takes them in int8 beside float activations, and the sizes of quantised activations it chooses from.
_KINDS = {
    "FULLY_CONNECTED": ({1: 0}, 12),
    "CONV_2D": ({1: 0}, 5),
    "DEPTHWISE_CONV_2D": ({1: 3}, 6),
    "GATHER": ({0: None}, 2),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (dict.fromkeys([*range(1, 12), 16]), 3),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (dict.fromkeys((1, 2)), 3),
}


def dynamic_int8(editor):
    """Store the weights of the model in `editor` as int8, in place.

    What becomes int8: kernels of dense, convolutional and embedding layers, kernels, recurrent kernels, peepholes and
    projections of fused recurrent layers, and the same within the bodies of loops, wherever an op has at least
    `SMALLEST` weights. Symmetric, with one scale for each output channel where the op takes that (dense, convolution),
    else one for each matrix. What stays float32: inputs, outputs, biases, states, and all of a layer with
    `quantizable = False` or named in `keep_float`. Inside an op, activations are brought to int8 by the range that they
    have at that moment.

    What it costs: a weight moves by at most half a step, 1/254 of the largest of its scale, and each activation
    likewise; TFLite Micro cannot run it. What it gives: a file of little more than a quarter.
    """
    for graph in editor.model.subgraphs:
        operators, quantised = [], {}
        for operator in graph.operators:
            operators += [operator, *_quantize(editor, graph, operator, quantised)]
        graph.operators = operators


def _quantize(editor, graph, operator, quantised):
    """Give `operator` int8 weights if it takes them; return the ops that must follow it.

    `quantised`, {(content of a constant, axis of scales): its twin}, holds what ops share, such as the steps in a loop.
    """
    name = editor.name(operator)
    weights, version = _KINDS.get(name, ({}, None))
    places = {
        place: axis
        for place, axis in weights.items()
        if operator.inputs[place] != ABSENT and _float_constant(editor, graph, operator.inputs[place]) is not None
    }
    size = sum(editor.constant(graph, operator.inputs[place]).size for place in places)
    names = [graph.tensors[i].name for i in [*operator.outputs, *(operator.inputs[place] for place in places)]]
    if size < SMALLEST or any(FLOAT_SCOPE.encode() in name for name in names):
        return []
    for place, axis in places.items():
        index = operator.inputs[place]
        value = editor.constant(graph, index)
        key = value.tobytes(), value.shape, axis
        if key not in quantised:
            label = f"{graph.tensors[index].name.decode()}_int8"
            quantised[key] = add_constant(editor, graph, value, symmetric(value, axis=axis), label)
        operator.inputs[place] = quantised[key]
    editor.set_version(operator, version)
    if name == "GATHER":
        return [_dequantize(editor, graph, operator)]
    if hasattr(operator.builtinOptions, "asymmetricQuantizeInputs"):
        operator.builtinOptions.asymmetricQuantizeInputs = True
    return []


def _float_constant(editor, graph, index):
    value = editor.constant(graph, index)
    return value if value is not None and value.dtype == np.float32 else None


def _dequantize(editor, graph, gather):
    """Let `gather` give int8, as its table is, and return the op that makes its output float again."""
    (output,) = gather.outputs
    table = graph.tensors[gather.inputs[0]]
    shape = graph.tensors[output].shape
    small = editor.add_tensor(graph, [] if shape is None else shape, "rows", dtype="int8")
    graph.tensors[small].shapeSignature = graph.tensors[output].shapeSignature
    graph.tensors[small].quantization = table.quantization
    gather.outputs = [small]
    return editor.operator("DEQUANTIZE", [small], [output], version=2)
