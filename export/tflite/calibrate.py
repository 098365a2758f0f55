"""Run a float model on representative examples, in batches and chunks as the file takes them."""

import numpy as np

from zoo.export.tflite.flatbuffer import NUMPY, shape_of
from zoo.export.tflite.ranges import Ranges


def calibrate(editor, examples, states):
    """Return the `Ranges` of the model in `editor` over all examples.

    Args:
        editor: the float model, whose signature names its ends input_0, ..., output_0, ....
        examples: file of arrays input_0, ..., the first axis counting examples.
        states: how many of the last inputs and outputs are states, zeros before the first chunk of an example.
    """
    graph, signature = editor.model.subgraphs[0], editor.model.signatureDefs[0]
    inputs, outputs = (
        [
            graph_ends.index(end.tensorIndex)
            for end in sorted(ends, key=lambda end: int(end.name.decode().split("_")[1]))
        ]
        for graph_ends, ends in ((list(graph.inputs), signature.inputs), (list(graph.outputs), signature.outputs))
    )
    shapes = [shape_of(graph.tensors[i]) for i in graph.inputs]
    ranges = Ranges(editor)
    with np.load(examples) as stored:
        arrays = [stored[f"input_{i}"] for i in range(len(inputs) - states)]
    for batch in _batches(arrays, shapes[inputs[0]][0]):
        before = [np.zeros(shapes[i], NUMPY[graph.tensors[graph.inputs[i]].type]) for i in inputs[len(arrays) :]]
        for chunk in _chunks(batch, [shapes[i] for i in inputs]):
            values = [None] * len(inputs)
            for place, value in zip(inputs, [*chunk, *before], strict=True):
                values[place] = value
            said = ranges.see(values)
            before = [said[i] for i in outputs[len(outputs) - states :]]
    return ranges


def _batches(arrays, size):
    """Yield the examples `size` at a time; the last are filled up with the first."""
    count = len(arrays[0])
    for start in range(0, count, size):
        yield [array[np.arange(start, start + size) % count] for array in arrays]


def _chunks(arrays, shapes):
    """Yield pieces along the second axis, as long as the shapes have it; arrays that fit go whole into each."""
    pieces = [1] + [a.shape[1] // s[1] for a, s in zip(arrays, shapes, strict=False) if len(s) > 1 and s[1]]
    for k in range(max(pieces)):
        yield [
            a if a.shape == tuple(s) else a[:, k * s[1] : (k + 1) * s[1]] for a, s in zip(arrays, shapes, strict=False)
        ]
