"""What a file computes: the inputs of a model, a function of them, and the names of its outputs."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
from keras import ops

from zoo.errors import ExportError, SettingError


@dataclass(frozen=True)
class Signature:
    """One function that a file is to hold.

    Args:
        specs: list of `tf.TensorSpec`, one for each input.
        call: function of as many tensors; gives a flat list of outputs, at inference.
        output_names: function of that list; gives one name for each.
    """

    specs: list
    call: Callable
    output_names: Callable


def signature(model, *, batch_size, time_steps=None, state="reset"):
    """Return the `Signature` of a model.

    Args:
        model: a built Keras model: functional, sequential, or a subclass that was called once.
        batch_size: size of the first axis, None to leave it open.
        time_steps: size for a second axis that the model leaves open; of a chunk, where the state is kept.
        state: "reset", the model starts afresh at every call; else it goes on, see `zoo.export.streaming`.

    Raises:
        SettingError: `time_steps` where all lengths are fixed, and another.
        ExportError: not a Keras model, never built, a weight that is no number, or an input that no file can take.
    """
    check_model(model)
    check_finite(model)
    if state != "reset":
        from zoo.export.streaming import streaming_signature

        return streaming_signature(model, batch_size=batch_size, time_steps=time_steps)
    specs = input_specs(model, batch_size=batch_size, time_steps=time_steps)
    return Signature(specs, flat_call(model), lambda outputs: output_names(model, outputs))


def input_specs(model, *, batch_size, time_steps=None):
    """Return the model's inputs as a list of `tf.TensorSpec`, in the order of `model.inputs`; as `signature`."""
    import tensorflow as tf

    check_model(model)
    fixed = fixed_batch(model)
    if fixed is not None and batch_size not in (None, fixed):
        raise ExportError(f"model {model.name!r} is made for batches of {fixed}; give batch_size={fixed}")
    lengths = {shape[1] for _, shape, _ in _inputs(model) if len(shape) > 1}
    if None not in lengths and time_steps not in (None, *lengths):
        raise SettingError(
            f"time_steps is {time_steps}, and the inputs of model {model.name!r} have {sorted(lengths)} steps; leave "
            "it out, or build the model with an open axis of time"
        )
    specs = []
    for name, shape, dtype in _inputs(model):
        if dtype == "string":
            raise ExportError(
                f"input {name!r} takes strings, which no device file does; export what follows the lookup"
            )
        rest = list(shape[1:])
        if rest and rest[0] is None and time_steps is not None:
            rest[0] = time_steps
        specs.append(tf.TensorSpec([batch_size, *rest], dtype, name=name))
    return specs


def check_model(model):
    """Raise ExportError unless `model` is a built Keras model on the backend that exports."""
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"Keras runs on {keras.backend.backend()} here and export needs TensorFlow; save the model as a .keras "
            "file and export it from a process with KERAS_BACKEND=tensorflow"
        )
    if not isinstance(model, keras.Model):
        raise ExportError(f"the model is a {type(model).__name__}; expected a keras.Model")
    if not model.built:
        raise ExportError(f"model {model.name!r} was never built; call it once on an example, or give it an Input")


def check_finite(model):
    """Raise ExportError, which names layer and weight, if a weight of `model` holds NaN or infinity; on any backend."""
    for layer in [*model.layers, model]:  # the model last: for weights that are in none of its layers
        for weight in layer.weights:
            if keras.backend.is_float_dtype(weight.dtype) and not bool(ops.all(ops.isfinite(weight))):
                raise ExportError(
                    f"layer {layer.name!r} holds NaN or infinity in its weight {weight.path!r}; train the model anew, "
                    "or load weights from before it diverged"
                )


def fixed_batch(model):
    """Return the batch size that the inputs of `model` are made for, None if they take any."""
    shapes = [tensor.shape for tensor in getattr(model, "inputs", None) or []]
    return next((shape[0] for shape in shapes if len(shape) and shape[0] is not None), None)


def _inputs(model):
    """Return (name, shape, dtype) of every input."""
    if getattr(model, "inputs", None):
        return [(t.name, t.shape, keras.backend.standardize_dtype(t.dtype)) for t in model.inputs]
    shapes = []

    def collect(structure):
        if isinstance(structure, (tuple, list)) and all(isinstance(d, (int, type(None))) for d in structure):
            shapes.append(tuple(structure))
        else:
            for part in structure.values() if isinstance(structure, dict) else structure:
                collect(part)

    collect(getattr(model, "_build_shapes_dict", None) or {})  # what Keras notes of a subclass's first call
    if not shapes:
        raise ExportError(f"the input shape of model {model.name!r} is unknown; call it once on an example batch")
    return [(f"input_{i}" if i else "input", shape, model.input_dtype) for i, shape in enumerate(shapes)]


def output_names(model, outputs):
    """Return one name for each tensor of `outputs`, the flattened result of a call.

    The keys of a functional model that returns a dict, else the names of the layers that the outputs come from.
    """
    structure = getattr(model, "_outputs_struct", None)
    if isinstance(structure, dict):
        names = [str(path[0]) for path, _ in keras.tree.flatten_with_path(structure)]
    else:
        names = getattr(model, "output_names", None) or []
    if len(names) == len(outputs) == len(set(names)):
        return list(names)
    return [f"output_{i}" if i else "output" for i in range(len(outputs))]


def flat_call(model):
    """Return a function of the inputs as separate tensors that gives the outputs as a flat list, at inference."""
    structure = getattr(model, "_inputs_struct", None)

    def call(*tensors):
        if structure is not None:
            outputs = model(keras.tree.pack_sequence_as(structure, list(tensors)), training=False)
        else:
            outputs = model(*tensors, training=False)
        return keras.tree.flatten(outputs)

    return call
