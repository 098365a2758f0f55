"""TFLite files whose recurrent layers are TFLite's own ops, or static loops of built-in ops."""

import tempfile
from pathlib import Path

from zoo.errors import ExportError, SettingError
from zoo.export import child, options
from zoo.export.tflite.flatbuffer import op_histogram

__all__ = ["SCHEMES", "op_histogram", "to_tflite"]

SCHEMES = ("float32", "dynamic_int8")


def to_tflite(
    model,
    path,
    *,
    scheme="float32",
    target="linux",
    state="reset",
    representative_data=None,
    batch_size=1,
    time_steps=None,
    plan=None,
):
    """Write `model` as a TFLite file of built-in ops.

    LSTM layers become one `UNIDIRECTIONAL_SEQUENCE_LSTM` each, any other recurrent layer a static loop, as the plan
    says. Every invocation starts from the initial state. Inputs and outputs keep the model's names and order in the
    file's only signature.

    Args:
        model: any built Keras 3 model.
        path: of the file to write, ending in `.tflite`; it must not exist.
        scheme: "float32", or "dynamic_int8", see `zoo.export.tflite.quantize`.
        target: "linux", "android", "mcu" or "web".
        state: "reset", each invocation starts afresh.
        representative_data: examples for schemes that calibrate; none of today's does.
        batch_size: number of sequences per invocation, fixed in the file.
        time_steps: length of the time axis, for models that leave it open.
        plan: a plan from `zoo.export.plan`; made if left out.

    Returns:
        The path of the file.

    Raises:
        SettingError: an unknown or unfitting option, or a path that cannot be written or exists.
        ExportError: a model that was never built, or that TFLite cannot run.
    """
    options.check_options(scheme=scheme, target=target, state=state, schemes=SCHEMES, time_steps=time_steps)
    path = options.check_path(path, ".tflite")
    with tempfile.TemporaryDirectory(prefix="recurrent-zoo-") as folder:
        saved_model, out = f"{folder}/saved_model", Path(folder, "model.tflite")
        names = _save(model, saved_model, target=target, batch_size=batch_size, time_steps=time_steps, plan=plan)
        child.run("tflite.convert:convert", saved_model=saved_model, out=str(out), scheme=scheme, **names)
        options.write(path, out.read_bytes())
    return path


def _save(model, folder, *, target, batch_size, time_steps, plan):
    """Trace `model` under its plan into a SavedModel and return {"inputs": names, "outputs": names}."""
    import tensorflow as tf

    from zoo.export import planning, trace

    specs = trace.input_specs(model, batch_size=batch_size, time_steps=time_steps)
    call, names = trace.flat_call(model), {}

    def numbered(*tensors):
        outputs = call(*tensors)
        names["outputs"] = trace.output_names(model, outputs)
        return {f"output_{i}": tf.identity(output) for i, output in enumerate(outputs)}

    with trace.for_inference(model):
        uses = trace.observe(model, batch_size=batch_size, time_steps=time_steps)
        if plan is None:
            plan = planning.choose(uses, format="tflite", target=target)
        planning.check_plan(plan, uses, format="tflite", target=target)
        with trace.replaced(uses, plan):
            numbered_specs = [tf.TensorSpec(s.shape, s.dtype, name=f"input_{i}") for i, s in enumerate(specs)]
            function = tf.function(numbered, autograph=False).get_concrete_function(*numbered_specs)
    module = tf.Module()
    module.function, module.captured = function, list(function.variables)
    tf.saved_model.save(module, folder, signatures=function)
    names["inputs"] = [spec.name for spec in specs]
    return names
