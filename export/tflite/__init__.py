"""TFLite files whose recurrent layers are TFLite's own ops, or static loops of built-in ops."""

import tempfile
from pathlib import Path

from zoo import checks
from zoo.errors import ExportError
from zoo.export import child, options, planning
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
    io_dtype="float32",
    keep_float=(),
    batch_size=1,
    time_steps=None,
    plan=None,
):
    """Write `model` as a TFLite file of built-in ops only.

    Recurrent layers leave in the form that the plan says: as one op of TFLite's own, as a static loop, or as one copy
    of the step for each time step. Inputs and outputs keep the model's names and order, in the signature
    "serving_default". The model is left as it was.

    Args:
        model: any built Keras 3 model.
        path: of the file to write, ending in `.tflite`; it must not exist.
        scheme: "float32"; "float16" or "weight_int8", smaller weights, see `zoo.export.tflite.weights`; "dynamic_int8",
            see `zoo.export.tflite.quantize`; "full_int8", see `zoo.export.tflite.full_int8`.
        target: "linux", "android", "mcu" or "web".
        state: "reset", each invocation starts afresh, without any reset from outside. With the others an invocation
            takes a chunk of a sequence, and goes on where the last ended: "external", the states are inputs, zeros
            before the first chunk, and their next values outputs named so and "_next"; "internal", the file keeps
            them, and its second signature, "reset", makes them zeros again.
        representative_data: for "full_int8", some hundred examples of what the device will see: an array, {input name:
            array}, or an iterable of examples. Where the file goes on from chunk to chunk, whole sequences.
        io_dtype: "float32", or "int8" with "full_int8": inputs and outputs as integers, whose scales the file tells.
            States stay float32.
        keep_float: names of layers that stay float32 in every scheme.
        batch_size: number of sequences in one invocation, fixed in the file.
        time_steps: length of the time axis, for models that leave it open; of a chunk, unless state is "reset".
        plan: what `zoo.export.plan` returned for this model; made afresh if left out.

    Returns:
        `path`, as a `pathlib.Path`.

    Raises:
        SettingError: an unknown or unfitting option, or a path that cannot be written or exists.
        DataError: representative_data shows no ranges; the message says why.
        ExportError: a model that was never built, or that cannot run in TFLite; the message says what to change.
    """
    options.check_options(format="tflite", scheme=scheme, target=target, state=state)
    options.check_scheme(
        scheme, target=target, representative_data=representative_data, keep_float=keep_float, io_dtype=io_dtype
    )
    planning.check_plan(plan, format="tflite", target=target)
    batch_size = checks.whole(batch_size, "batch_size")
    time_steps = checks.whole(time_steps, "time_steps", or_none=True)
    path = options.check_path(path, ".tflite")
    from zoo.export.signature import signature

    with tempfile.TemporaryDirectory(prefix="recurrent-zoo-") as folder:
        entry = signature(model, batch_size=batch_size, time_steps=time_steps, state=state)
        states = [] if state == "reset" else list(entry.states)
        _store(representative_data, entry, states, folder)
        settings = {"target": target, "scheme": scheme, "keep_float": keep_float}
        try:
            _convert(
                *(model, entry, plan, folder), io_dtype=io_dtype, states=states, held=state == "internal", **settings
            )
        except child.CrashError as crash:
            from zoo.export.crashes import explained

            def convert(part, plan, folder):
                _convert(model, part, plan, folder, io_dtype="float32", states=[], held=False, **settings)

            raise explained(crash, model, entry, plan, convert) from crash
        options.write(path, Path(folder, "model.tflite").read_bytes())
    return path


def _store(representative_data, entry, states, folder):
    """Write checked examples into `folder`, if there are any."""
    if representative_data is None:
        return
    import numpy as np

    from zoo.export.representative import read_representative

    specs = [spec for spec in entry.specs if spec.name not in states]
    for spec in entry.specs:
        if None in spec.shape:
            raise ExportError(f"input {spec.name!r} is open in time, and full_int8 needs it fixed; give time_steps=")
    arrays = read_representative(representative_data, specs, open_time=bool(states))
    np.savez(f"{folder}/examples.npz", **{f"input_{i}": arrays[spec.name] for i, spec in enumerate(specs)})


def _convert(model, entry, plan, folder, *, target, scheme, keep_float, io_dtype, states, held):
    """Write `entry` as `model.tflite` into `folder`, where `examples.npz` is if the scheme calibrates."""
    names = _save(model, entry, f"{folder}/saved_model", target=target, scheme=scheme, plan=plan, keep_float=keep_float)
    child.run(
        "tflite.convert:convert",
        saved_model=f"{folder}/saved_model",
        out=f"{folder}/model.tflite",
        scheme=scheme,
        target=target,
        examples=f"{folder}/examples.npz",
        io_dtype=io_dtype,
        states=states,
        held=held,
        **names,
    )


def _save(model, entry, folder, *, target, scheme, plan, keep_float):
    """Trace `entry` under its plan into a SavedModel; return the names of its ends, {"inputs": ..., "outputs": ...}."""
    import tensorflow as tf

    from zoo.export import trace
    from zoo.export.stepping import steps_replaced
    from zoo.export.tflite.loop import loops_replaced

    double = next((layer.name for layer in model._flatten_layers() if layer.compute_dtype == "float64"), None)
    if double is not None:
        raise ExportError(f"layer {double!r} computes in float64, which TFLite does not; build the model in float32")
    uses = trace.observe(model, entry)
    if plan is None:
        plan = planning.choose(uses, format="tflite", target=target, scheme=scheme)
    planning.check_planned(plan, uses, format="tflite", target=target)
    for use in uses:
        if plan.form(use) == "loop" and use.shape[1] is None:
            raise ExportError(f"{use.path} becomes a loop, which needs a known number of steps; give time_steps=")
    names = {"inputs": [spec.name for spec in entry.specs]}

    def numbered(*tensors):
        outputs = entry.call(*tensors)
        names["outputs"] = entry.output_names(outputs)
        return {f"output_{i}": tf.identity(output) for i, output in enumerate(outputs)}

    numbered_specs = [tf.TensorSpec(spec.shape, spec.dtype, name=f"input_{i}") for i, spec in enumerate(entry.specs)]
    with (
        trace.for_inference(model),
        trace.replaced(uses, plan),
        loops_replaced(uses, plan),
        steps_replaced(uses, plan),
        trace.float_scopes(model, keep_float),
    ):
        function = tf.function(numbered, autograph=False).get_concrete_function(*numbered_specs)
        module = tf.Module()  # which keeps the variables of folded cells alive, that nothing else does from here on
        module.function, module.captured = function, list(function.variables)
    tf.saved_model.save(module, folder, signatures=function)
    return names
