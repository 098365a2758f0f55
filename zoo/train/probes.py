"""Measures a model on one batch, without a trace: gradients by layer and by lag, gates, units, sizes of features."""

import contextlib
import inspect

import keras
import numpy as np
from keras import ops

from zoo.train.autodiff import value_and_gradients
from zoo.train.state import variables_of_layers

_STEPS = 512  # the newest steps of a sequence, which are run one by one


@contextlib.contextmanager
def undisturbed(model):
    """Leave the variables of a model, seeds and moving averages among them, as they were before."""
    variables = variables_of_layers(model)
    before = [ops.convert_to_numpy(one) for one in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)


def recurrent_layers(model):
    """Return {path: layer} of the layers that run a cell over time, in both directions two."""
    found = {}
    for layer in model._flatten_layers(include_self=False, recursive=False):
        inner = {layer.name: layer} if _is_plain(layer) else {}
        if not isinstance(layer, (keras.layers.RNN, keras.layers.TimeDistributed)):
            inner |= {f"{layer.name}/{path}": one for path, one in recurrent_layers(layer).items()}
        found |= inner
    return found


def _is_plain(layer):
    """Whether a layer takes a sequence and nothing beside, as a memory to attend to."""
    taken = list(inspect.signature(type(layer).call).parameters)
    return isinstance(layer, keras.layers.RNN) and taken[2:] == ["initial_state", "mask", "training"]


def measure(model, x, y):
    """Return what one batch shows of a compiled model.

    Returns:
        dict of loss; gradients, {layer: the norm of dLoss/dweights}; lags, {recurrent layer: the norm of
        dLoss/dh[T - lag], (lags,), mean over the batch}; gates, {recurrent layer: [activations of each gate]}; outputs,
        {recurrent layer: (batch, steps, units)}.
    """
    layers = recurrent_layers(model)
    x, y = (keras.tree.map_structure(ops.convert_to_tensor, each) for each in (x, y))
    with undisturbed(model):
        weights = [_copied(one) for one in model.trainable_variables]
        others = [_copied(one) for one in model.non_trainable_variables]
        with _stepwise(layers) as runs:
            model(x, training=False)  # tells the shapes of the states
            runs = {path: run for path, run in runs.items() if run.shape is not None}  # some are not called
            nudges = [ops.zeros(run.shape, run.dtype) for run in runs.values()]

            def loss(arguments):
                for run, nudge in zip(runs.values(), arguments[len(weights) :], strict=True):
                    run.begin(nudge)
                answer, _ = model.stateless_call(arguments[: len(weights)], others, x, training=False)
                found = model.compute_loss(x, y, answer, training=False)
                return found, {path: (run.outputs, run.gates, run.lengths) for path, run in runs.items()}

            value, seen, gradients = value_and_gradients(loss, [*weights, *nudges])
    arrays = keras.tree.map_structure(ops.convert_to_numpy, seen)
    of_weights, of_states = gradients[: len(weights)], gradients[len(weights) :]
    return {
        "loss": float(value),
        "gradients": _by_layer(model, of_weights),
        "lags": {
            path: _by_lag(ops.convert_to_numpy(one), arrays[path][2]) for path, one in zip(runs, of_states, strict=True)
        },
        "gates": {path: [np.stack(gate) for gate in gates] for path, (_, gates, _) in arrays.items()},
        "outputs": {path: np.stack(outputs, axis=1) for path, (outputs, _, _) in arrays.items()},
    }


def first_not_finite(model, x):
    """Return the name of the first layer whose output is not finite for inputs `x`, or None."""
    layers = [one for one in model.layers if not isinstance(one, keras.layers.InputLayer)]
    with undisturbed(model):
        outputs = keras.Model(model.inputs, [one.output for one in layers])(keras.tree.flatten(x), training=False)
    for layer, output in zip(layers, outputs, strict=True):
        if not all(is_finite(one) for one in keras.tree.flatten(output)):
            return layer.name
    return None


def is_finite(values):
    """Whether all numbers of an array are finite; whole numbers are."""
    values = np.asarray(ops.convert_to_numpy(values))
    return values.dtype.kind != "f" or bool(np.isfinite(values).all())


def sizes_at_the_first_weights(model, x):
    """Return (layer, root mean square of each feature that enters it) of the first layer that multiplies by weights."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Embedding):
            return None
        if isinstance(layer, keras.layers.Bidirectional) or hasattr(layer, "kernel") or hasattr(layer, "cell"):
            with undisturbed(model):
                entering = keras.Model(model.inputs, layer.input)(keras.tree.flatten(x), training=True)
            features = ops.convert_to_numpy(keras.tree.flatten(entering)[0]).astype(np.float64)
            return layer.name, np.sqrt(np.nanmean(features.reshape(-1, features.shape[-1]) ** 2, axis=0))
    return None


def _copied(variable):
    """Return the value of a variable as a tensor, which a gradient can be taken by."""
    return ops.convert_to_tensor(ops.convert_to_numpy(variable))


class _Run:
    """Runs a recurrent layer step by step, in the place of its `call`, adding a nudge to the state of each step."""

    def __init__(self, layer):
        self.layer, self.nudge, self.shape, self.done = layer, None, None, False

    def begin(self, nudge):
        self.nudge, self.done = nudge, False

    def __call__(self, sequences, initial_state=None, mask=None, training=False):
        layer, x = self.layer, sequences[:, -_STEPS:]
        if self.done:  # a layer that is called again goes its usual way
            return type(layer).call(layer, sequences, initial_state=initial_state, mask=mask, training=training)
        self.done = True
        mask = keras.tree.flatten(mask)[0] if mask is not None else None
        mask = None if mask is None else mask[:, -_STEPS:]
        if layer.go_backwards:
            x, mask = ops.flip(x, axis=1), None if mask is None else ops.flip(mask, axis=1)
        structure = layer.get_initial_state(ops.shape(x)[0])  # of stacked cells, lists within the list
        states = keras.tree.flatten(structure if initial_state is None else initial_state)
        self.shape, self.dtype = (x.shape[1], *states[0].shape), states[0].dtype
        nudge = ops.zeros(self.shape, self.dtype) if self.nudge is None else self.nudge
        outputs, self.gates = [], []
        self.lengths = ops.ones(ops.shape(x)[:2], "int32") if mask is None else ops.cast(mask, "int32")
        with _recorded(layer.cell) as record:
            for step in range(x.shape[1]):
                record.clear()
                output, new = layer.cell(x[:, step], keras.tree.pack_sequence_as(structure, states))
                new = keras.tree.flatten(new)
                if mask is not None:
                    seen = ops.reshape(mask[:, step], (-1, *[1] * (len(new[0].shape) - 1)))
                    new = [ops.where(seen, one, old) for one, old in zip(new, states, strict=True)]
                    output = ops.where(seen, output, outputs[-1] if outputs else ops.zeros_like(output))
                nudged = new[0] + nudge[step]
                same = output is new[0] or output.shape == new[0].shape
                states = [nudged, *new[1:]]
                outputs.append(output + nudge[step] if same else output)  # an output that is the state moves with it
                for gate, values in enumerate(record):
                    self.gates += [[]] if len(self.gates) <= gate else []
                    self.gates[gate].append(values)
        self.outputs = outputs
        answer = ops.stack(outputs, axis=1) if layer.return_sequences else outputs[-1]
        return (answer, *keras.tree.pack_sequence_as(structure, states)) if layer.return_state else answer


@contextlib.contextmanager
def _stepwise(layers):
    """Let layers run step by step; yield {path: `_Run`}."""
    runs = {path: _Run(layer) for path, layer in layers.items()}
    try:
        for run in runs.values():
            run.layer.call = run
        yield runs
    finally:
        for run in runs.values():
            del run.layer.call  # and the class has its own


@contextlib.contextmanager
def _recorded(cell):
    """Yield a list of what the gates of a cell say.

    They are a cell's `recurrent_activation`, as Keras' have it, or what it gets from `keras.ops.sigmoid`, as the zoo's.
    """
    owner, name = (cell, "recurrent_activation") if hasattr(cell, "recurrent_activation") else (ops, "sigmoid")
    record, activation = [], getattr(owner, name)

    def listening(values):
        gate = activation(values)
        if len(gate.shape) > 1:  # else of weights alone
            record.append(gate)
        return gate

    setattr(owner, name, listening)
    try:
        yield record
    finally:
        setattr(owner, name, activation)


def _by_layer(model, gradients):
    """Return {path of a layer: norm}, from one gradient for each trainable variable."""
    squares = {}
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        path = variable.path.rpartition("/")[0]
        squares[path] = squares.get(path, 0.0) + float(
            ops.sum(ops.square(ops.cast(ops.convert_to_tensor(gradient), "float32")))
        )
    return {path: float(np.sqrt(square)) for path, square in squares.items()}


def _by_lag(gradients, mask):
    """From (steps, batch, ...) to the mean norm at each lag before the last step of each row."""
    flat = gradients.reshape(*gradients.shape[:2], -1).astype(np.float64)
    norms = np.linalg.norm(flat, axis=-1).T  # (batch, steps)
    rows = [row[: max(1, np.flatnonzero(seen).max(initial=0) + 1)][::-1] for row, seen in zip(norms, mask, strict=True)]
    sums, counts = np.zeros(max(map(len, rows))), np.zeros(max(map(len, rows)))
    for row in rows:
        sums[: len(row)] += row
        counts[: len(row)] += 1
    return sums / counts
