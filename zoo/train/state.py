"""All that decides how training goes on: variables, random generators and what callbacks remember, as plain arrays."""

import random

import keras
import numpy as np
from keras import callbacks as keras_callbacks

from zoo.errors import DataError

_REMEMBERED = {  # what Keras' own callbacks know of the epochs before
    keras_callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    keras_callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    keras_callbacks.ModelCheckpoint: ("best",),
    keras_callbacks.History: ("epoch", "history"),
}


def variables(model):
    """Return every variable of a compiled model that training changes, those of its optimizer too."""
    optimizer = model.optimizer
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    return [*variables_of_layers(model), *optimizer.variables]


def variables_of_layers(model):
    """Return the variables of a model with the states of its stateful recurrent layers, which Keras does not track."""
    stateful = [layer for layer in model._flatten_layers() if getattr(layer, "stateful", False)]
    return [*model.variables, *keras.tree.flatten([getattr(layer, "states", None) or [] for layer in stateful])]


def gather(model, callbacks):
    """Return (notes, arrays): what JSON can hold, and the arrays that it refers to by number."""
    arrays = []
    notes = {
        "variables": [_packed(keras.ops.convert_to_numpy(one), arrays) for one in variables(model)],
        "metrics": [_packed(keras.ops.convert_to_numpy(one), arrays) for one in model.metrics_variables],
        "callbacks": [[type(one).__name__, _packed(_remembered(one), arrays)] for one in _with_state(callbacks)],
        "random": _packed(_random_states(), arrays),
    }
    return notes, arrays


def restore(model, callbacks, notes, arrays, source):
    """Bring a model and callbacks to what `gather` saw; return what the metrics had, which Keras builds later.

    Raises:
        DataError: the checkpoint, which `source` names, is of another model or of other callbacks.
    """
    held = _unpacked(notes["variables"], arrays)
    now = variables(model)
    found = [(tuple(one.shape), keras.backend.standardize_dtype(one.dtype)) for one in now]
    expected = [(one.shape, one.dtype.name) for one in held]
    if found != expected:
        place = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), None)
        what = f"{len(held)} variables" if place is None else f"the shape {expected[place][0]} of {now[place].path}"
        here = f"{len(now)}" if place is None else f"{found[place][0]}"
        raise DataError(f"{source} is of another model: it has {what}, expected {here}; name another folder.")
    callbacks, names = _with_state(callbacks), [name for name, _ in notes["callbacks"]]
    if names != [type(one).__name__ for one in callbacks]:
        raise DataError(
            f"{source} is of a run with the callbacks {', '.join(names)}, expected "
            f"{', '.join(type(one).__name__ for one in callbacks)}; name another folder."
        )
    for one, value in zip(now, held, strict=True):
        one.assign(value)
    for one, (_, packed) in zip(callbacks, notes["callbacks"], strict=True):
        _remind(one, _unpacked(packed, arrays))
    _set_random_states(_unpacked(notes["random"], arrays))
    return _unpacked(notes["metrics"], arrays)


def _with_state(callbacks):
    return [one for one in callbacks if hasattr(one, "get_state") or _names(one)]


def _remembered(callback):
    if hasattr(callback, "get_state"):
        return callback.get_state()
    return {name: getattr(callback, name) for name in _names(callback) if hasattr(callback, name)}


def _remind(callback, state):
    if hasattr(callback, "set_state"):
        callback.set_state(state)
        return
    for name, value in state.items():
        setattr(callback, name, value)


def _names(callback):
    return next((names for kind, names in _REMEMBERED.items() if isinstance(callback, kind)), ())


def _random_states():
    """The global generators of Python and of NumPy; Keras' own are variables of the layers that draw from them."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {"python": [version, np.array(words, np.uint32), gauss], "numpy": [name, keys, position, has_gauss, cached]}


def _set_random_states(states):
    version, words, gauss = states["python"]
    random.setstate((version, tuple(map(int, words)), gauss))
    np.random.set_state(tuple(states["numpy"]))


def _packed(value, arrays):
    """Return `value` with every array moved to `arrays` and {"array": its place} where it was."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {"dict": [[key, _packed(one, arrays)] for key, one in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_packed(one, arrays) for one in value]
    return value


def _unpacked(value, arrays):
    if isinstance(value, dict):
        if "array" in value:
            return arrays[value["array"]]
        return {key: _unpacked(one, arrays) for key, one in value["dict"]}
    return [_unpacked(one, arrays) for one in value] if isinstance(value, list) else value
