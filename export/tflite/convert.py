"""What the converter's own process does: a SavedModel in, a TFLite file out."""

import re
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

from zoo.errors import ExportError
from zoo.export.session import NEXT
from zoo.export.tflite.calibrate import calibrate
from zoo.export.tflite.flatbuffer import Editor
from zoo.export.tflite.full_int8 import full_int8
from zoo.export.tflite.fuse import check_builtin, fuse
from zoo.export.tflite.micro import check_ops, renew_selects
from zoo.export.tflite.quantize import dynamic_int8
from zoo.export.tflite.variables import hold_states
from zoo.export.tflite.weights import float16, weight_int8

SIGNATURE = "serving_default"
_STORED = {"dynamic_int8": dynamic_int8, "float16": float16, "weight_int8": weight_int8}


def convert(saved_model, out, inputs, outputs, scheme, target, examples, io_dtype, states, held):
    """Convert a SavedModel whose tensors are named input_0, input_1, ..., output_0, ... and write the file `out`.

    Args:
        saved_model: folder of the SavedModel.
        out: file to write.
        inputs: names of the inputs, in the order in which the file is to have them.
        outputs: names of the outputs, likewise.
        scheme: one of `zoo.export.rules.SCHEMES`.
        target: one of `zoo.export.rules.TARGETS`.
        examples: file of arrays input_0, ..., the first axis counting examples, for a scheme that calibrates, or None.
        io_dtype: "float32" or "int8".
        states: names of inputs that are states, the last of all; may be empty.
        held: whether the file is to keep the states by itself.

    Raises:
        ExportError: the model computes something that TFLite's built-in ops cannot.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert_phase import ConverterError

    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=[SIGNATURE])
    converter.allow_custom_ops = True  # the marks of recurrent layers; any other is refused below
    try:
        editor = Editor(converter.convert())
    except ConverterError as error:
        raise ExportError(_in_one_sentence(str(error))) from error
    fuse(editor)
    check_builtin(editor)
    if scheme == "full_int8":
        ends = _ends(editor, inputs, outputs, states) if io_dtype == "int8" else ()
        wide = "int16" if target == "mcu" else "float32"
        full_int8(editor, calibrate(editor, examples, len(states)), wide=wide, ends=ends)
    elif scheme in _STORED:
        _STORED[scheme](editor)
    _name_ends(editor, inputs, outputs)
    if target == "mcu":
        renew_selects(editor)
        check_ops(editor)
    if held:
        hold_states(editor, states)
    Path(out).write_bytes(editor.pack())


def _ends(editor, inputs, outputs, states):
    """Return the float ends of the main graph that are no states."""
    graph, signature = editor.model.subgraphs[0], editor.model.signatureDefs[0]
    after = [f"{name}{NEXT}" for name in states]
    tensors = {
        end.tensorIndex
        for ends, names, kept in ((signature.inputs, inputs, states), (signature.outputs, outputs, after))
        for end in ends
        if names[int(end.name.decode().rsplit("_", 1)[1])] not in kept
    }
    return {i for i in tensors if graph.tensors[i].type == schema.TensorType.FLOAT32}


def _in_one_sentence(message):
    """Return what the converter complains of first: where, as the names of the layers around it, and what."""
    place = re.search(r'"([^"]*/[^"@]*)', message)
    what = message.strip().split("\n")[0].rsplit("error: ", 1)[-1]
    where = f"what {place[1]!r} computes" if place else "this model"
    return (
        f"TFLite cannot run {where} ({what}); give the layer fixed shapes, write it with other keras.ops, or leave it "
        "outside the exported model"
    )


def _name_ends(editor, inputs, outputs):
    """Give inputs and outputs the names and the order that the model has them in."""
    graph, signature = editor.model.subgraphs[0], editor.model.signatureDefs[0]
    for ends, prefix, names in ((signature.inputs, "input", inputs), (signature.outputs, "output", outputs)):
        ends.sort(key=lambda end: int(end.name.decode().removeprefix(f"{prefix}_")))
        for end, name in zip(ends, names, strict=True):
            end.name = name.encode()
            graph.tensors[end.tensorIndex].name = end.name
    graph.inputs = [end.tensorIndex for end in signature.inputs]
    graph.outputs = [end.tensorIndex for end in signature.outputs]
