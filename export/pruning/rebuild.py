"""A model put together anew, with the weights of the old one or parts of them."""

import keras
import numpy as np
from keras import ops

from zoo.errors import SettingError
from zoo.export.signature import check_finite


def check_rebuildable(model):
    """Raise SettingError unless `model` is a built Sequential or functional model, ExportError if it holds NaN."""
    if not isinstance(model, keras.Model):
        raise SettingError(f"model is a {type(model).__name__}; expected a Keras model")
    if not isinstance(model, (keras.Sequential, _functional_class())) or not model.built:
        kind = "not built" if not model.built else f"a {type(model).__name__}, whose layers only its own code knows"
        raise SettingError(
            f"the model {model.name} is {kind}; expected a built Sequential or functional model "
            "(the callback Pruning takes any model)"
        )
    check_finite(model)


def _functional_class():
    inputs = keras.Input((1,))
    return type(keras.Model(inputs, inputs))


def rebuild(model, units, cuts):
    """Return a copy of `model`, not compiled, of which some layers are narrower.

    Args:
        model: Sequential or functional.
        units: {name of a layer: new units of the cells in it}.
        cuts: {id of a variable: {axis: indices to keep}}; other weights are copied whole.
    """
    copies = {}

    def narrower(layer):
        if layer not in copies:
            config = _unbuilt(layer.get_config())
            if layer.name in units:
                _set_units(config, units[layer.name])
            copies[layer] = type(layer).from_config(config)
        return copies[layer]

    if isinstance(model, keras.Sequential):
        inputs = model.inputs[0]
        source = keras.Input(batch_shape=inputs.shape, dtype=inputs.dtype, name=inputs.name)
        new = keras.Sequential([source, *map(narrower, model.layers)], name=model.name)
    else:
        # its layers in a model that was never compiled: clone_model would compile the copy too
        new = keras.models.clone_model(keras.Model(model.input, model.output, name=model.name), clone_function=narrower)
    for old, layer in copies.items():
        if isinstance(old, keras.layers.Layer):
            layer.set_weights([_cut(variable, cuts.get(id(variable), {})) for variable in old.weights])
            layer.trainable = old.trainable
    return new


def _unbuilt(config):
    """A config in which no layer within remembers the shapes that it was built for."""
    if isinstance(config, dict):
        return {key: _unbuilt(value) for key, value in config.items() if key != "build_config"}
    return [_unbuilt(value) for value in config] if isinstance(config, list) else config


def _set_units(config, units):
    """Set the units in the config of a recurrent layer, or of the two of a Bidirectional, or of a cell within."""
    if "units" in config:
        config["units"] = units
        return
    for inner in ("layer", "backward_layer", "cell"):
        if inner in config:
            _set_units(config[inner]["config"], units)


def _cut(variable, kept):
    values = ops.convert_to_numpy(variable)
    for axis, indices in kept.items():
        values = np.take(values, indices, axis=axis)
    return values
