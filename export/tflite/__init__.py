"""TFLite files whose recurrent layers are TFLite's own ops, or static loops of built-in ops."""

import tempfile
from pathlib import Path

from zoo.errors import ExportError, SettingError
from zoo.export import child, options
from zoo.export.tflite.flatbuffer import op_histogram

__all__ = ["op_histogram", "to_tflite"]


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
    """Write `model` as a TFLite file of built-in ops only.

    Recurrent layers leave in the form that the plan says: as one op of TFLite's own, or as a static loop. Every
    invocation starts from the initial state, without any reset from outside. Inputs and outputs keep the model's names
    and order, in the file's only signature. The model is left as it was.

    Args:
        model: any built Keras 3 model.
        path: of the file to write, ending in `.tflite`; it must not exist.
        scheme: "float32", or "dynamic_int8": see `zoo.export.tflite.quantize.dynamic_int8` for what becomes int8.
        target: "linux", "android", "mcu" or "web".
        state: "reset", each invocation starts afresh.
        representative_data: must be None; examples for schemes that calibrate, and none does yet.
        batch_size: number of sequences in one invocation, fixed in the file.
        time_steps: length of the time axis, for models that leave it open.
        plan: what `zoo.export.plan` returned for this model; made afresh if left out.

    Returns:
        `path`, as a `pathlib.Path`.

    Raises:
        SettingError: an unknown or unfitting option, or a path that cannot be written or exists.
        ExportError: a model that was never built, or that cannot run in TFLite; the message says what to change.
    """
    options.check_options(format="tflite", scheme=scheme, target=target, state=state, time_steps=time_steps)
    if scheme == "dynamic_int8" and target == "mcu":
        raise SettingError("scheme is 'dynamic_int8', whose ops TFLite Micro does not have; for mcu take 'float32'")
    if representative_data is not None:
        raise SettingError(f"scheme {scheme!r} does not calibrate; leave representative_data out")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise SettingError(f"batch_size is {batch_size!r}; expected a whole number of at least 1")
    path = options.check_path(path, ".tflite")
    with tempfile.TemporaryDirectory(prefix="recurrent-zoo-") as folder:
        saved_model, out = f"{folder}/saved_model", Path(folder, "model.tflite")
        names = _save(model, saved_model, target=target, batch_size=batch_size, time_steps=time_steps, plan=plan)
        child.run("tflite.convert:convert", saved_model=saved_model, out=str(out), scheme=scheme, **names)
        options.write(path, out.read_bytes())
    return path


def _save(model, folder, *, target, batch_size, time_steps, plan):
    """Trace `model` under its plan into a SavedModel; return the names of its ends, {"inputs": ..., "outputs": ...}."""
    import tensorflow as tf

    from zoo.export import planning, trace
    from zoo.export.signature import signature
    from zoo.export.tflite.loop import loops_replaced

    entry = signature(model, batch_size=batch_size, time_steps=time_steps)
    uses = trace.observe(model, entry)
    if plan is None:
        plan = planning.choose(uses, format="tflite", target=target)
    planning.check_plan(plan, uses, format="tflite", target=target)
    for use in uses:
        if plan.form(use.path) == "loop" and use.shape[1] is None:
            raise ExportError(f"{use.path} becomes a loop, which needs a known number of steps; give time_steps=")
    names = {"inputs": [spec.name for spec in entry.specs]}

    def numbered(*tensors):
        outputs = entry.call(*tensors)
        names["outputs"] = entry.output_names(outputs)
        return {f"output_{i}": tf.identity(output) for i, output in enumerate(outputs)}

    numbered_specs = [tf.TensorSpec(spec.shape, spec.dtype, name=f"input_{i}") for i, spec in enumerate(entry.specs)]
    with trace.for_inference(model), trace.replaced(uses, plan), loops_replaced(uses, plan), trace.float_scopes(model):
        function = tf.function(numbered, autograph=False).get_concrete_function(*numbered_specs)
    module = tf.Module()
    module.function, module.captured = function, list(function.variables)
    tf.saved_model.save(module, folder, signatures=function)
    return names
