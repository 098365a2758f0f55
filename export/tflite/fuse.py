"""Turn the custom ops that stand for recurrent layers into TFLite's own, which start afresh at every invocation.

TFLite's recurrent ops keep their states between invocations, in variable tensors. Here each of these tensors is the
output of an op that runs before: it writes zeros, or the initial state that the model computes, so that the file has no
memory and needs no `reset_all_variables`. These ops depend on the sequence, as a runtime may compute what depends on
constants only once and for all.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from zoo.errors import ExportError
from zoo.export.tflite.flatbuffer import ABSENT, shape_of

LSTM, RNN = "zoo_lstm", "zoo_rnn"
_TANH = schema.ActivationFunctionType.TANH


def fuse(editor):
    """Replace every marked custom op of the model in `editor`, in place."""
    makers = {f"CUSTOM:{LSTM}": _lstm, f"CUSTOM:{RNN}": _rnn}
    for graph in editor.model.subgraphs:
        operators = []
        for operator in graph.operators:
            maker = makers.get(editor.name(operator))
            operators += [operator] if maker is None else maker(editor, graph, operator)
        graph.operators = operators


def _lstm(editor, graph, marked):
    *inputs, hidden, cell = _present(graph, marked.inputs)
    resets, (hidden_state, cell_state) = _reset(editor, graph, inputs[0], {"hidden": hidden, "cell": cell})
    options = schema.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction = _TANH
    outputs, final_cell = marked.outputs
    norms = [ABSENT] * 4
    fused = editor.operator(
        "UNIDIRECTIONAL_SEQUENCE_LSTM", [*inputs, hidden_state, cell_state, *norms], [outputs], options
    )
    # A calibrator wants these five to exist, TFLite Micro wants them empty.
    fused.intermediates = [editor.add_tensor(graph, [0], f"intermediate_{i}") for i in range(5)]
    return [*resets, fused, *_read_state(editor, graph, outputs, cell_state, final_cell)]


def _rnn(editor, graph, marked):
    *inputs, hidden = _present(graph, marked.inputs)
    resets, (state,) = _reset(editor, graph, inputs[0], {"hidden": hidden})
    options = schema.SequenceRNNOptionsT()
    options.fusedActivationFunction = _TANH
    return [*resets, editor.operator("UNIDIRECTIONAL_SEQUENCE_RNN", [*inputs, state], marked.outputs, options)]


def _present(graph, inputs):
    """Return the indices in `inputs` with ABSENT for those of size 0, which stand for what the layer has not."""
    return [ABSENT if shape_of(graph.tensors[i]) == (0,) else i for i in inputs]


def _reset(editor, graph, sequences, initial):
    """Return the ops that write the tensors `initial`, {name: index}, into states, and the indices of the states."""
    options = schema.StridedSliceOptionsT()
    options.shrinkAxisMask = 1
    ends = [editor.add_constant(graph, np.array(end, "int32"), "corner") for end in ([0, 0, 0], [1, 1, 1], [1, 1, 1])]
    corner, zero = (editor.add_tensor(graph, [1, 1], name) for name in ("corner", "zero"))
    operators = [
        editor.operator("STRIDED_SLICE", [sequences, *ends], [corner], options),
        editor.operator("ZEROS_LIKE", [corner], [zero], schema.ZerosLikeOptionsT()),
    ]
    states = []
    for name, source in initial.items():
        shape = shape_of(graph.tensors[source])
        value = editor.constant(graph, source)
        if value is not None and not value.any():
            source = zero
        elif value is not None:
            summed = editor.add_tensor(graph, shape, f"initial_{name}")
            operators.append(editor.operator("ADD", [zero, source], [summed], schema.AddOptionsT()))
            source = summed
        states.append(editor.add_tensor(graph, shape, f"{name}_state", variable=True))
        size = editor.add_constant(graph, np.array(shape, "int32"), f"{name}_shape")
        # Copies even where nothing is broadcast, and no delegate makes it share the memory of its input.
        operators.append(
            editor.operator("BROADCAST_TO", [source, size], states[-1:], schema.BroadcastToOptionsT(), version=2)
        )
    return operators, states


def _read_state(editor, graph, outputs, state, final):
    """Return the ops that copy `state` into the tensor `final` once `outputs` exist; none if nobody reads it."""
    readers = [i for operator in graph.operators for i in operator.inputs] + list(graph.outputs)
    if final not in readers:
        return []
    # Joined with the last output, so that no partition of the graph can read the state before the op has run.
    batch, units = shape_of(graph.tensors[state])
    width = shape_of(graph.tensors[outputs])[-1]  # that of a projection is not `units`
    options = schema.StridedSliceOptionsT()
    options.shrinkAxisMask, options.beginMask, options.endMask = 2, 5, 5
    ends = [editor.add_constant(graph, np.array(end, "int32"), "last") for end in ([0, -1, 0], [0, 0, 0], [1, 1, 1])]
    last = editor.add_tensor(graph, [batch, width], "last")
    joined = editor.add_tensor(graph, [batch, width + units], "last_and_state")
    joining = schema.ConcatenationOptionsT()
    joining.axis = 1
    part = [editor.add_constant(graph, np.array(place, "int32"), "part") for place in ([0, width], [batch, units])]
    return [
        editor.operator("STRIDED_SLICE", [outputs, *ends], [last], options),
        editor.operator("CONCATENATION", [last, state], [joined], joining),
        editor.operator("SLICE", [joined, *part], [final], schema.SliceOptionsT()),
    ]


def check_builtin(editor):
    """Raise ExportError if the model needs an op that TFLite does not bring along."""
    for graph in editor.model.subgraphs:
        for operator in graph.operators:
            name = editor.name(operator)
            if name.startswith("CUSTOM:"):
                where = graph.tensors[operator.outputs[0]].name.decode() if operator.outputs else "unknown"
                raise ExportError(
                    f"TFLite has no built-in op for {name.removeprefix('CUSTOM:')}, which computes {where!r}; "
                    "write that layer with other keras.ops, or leave it outside the exported model"
                )
