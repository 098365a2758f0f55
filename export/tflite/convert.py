"""What the converter's own process does: a SavedModel in, a TFLite file out."""

import re
from pathlib import Path

from zoo.errors import ExportError
from zoo.export.tflite.flatbuffer import Editor
from zoo.export.tflite.fuse import check_builtin, fuse
from zoo.export.tflite.quantize import dynamic_int8

SIGNATURE = "serving_default"


def convert(saved_model, out, inputs, outputs, scheme):
    """Convert a SavedModel whose tensors are named input_0, input_1, ..., output_0, ... and write the file `out`.

    Args:
        saved_model: folder of the SavedModel.
        out: file to write.
        inputs: names of the inputs, in the order in which the file is to have them.
        outputs: names of the outputs, likewise.
        scheme: "float32" or "dynamic_int8".

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
    if scheme == "dynamic_int8":
        dynamic_int8(editor)
    _name_ends(editor, inputs, outputs)
    Path(out).write_bytes(editor.pack())


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
