"""Training that knows of the int8 file to come."""

import keras

from zoo import layers
from zoo.errors import SettingError
from zoo.export.options import check_names

_OPTIONS = ("return_sequences", "return_state", "go_backwards", "stateful", "unroll", "zero_output_for_mask")


def quantize_aware(model, *, keep_float=()):
    """Return a twin of `model` that trains the model's own weights while it computes as an int8 file will.

    Recurrent, dense, convolutional and embedding layers round their weights, and what goes in and out of their
    products, to int8; the gradient passes through (see `zoo.layers.fake_quantize`). The twin shares every weight with
    `model`: compile and fit the twin for a few epochs at a low learning rate, then export the model.

    Args:
        model: a built functional or sequential model, already trained.
        keep_float: names of layers that are not rounded, as in `to_tflite`.

    Returns:
        A `keras.Model`, not compiled.

    Raises:
        SettingError: another model, an unknown name in `keep_float`, or a recurrent layer that has no such twin.

    Example:
        >>> twin = quantize_aware(model)
        >>> twin.compile("adam", "mse")
        >>> twin.fit(x, y, epochs=3)
        >>> export.to_tflite(model, "model.tflite", scheme="full_int8", representative_data=x)
    """
    if not isinstance(model, keras.Sequential) and not hasattr(model, "_nodes_by_depth"):
        kind = type(model).__name__
        raise SettingError(f"model is a {kind}; expected a built model that is functional or sequential")
    check_names(keep_float, "keep_float")
    names = {layer.name for layer in model._flatten_layers()}
    for name in keep_float:
        if name not in names:
            raise SettingError(f"keep_float names {name!r}, which is no layer of {model.name!r}")

    def twin(layer):
        if layer.name in keep_float or not getattr(layer, "quantizable", True):
            return layer
        if isinstance(layer, keras.layers.Bidirectional):
            return _both_ways(layer)
        if isinstance(layer, keras.layers.RNN):
            return _recurrent(layer)
        try:
            return layers.FakeQuantized(layer, name=layer.name)
        except SettingError:
            return layer  # nothing in it that a product rounds

    return keras.models.clone_model(model, clone_function=twin)


def _recurrent(layer):
    cell = layer.cell if isinstance(layer.cell, layers.Cell) else _as_zoo_cell(layer)
    options = {name: getattr(layer, name) for name in _OPTIONS}
    every = getattr(layer, "checkpoint_every", None)
    return layers.Recurrent(layers.FakeQuantizedCell(cell), checkpoint_every=every, name=layer.name, **options)


def _both_ways(layer):
    config = layer.get_config()
    for name in ("layer", "backward_layer"):
        config.get(name, {}).pop("build_config", None)  # its own two layers shall have no weights: they are replaced
    twin = keras.layers.Bidirectional.from_config(config)
    twin.forward_layer, twin.backward_layer = _recurrent(layer.forward_layer), _recurrent(layer.backward_layer)
    return twin


def _as_zoo_cell(layer):
    """Return a zoo cell that computes what Keras' cell does, on the very same weights."""
    cell, kind = layer.cell, type(layer.cell)
    known = {keras.layers.LSTMCell: layers.LSTMCell, keras.layers.GRUCell: layers.GRUCell}
    plain = (
        kind in known
        and cell.use_bias
        and not cell.dropout
        and not cell.recurrent_dropout
        and cell.activation is keras.activations.tanh
        and cell.recurrent_activation is keras.activations.sigmoid
        and getattr(cell, "reset_after", True)
    )
    if not plain:
        raise SettingError(
            f"{layer.name} is a {type(layer).__name__} that has no twin in int8; zoo cells have, and Keras' LSTM and "
            "GRU with their default activations and no dropout inside: take one of these, or name it in keep_float"
        )
    twin = known[kind](cell.units, dtype=cell.dtype_policy)
    for name in ("kernel", "recurrent_kernel", "bias"):
        setattr(twin, name, getattr(cell, name))
    twin.built = True
    return twin
