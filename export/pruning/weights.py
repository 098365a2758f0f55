"""Which weights of a model can be pruned."""

import keras

from zoo import checks
from zoo.errors import SettingError

_K = keras.layers
_BUILT_IN = {
    _K.Dense: ("kernel",),
    _K.EinsumDense: ("kernel",),
    _K.Embedding: ("embeddings",),
    _K.Conv1D: ("kernel",),
    _K.Conv2D: ("kernel",),
    _K.Conv3D: ("kernel",),
    _K.Conv1DTranspose: ("kernel",),
    _K.Conv2DTranspose: ("kernel",),
    _K.Conv3DTranspose: ("kernel",),
    _K.SeparableConv1D: ("pointwise_kernel",),  # a depthwise kernel is small, and all of it is heard
    _K.SeparableConv2D: ("pointwise_kernel",),
    _K.SimpleRNNCell: ("kernel", "recurrent_kernel"),
    _K.LSTMCell: ("kernel", "recurrent_kernel"),
    _K.GRUCell: ("kernel", "recurrent_kernel"),
}


def prunable(model, layers=None):
    """Return the list of trainable weights that can be pruned, each once.

    A layer or cell names them by its attribute `prunable_weights`, a list of its variables; for Keras' own layers a
    table does. Layers with neither are left alone.

    Args:
        model: a built Keras model.
        layers: names of layers of the model, to prune only these and what is within them; None for all.

    Raises:
        SettingError: the model is not built; `layers` names one that there is not, or that has nothing to prune; there
            is nothing to prune at all.
    """
    if not isinstance(model, keras.Model):
        raise SettingError(f"model is a {type(model).__name__}; expected a Keras model")
    if not model.weights and not model.built:
        raise SettingError(f"the model {model.name} has no weights yet; build it or call it once before it is pruned")
    found = {}
    for layer in [model] if layers is None else _named(model, layers):
        own = [v for each in dict.fromkeys([layer, *layer._flatten_layers()]) for v in _of_layer(each)]
        if not own:
            raise SettingError(
                f"{layer.name} is a {type(layer).__name__} with no trainable weights to prune; a layer of your own "
                "names them by an attribute prunable_weights, a list of its variables"
            )
        found |= {id(variable): variable for variable in own}
    return list(found.values())


def check_layers(names):
    """Raise SettingError unless `names` is None or a list of names."""
    if names is not None and (not isinstance(names, (list, tuple)) or not names):
        raise SettingError(f"layers is {checks.shown(names)}; expected a list of layer names, or None for all layers")


def _named(model, names):
    check_layers(names)
    known = {layer.name: layer for layer in model._flatten_layers(include_self=False)}
    for name in names:
        if name not in known:
            raise SettingError(f"layers has {name!r}; the model's layers are {', '.join(known)}")
    return [known[name] for name in names]


def _of_layer(layer):
    if hasattr(layer, "prunable_weights"):
        weights = layer.prunable_weights
    else:
        weights = [getattr(layer, name) for name in _BUILT_IN.get(type(layer), ())]
    return [variable for variable in weights if variable.trainable]
