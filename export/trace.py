"""Look into any Keras model: its inputs, its recurrent layers in use, and its call with some loops replaced."""

import contextlib

import keras

from zoo.errors import ExportError
from zoo.export.planning import native_run
from zoo.export.rules import Use


def input_specs(model, *, batch_size, time_steps=None):
    """Return the model's inputs as a list of `tf.TensorSpec`, in the order of `model.inputs`.

    Args:
        model: a built Keras model: functional, sequential, or a subclass that was called once.
        batch_size: size of the first axis, None to leave it open.
        time_steps: size for a second axis that the model leaves open.

    Raises:
        ExportError: not a Keras model, never built, or an input that no device file can take.
    """
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"Keras runs on {keras.backend.backend()} here and export needs TensorFlow; save the model as a .keras "
            "file and export it from a process with KERAS_BACKEND=tensorflow"
        )
    if not isinstance(model, keras.Model):
        raise ExportError(f"the model is a {type(model).__name__}; expected a keras.Model")
    if not model.built:
        raise ExportError(f"model {model.name!r} was never built; call it once on an example, or give it an Input")
    fixed = fixed_batch(model)
    if fixed is not None and batch_size not in (None, fixed):
        raise ExportError(f"model {model.name!r} is made for batches of {fixed}; give batch_size={fixed}")
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


def recurrent_layers(model):
    """Return every layer of `model`, however deep, that runs over time: RNN and its kind, and Bidirectional."""
    kinds = (keras.layers.RNN, keras.layers.Bidirectional)
    return [layer for layer in model._flatten_layers() if isinstance(layer, kinds)]


def observe(model, *, batch_size, time_steps=None):
    """Trace `model` once and return a `Use` for each recurrent layer that takes part, outermost first."""
    import tensorflow as tf

    specs = input_specs(model, batch_size=batch_size, time_steps=time_steps)
    uses, inside, taken = {}, [], set()

    def recorder(layer):
        original = layer.call

        def call(sequences, initial_state=None, mask=None, **kwargs):
            seen = uses.get(id(layer))
            path = seen.path if seen else _unique(layer.path or layer.name, taken)
            uses[id(layer)] = Use(
                layer,
                path,
                tuple(sequences.shape),
                mask is not None or bool(seen and seen.masked),
                initial_state is not None or bool(seen and seen.initial_state),
                inside[-1] if inside else None,
            )
            inside.append(path)
            try:
                result = original(sequences, initial_state=initial_state, mask=mask, **kwargs)
            finally:
                inside.pop()
            if hasattr(layer, "cell") and layer.return_sequences:  # a loop may lose the number of steps on its way
                outputs = result[0] if layer.return_state else result
                outputs.set_shape([None, sequences.shape[1], *outputs.shape[2:]])
            return result

        return call

    recorders = {layer: recorder(layer) for layer in recurrent_layers(model)}
    with for_inference(model), calls_replaced(recorders):
        tf.function(flat_call(model), autograph=False).get_concrete_function(*specs)
    return list(uses.values())


def _unique(name, taken):
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}#{number}"
    taken.add(candidate)
    return candidate


@contextlib.contextmanager
def replaced(uses, plan):
    """Within this context the layers that `plan` makes native call their rule's `run` in place of their own loop."""
    calls = {}
    for use in uses:
        run = native_run(use, plan)
        if run is not None:
            calls[use.layer] = _as_call(use.layer, run)
    with calls_replaced(calls):
        yield


def _as_call(layer, run):
    """Give a rule's `run` the face of the layer's `call`."""

    def call(sequences, initial_state=None, mask=None, training=False):
        if initial_state is not None:
            initial_state = keras.tree.flatten(initial_state)
        result = run(sequences, initial_state, mask)
        if isinstance(layer, keras.layers.Bidirectional):
            return result
        last_output, outputs, states = result
        output = outputs if layer.return_sequences else last_output
        return (output, *states) if layer.return_state else output

    return call


@contextlib.contextmanager
def calls_replaced(calls):
    """Within this context each layer in `calls`, {layer: call}, has this `call` in place of its class's."""
    for layer, call in calls.items():
        layer.call = call
    try:
        yield
    finally:
        for layer in calls:
            del layer.call  # the class's own shows again


FLOAT_SCOPE = "zoo_stays_float"


@contextlib.contextmanager
def float_scopes(model):
    """Within this context all that layers with `quantizable = False` trace has FLOAT_SCOPE in its name."""
    import tensorflow as tf

    layers = [layer for layer in [model, *model._flatten_layers()] if not getattr(layer, "quantizable", True)]
    before = [(layer, vars(layer).get("call"), layer.call) for layer in dict.fromkeys(layers)]

    def marked(original):
        def call(*args, **kwargs):
            with tf.name_scope(FLOAT_SCOPE):
                return original(*args, **kwargs)

        return call

    for layer, _, original in before:
        layer.call = marked(original)
    try:
        yield
    finally:
        for layer, replacement, _ in before:
            if replacement is None:
                del layer.call
            else:
                layer.call = replacement


@contextlib.contextmanager
def for_inference(model):
    """Within this context `model` traces to what a device can run: no cuDNN op, no state variable, all in float32."""
    settings = []

    def put(layer, name, value):
        settings.append((layer, name, getattr(layer, name)))
        setattr(layer, name, value)

    for layer in [model, *model._flatten_layers()]:
        if getattr(layer, "use_cudnn", False):
            put(layer, "use_cudnn", False)
        if getattr(layer, "stateful", False):
            put(layer, "stateful", False)
        if layer.compute_dtype in ("float16", "bfloat16"):
            put(layer, "dtype_policy", keras.DTypePolicy("float32"))
    try:
        yield
    finally:
        for layer, name, value in reversed(settings):
            setattr(layer, name, value)
