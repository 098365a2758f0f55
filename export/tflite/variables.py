"""States that a TFLite file keeps from one invocation to the next."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from zoo.export.session import NEXT, RESET
from zoo.export.tflite.flatbuffer import shape_of


def hold_states(editor, names):
    """Turn inputs that are states, and the outputs with their next values, into variables of the file, in place.

    The main graph reads each variable at its start and assigns the new value at its end. A second graph assigns zeros:
    it runs once before the first invocation, and whenever the signature "reset" is called.

    Args:
        editor: `Editor` of a file with named inputs and outputs.
        names: of the inputs; the output of each is named so and "_next".
    """
    if not names:
        return
    model, graph, signature = editor.model, editor.model.subgraphs[0], editor.model.signatureDefs[0]
    zeros = schema.SubGraphT()
    zeros.name, zeros.tensors, zeros.operators, zeros.inputs, zeros.outputs = RESET.encode(), [], [], [], []
    model.subgraphs.append(zeros)
    once = schema.CallOnceOptionsT()
    once.initSubgraphIndex = len(model.subgraphs) - 1
    reads, writes = [editor.operator("CALL_ONCE", [], [], once)], []
    for name in names:
        before, after = _end(signature.inputs, name), _end(signature.outputs, f"{name}{NEXT}")
        handle, making = _handle(editor, graph, name)
        reads += [making, editor.operator("READ_VARIABLE", [handle], [before.tensorIndex])]
        writes.append(editor.operator("ASSIGN_VARIABLE", [handle, after.tensorIndex], []))
        tensor = graph.tensors[before.tensorIndex]
        value = editor.add_constant(zeros, np.zeros(shape_of(tensor), _NUMPY[tensor.type]), f"{name}/zeros")
        handle, making = _handle(editor, zeros, name)
        zeros.operators += [making, editor.operator("ASSIGN_VARIABLE", [handle, value], [])]
        signature.inputs.remove(before)
        signature.outputs.remove(after)
    graph.operators = [*reads, *graph.operators, *writes]
    graph.inputs = [end.tensorIndex for end in signature.inputs]
    graph.outputs = [end.tensorIndex for end in signature.outputs]
    reset = schema.SignatureDefT()
    reset.signatureKey, reset.inputs, reset.outputs = RESET.encode(), [], []
    reset.subgraphIndex = once.initSubgraphIndex
    model.signatureDefs.append(reset)


_NUMPY = {schema.TensorType.FLOAT32: "float32", schema.TensorType.INT32: "int32", schema.TensorType.INT8: "int8"}


def _end(ends, name):
    return next(end for end in ends if end.name.decode() == name)


def _handle(editor, graph, name):
    """Return the index of a new tensor that stands for the variable called `name`, and the op that makes it."""
    index = editor.add_tensor(graph, [], f"{name}/handle", dtype="int32")
    graph.tensors[index].type = schema.TensorType.RESOURCE
    options = schema.VarHandleOptionsT()
    options.container, options.sharedName = b"", name.encode()
    return index, editor.operator("VAR_HANDLE", [], [index], options)
