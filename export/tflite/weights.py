"""The schemes `float16` and `weight_int8`: smaller weights in the file, float32 arithmetic on the device."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from zoo.export.tflite.flatbuffer import ABSENT
from zoo.export.tflite.integer_ops import WEIGHTED
from zoo.export.tflite.integers import add_constant, symmetric
from zoo.export.trace import FLOAT_SCOPE

SMALLEST = 256  # numbers; a smaller constant saves no more than the op that restores it takes


def float16(editor):
    """Store the constants of the model in `editor` as float16, in place.

    What becomes float16: every constant of at least `SMALLEST` numbers, kernels, recurrent kernels, biases and tables
    alike, in the bodies of loops too. A `DEQUANTIZE` makes each float32 again, once, when the file is first run, so
    that all arithmetic is that of `float32`. What stays float32: all of a layer with `quantizable = False` or named in
    `keep_float`.

    What it costs: a weight keeps 11 bits, and moves by at most 1/2048 of itself. What it gives: a file of little more
    than half.
    """
    _store(editor, _as_float16)


def weight_int8(editor):
    """Store the constants of the model in `editor` as int8, in place.

    What becomes int8: every matrix, kernel and table of at least `SMALLEST` numbers, in the bodies of loops too;
    symmetric, with one scale for each output channel. A `DEQUANTIZE` makes each float32 again, once, when the file is
    first run, so that all arithmetic is in float32 and activations lose nothing. What stays float32: biases and
    peepholes, and all of a layer with `quantizable = False` or named in `keep_float`.

    What it costs: a weight moves by at most half a step, 1/254 of the largest of its channel. What it gives: a file of
    little more than a quarter, and answers nearer to the model's than those of `dynamic_int8`; on the device the
    weights take the memory that they take in float32.
    """
    _store(editor, _as_int8)


def _store(editor, smaller):
    """Replace each constant by what `smaller(editor, graph, index, operator)` returns, the index of a smaller one."""
    for graph in editor.model.subgraphs:
        restored, restoring = {}, []
        for operator in graph.operators:
            if any(FLOAT_SCOPE.encode() in graph.tensors[i].name for i in operator.outputs):
                continue
            for place, index in enumerate(operator.inputs):
                value = None if index == ABSENT else editor.constant(graph, index)
                if value is None or value.dtype != np.float32 or value.size < SMALLEST:
                    continue
                if FLOAT_SCOPE.encode() in graph.tensors[index].name:
                    continue
                key = value.tobytes(), value.shape
                if key not in restored:
                    source = smaller(editor, graph, index, operator)
                    restored[key] = index if source is None else _restore(editor, graph, index, source, restoring)
                operator.inputs[place] = restored[key]
        graph.operators = [*restoring, *graph.operators]


def _restore(editor, graph, index, source, restoring):
    """Append to `restoring` the op that makes `source` float32 again; return the index of its output."""
    tensor = graph.tensors[index]
    result = editor.add_tensor(graph, tensor.shape, f"{tensor.name.decode()}_restored")
    restoring.append(editor.operator("DEQUANTIZE", [source], [result], schema.DequantizeOptionsT(), version=3))
    return result


def _as_float16(editor, graph, index, operator):
    value = editor.constant(graph, index)
    largest = np.finfo(np.float16).max
    name = f"{graph.tensors[index].name.decode()}_float16"
    return editor.add_constant(graph, np.clip(value, -largest, largest).astype(np.float16), name)


def _as_int8(editor, graph, index, operator):
    value = editor.constant(graph, index)
    if value.ndim < 2:
        return None
    grid = symmetric(value, axis=WEIGHTED.get(editor.name(operator), 0))
    return add_constant(editor, graph, value, grid, f"{graph.tensors[index].name.decode()}_int8")
