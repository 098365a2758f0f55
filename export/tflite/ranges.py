"""The range of every number in a TFLite model, seen by running it on examples."""

import copy

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_litert.tools import flatbuffer_utils

from zoo.export.tflite.flatbuffer import ABSENT


class Ranges:
    """(least, greatest) of the float tensors of a model, {(graph, tensor): pair}; what never had a value is absent.

    The bodies of loops are run step by step as models of their own, as a runtime shows no more than their last turn;
    the cell state of a fused LSTM, which stays in the op, is computed here.

    Args:
        editor: the float model.
    """

    def __init__(self, editor):
        self.editor = editor
        self._pairs = {}  # (graph, tensor): (least, greatest)
        self._runs = {}

    def see(self, inputs):
        """Run the model on the `inputs` of one invocation, a list of arrays; return its outputs likewise."""
        return self._see(0, inputs)

    def __getitem__(self, key):
        return self._pairs[key]

    def __contains__(self, key):
        return key in self._pairs

    def widen(self, key, *pairs):
        """Let the range of `key` hold those of `pairs` too."""
        lows, highs = zip(*pairs, *([self._pairs[key]] if key in self._pairs else []), strict=True)
        self._pairs[key] = (float(np.min(lows)), float(np.max(highs)))  # NaN, if any is

    def _see(self, index, inputs):
        """Run graph `index`, note what is seen, and return its outputs."""
        graph, run = self.editor.model.subgraphs[index], self._run_of(index)
        values = run(inputs)
        final = {}
        for operator in graph.operators:
            kind = self.editor.name(operator)
            if kind == "WHILE":
                left = self._see_loop(operator, [values(i) for i in operator.inputs])
                final |= zip(operator.outputs, left, strict=True)  # of which the runtime keeps only what is read
            elif kind == "UNIDIRECTIONAL_SEQUENCE_LSTM":
                self._see_cell(index, operator, values)
        for tensor in {*graph.inputs, *(i for operator in graph.operators for i in operator.outputs)}:
            if graph.tensors[tensor].type == schema.TensorType.FLOAT32:
                value = final[tensor] if tensor in final else values(tensor)
                if value.size:
                    self.widen((index, tensor), (float(value.min()), float(value.max())))
        return [values(i) for i in graph.outputs]

    def _see_loop(self, operator, carried):
        condition, body = operator.builtinOptions.condSubgraphIndex, operator.builtinOptions.bodySubgraphIndex
        while self._see(condition, carried)[0]:
            carried = self._see(body, carried)
        return carried

    def _see_cell(self, index, operator, values):
        """Note what an LSTM keeps to itself, from its formula: its cell state, and its output before a projection."""
        graph, inputs = self.editor.model.subgraphs[index], list(operator.inputs)
        x, *weights = [None if i == ABSENT else values(i).astype("float64") for i in inputs[:17]]
        hidden, cell = (self._initial(graph, state, values) for state in inputs[18:20])
        for memory, shown in _lstm_steps(x, weights, hidden, cell):
            self.widen((index, inputs[19]), (float(memory.min()), float(memory.max())))
            self.widen((index, operator.intermediates[4]), (float(shown.min()), float(shown.max())))

    def _initial(self, graph, state, values):
        """Return what a state held before the op ran: the value that the op before it wrote there."""
        shape = values(state).shape
        writer = next((operator for operator in graph.operators if state in operator.outputs), None)
        return np.zeros(shape) if writer is None else np.broadcast_to(values(writer.inputs[0]), shape)

    def _run_of(self, index):
        """Return a function that runs graph `index` and returns a function from tensor to its value."""
        if index not in self._runs:
            interpreter = Interpreter(
                model_content=_alone(self.editor, index),
                num_threads=1,
                experimental_preserve_all_tensors=True,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            interpreter.allocate_tensors()
            places = list(self.editor.model.subgraphs[index].inputs)

            def run(inputs):
                for place, value in zip(places, inputs, strict=True):
                    interpreter.set_tensor(place, value)
                interpreter.invoke()
                return interpreter.get_tensor

            self._runs[index] = run
        return self._runs[index]


def _alone(editor, index):
    """Return the bytes of a model that is graph `index` alone, with the graphs of its own loops, numbered as before."""
    model = copy.copy(editor.model)
    model.subgraphs = list(editor.model.subgraphs)
    if index:
        model.signatureDefs = []
        model.subgraphs[0] = editor.model.subgraphs[index]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _lstm_steps(x, weights, hidden, cell):
    """Yield at each step the cell state of a fused LSTM, and its output before a projection.

    Args:
        x: (batch, time, features).
        weights: inputs 1 to 16 of the op: W and R of i f c o, p of i f o, b of i f c o, projection; None where absent.
        hidden: what the state holds before the first step, (batch, size); `cell` likewise, (batch, units).
    """
    kernels, recurrent, biases, projection = weights[:4], weights[4:8], weights[11:15], weights[15]
    p_i, p_f, p_o = (0 if p is None else p for p in weights[8:11])
    for step in range(x.shape[1]):
        i, f, c, o = (
            None if w is None else x[:, step] @ w.T + hidden @ r.T + b
            for w, r, b in zip(kernels, recurrent, biases, strict=True)
        )
        forget = _sigmoid(f + p_f * cell)
        write = 1 - forget if i is None else _sigmoid(i + p_i * cell)  # coupled, where the op has no input gate
        cell = forget * cell + write * np.tanh(c)
        hidden = shown = _sigmoid(o + p_o * cell) * np.tanh(cell)
        if projection is not None:
            hidden = shown @ projection.T
        yield cell, shown


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))
