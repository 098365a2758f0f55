"""Look into any Keras model: its recurrent layers in use, and its call with some loops replaced."""

import contextlib

import keras

from zoo.errors import ExportError, SettingError
from zoo.export.planning import native_run
from zoo.export.rules import Use


def recurrent_layers(model):
    """Return every layer of `model`, however deep, that runs over time: RNN and its kind, and Bidirectional."""
    kinds = (keras.layers.RNN, keras.layers.Bidirectional)
    return [layer for layer in model._flatten_layers() if isinstance(layer, kinds)]


def observe(model, signature):
    """Trace `signature` of `model` once; return a `Use` for each recurrent layer that takes part, outermost first.

    Raises:
        ExportError: a stateful layer is used more than once.
    """
    import tensorflow as tf

    uses, inside, taken, going_on = {}, [], set(), []

    def recorder(layer):
        original, stateful = layer.call, getattr(layer, "stateful", False)  # as it is outside of `for_inference`

        def call(sequences, initial_state=None, mask=None, **kwargs):
            seen = uses.get(id(layer))
            path = seen.path if seen else _unique(layer.path or layer.name, taken)
            if seen and stateful:
                going_on.append(path)
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
                outputs = result[0] if isinstance(result, tuple) else result
                outputs.set_shape([None, sequences.shape[1], *outputs.shape[2:]])
            return result

        return call

    recorders = {layer: recorder(layer) for layer in recurrent_layers(model)}
    with for_inference(model), calls_replaced(recorders):
        tf.function(signature.call, autograph=False).get_concrete_function(*signature.specs)
    if going_on:
        raise ExportError(
            f"{going_on[0]} is stateful and used more than once, each time from where the last use ended, which a file "
            "does not do; take a layer without stateful, or one for each use"
        )
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
def float_scopes(model, keep_float=()):
    """Within this context all that some layers trace has FLOAT_SCOPE in its name.

    Args:
        model: of which layers with `quantizable = False` stay float.
        keep_float: names, or paths within the model, of others that do.

    Raises:
        SettingError: there is no layer of that name.
    """
    import tensorflow as tf

    everything = list(dict.fromkeys([model, *model._flatten_layers()]))
    names = {layer: {layer.name, layer.path or layer.name} for layer in everything}
    for name in keep_float:
        if not any(name in known for known in names.values()):
            known = ", ".join(layer.name for layer in everything[1:])
            raise SettingError(f"keep_float names {name!r}, which is no layer of {model.name!r}; it has {known}")
    layers = [
        layer
        for layer in everything
        if not getattr(layer, "quantizable", True) or names[layer].intersection(keep_float)
    ]
    before = [(layer, vars(layer).get("call"), layer.call) for layer in layers]

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
    distributed = [each for each in model._flatten_layers() if isinstance(each, keras.layers.TimeDistributed)]
    try:
        with calls_replaced({each: _all_steps_at_once(each) for each in distributed if "call" not in vars(each)}):
            yield
    finally:
        for layer, name, value in reversed(settings):
            setattr(layer, name, value)


def _all_steps_at_once(distributed):
    """Return a call of a `TimeDistributed` that takes the steps for rows where their number is open.

    Keras maps its layer over them with TensorFlow's `vectorized_map`, of which tf2onnx makes a file that goes wrong
    wherever batch and number of steps differ.
    """
    original, layer = distributed.call, distributed.layer

    def call(inputs, training=None, mask=None):
        if inputs.shape[1] is not None:
            return original(inputs, training=training, mask=mask)
        options = {}
        if layer._call_has_mask_arg and mask is not None:
            options["mask"] = _as_rows(mask)
        outputs = layer.call(_as_rows(inputs), **options)
        batch, steps = keras.ops.shape(inputs)[:2]
        return keras.ops.reshape(outputs, (batch, steps, *keras.ops.shape(outputs)[1:]))

    return call


def _as_rows(sequences):
    return keras.ops.reshape(sequences, (-1, *keras.ops.shape(sequences)[2:]))
