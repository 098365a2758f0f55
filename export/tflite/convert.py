"""What the converter's own process does: a SavedModel in, a TFLite file out."""

from pathlib import Path

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
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=[SIGNATURE])
    converter.allow_custom_ops = True  # the marks of recurrent layers; any other is refused below
    editor = Editor(converter.convert())
    fuse(editor)
    check_builtin(editor)
    if scheme == "dynamic_int8":
        dynamic_int8(editor)
    _name_ends(editor, inputs, outputs)
    Path(out).write_bytes(editor.pack())


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
