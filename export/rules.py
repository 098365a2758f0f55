"""Which recurrent cells a format can run natively, and how: one small function for each (cell class, format)."""

import importlib
from dataclasses import dataclass

from zoo import checks
from zoo.errors import SettingError

FORMATS = ("tflite", "onnx")
TARGETS = ("linux", "android", "mcu", "web")
SCHEMES = ("float32", "float16", "dynamic_int8", "weight_int8", "full_int8")
_RULES = {format: {} for format in FORMATS}


class Unsuitable(Exception):
    """Raised by a rule: why this layer cannot take the native form here. The reason is shown in the plan."""


@dataclass(frozen=True)
class Use:
    """How a model uses one of its recurrent layers, seen while the model was traced.

    Args:
        layer: the layer.
        path: its name within the model, unique.
        shape: shape of the sequences it receives, (batch, time, features...), None where unknown.
        masked: whether a mask reaches it.
        initial_state: whether the model gives it an initial state.
        within: path of the Bidirectional (or other recurrent layer) that calls it, or None.
        right_padded: whether the plan was promised that masks leave out the ends of sequences and nothing else.
        scheme: that the file is to be written in.
    """

    layer: object
    path: str
    shape: tuple
    masked: bool
    initial_state: bool
    within: str | None
    right_padded: bool = False
    scheme: str = "float32"

    @property
    def cell(self):
        """The cell that the layer runs, folded where that makes it a plain one."""
        return folded(self.layer.cell)


def folded(cell):
    """Return the plain cell that computes what `cell` does at inference, `cell` itself where there is none."""
    from zoo import layers

    return cell.fold() if isinstance(cell, layers.Cell) else cell


def rule(cell_class, *, format, unless=None, schemes=SCHEMES):
    """Register the native form of a cell for one format.

    The decorated function receives `(use, target)`, a `Use` and one of `TARGETS`, and returns

        run(sequences, initial_state, mask) -> (last_output, outputs, states)

    which takes the place of the layer's own loop while the model is traced, or raises `Unsuitable(reason)`.
    `initial_state` is None where the layer starts from zeros. `outputs` is in the order in which steps are taken.
    For `keras.layers.Bidirectional` the function returns `run` for the whole wrapper instead:
    `run(sequences, initial_state, mask) -> what its call returns`.

    Args:
        cell_class: the exact class of the cells that the rule is for.
        format: "tflite" or "onnx".
        unless: function of `(use, target, scheme)` that says why the plan should not take the native form by itself
            although it could, or None; an override still can.
        schemes: those that the native form can be written in.

    Raises:
        SettingError: an argument cannot be used, or the class has a rule for this format already.

    Example:
        @rule(MyCell, format="onnx")
        def my_cell(use, target):
            ...
    """
    checks.choice(format, "format", FORMATS)
    if not isinstance(cell_class, type):
        raise SettingError(f"cell_class is {checks.shown(cell_class)}; expected the class of a cell")
    if unless is not None and not callable(unless):
        raise SettingError(f"unless is {checks.shown(unless)}; expected a function of (use, target, scheme), or None")
    schemes = checks.choices(schemes, "schemes", SCHEMES)

    def register(function):
        if cell_class in _RULES[format]:
            raise SettingError(f"{cell_class.__name__} has a rule for {format} already: {_RULES[format][cell_class]}")
        function.unless = unless or (lambda use, target, scheme: None)
        function.schemes = tuple(schemes)
        _RULES[format][cell_class] = function
        return function

    return register


def find_rule(use, *, format):
    """Return the rule for the layer in `use`, or None.

    A subclass that changes what the layer computes has no rule of its parent's: only the exact cell class counts, in a
    layer that runs it as one of those this package knows.
    """
    import keras

    importlib.import_module(f"zoo.export.{format}.rules")  # registers the rules that the zoo brings
    if type(use.layer) is keras.layers.Bidirectional:
        return _RULES[format].get(keras.layers.Bidirectional)
    if not loops_as_known(use.layer) or not any(type(use.layer).call is one.call for one in _known_layers()):
        return None
    return _RULES[format].get(type(use.cell))


def loops_as_known(layer):
    """Return whether the loop of `layer` is Keras' or the zoo's own, and not one that a subclass changed."""
    return any(getattr(type(layer), "inner_loop", None) is one.inner_loop for one in _known_layers())


def takes_steps(layer):
    """Return whether `layer` gives what its cell gives step after step, whatever way it takes to get there."""
    from zoo import layers

    return loops_as_known(layer) or getattr(type(layer), "inner_loop", None) is layers.LinearRecurrence.inner_loop


def _known_layers():
    import keras

    from zoo import layers

    ours = layers.Recurrent, layers.BatchNormLSTM  # whose loop is another in training only
    return keras.layers.RNN, keras.layers.SimpleRNN, keras.layers.LSTM, keras.layers.GRU, *ours
