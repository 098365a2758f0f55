"""Truncated back-propagation through time: sequences of any length, in the memory of a window."""

import contextlib

import keras
import numpy as np
from keras import ops

from zoo.errors import SettingError
from zoo.layers.cell import check_units
from zoo.train.sharing import current
from zoo.train.windows import Windows

_PROBED = 4  # steps of each of the two windows that are compared with one before the first training


class TruncatedBPTT(keras.Model):
    """Train a model on long sequences window by window: the state goes on, the gradient stops at the border.

    Memory and time of an update depend on the window, not on the sequence. With states s, windows w of k steps and
    their loss L_w, the mean over the steps of the window that count,

        s[w, 0] = s[w-1, k] as a constant;  s[w, t] = step(x[w, t], s[w, t-1])
        weights -= optimizer(d L_w / d weights)                                   once for each window

    so what happened before the window is known to the forward pass, and an error is traced back at most k steps. A
    window as long as the longest sequence is plain back-propagation through time.

    Many sequences run side by side, each row a stream with states of its own, which start afresh where the next
    sequence begins; the rest of a sequence's last window is masked, for the layers and for the loss. Everything else is
    `keras.Model`: compile it, and `fit` takes callbacks, validation data, and any loss that is a mean over steps. The
    weights are the model's own, which stays as it is otherwise; save or export `trainer.model`. On TensorFlow and JAX.

    Before the first use two short windows are run against one of their joint length: a model that reads across
    time in another way than by recurrent layers (a convolution, attention, a mean over time) is refused.

    Args:
        model: built `keras.Model` of one input (batch, time, ...) and one output (batch, time, ...): recurrent layers,
            Keras' or ours, with `return_sequences`, and layers that treat each step by itself.
        steps: int, k, length of a window; the time that a gradient is traced back.
        streams: int, sequences side by side, the rows of a batch.

    Raises:
        SettingError: `steps` or `streams` is not a positive whole number, or not what the model's input fixes; the
            model has no recurrent layers, or some that are stateful, go backwards or stand in a wrapper such as
            Bidirectional; its output is not one for each step, or is another one in windows.

    Example:
        >>> model = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(8, return_sequences=True)])
        >>> trainer = TruncatedBPTT(model, steps=50, streams=2)
        >>> trainer.compile("adam", "mse")
        >>> history = trainer.fit(np.ones((2, 1000, 3)), np.zeros((2, 1000, 8)), verbose=0)

    Reference:
        R. Williams, J. Peng, "An efficient gradient-based algorithm for on-line training of recurrent network
        trajectories", Neural Computation 2(4), 1990
    """

    def __init__(self, model, *, steps, streams=32, **kwargs):
        super().__init__(**kwargs)
        self.steps, self.streams = check_units(steps, "steps"), check_units(streams, "streams")
        _check_model(model, self.steps, self.streams)
        self.model = model
        self._network = keras.Model(model.inputs[0], model.outputs[0])
        self.carried = [self._carried(layer) for layer in recurrent_layers(model)]
        self.supports_masking, self.built, self._probed = True, True, False

    def _carried(self, layer):
        """Return a flat list of variables for the states of a layer."""
        name, dtype = f"{layer.name}_state", layer.variable_dtype
        return [
            self.add_weight(first.shape, "zeros", dtype, trainable=False, name=name)
            for first in keras.tree.flatten(layer.get_initial_state(self.streams))
        ]

    def call(self, inputs, training=False):
        x, mask = [  # with the number of rows, which Keras' data leaves open and loops want to know
            None if each is None else ops.reshape(each, (self.streams, *each.shape[1:]))
            for each in (inputs["x"], inputs.get("mask"))
        ]
        layers, nested = recurrent_layers(self.model), []
        for layer, states in zip(layers, self.carried, strict=True):
            fresh = layer.get_initial_state(self.streams)
            for state, first in zip(states, keras.tree.flatten(fresh), strict=True):
                starts = ops.reshape(inputs["starts"], (-1, *[1] * (len(state.shape) - 1)))
                state.assign(ops.where(starts, ops.cast(first, state.dtype), ops.copy(state)))
            nested.append(keras.tree.pack_sequence_as(fresh, list(states)))
        with _stateful(layers, nested), _masking(self._network, mask):
            return self._network(x, mask=mask, training=training)

    def compute_mask(self, inputs, previous_mask=None):
        return inputs.get("mask")  # for the loss and the metrics, if the model's layers have not passed it on

    def fit(
        self, x, y, *, sample_weight=None, epochs=1, validation_data=None, callbacks=None, verbose="auto", **options
    ):
        """Train on sequences, all of them once in each epoch and in the order given.

        Args:
            x: array (sequences, time, ...), or list of arrays (time, ...) of any lengths; a memory map is read piece by
                piece. To cut one endless series into parallel streams, reshape it to (streams, time, ...).
            y: targets of every step, likewise.
            sample_weight: weight of every step, (sequences, time) or a list of (time,).
            epochs, callbacks, verbose, initial_epoch: as in `keras.Model.fit`.
            validation_data: (x, y) or (x, y, sample_weight), likewise.

        Returns:
            The `keras.callbacks.History`; a loss in it is the mean over windows.

        Raises:
            DataError: no sequences, lengths or shapes that do not fit, NaN or infinity.
            SettingError: the model is another one in windows, or training is shared out over devices.
        """
        unknown = set(options) - {"initial_epoch"}
        if unknown:
            raise SettingError(
                f"fit got {', '.join(sorted(unknown))}; windows are neither shuffled, split nor batched anew: "
                "expected sample_weight, epochs, initial_epoch, validation_data, callbacks, verbose"
            )
        if current().devices > 1:
            raise SettingError("TruncatedBPTT trains on one device: leave `distributed` for it.")
        windows = self.windows(x, y, sample_weight)
        if validation_data is not None:
            validation_data = self.windows(*validation_data)
        self._probe(windows)
        return super().fit(
            windows,
            epochs=epochs,
            validation_data=validation_data,
            callbacks=callbacks,
            verbose=verbose,
            shuffle=False,
            **options,
        )

    def evaluate(self, x, y=None, *, sample_weight=None, **options):
        """Return the loss and metrics, as `keras.Model.evaluate`, over sequences given as in `fit`."""
        windows = x if isinstance(x, Windows) else self.windows(x, y, sample_weight)
        self._probe(windows)
        options.pop("batch_size", None)  # Keras' fit passes its own
        return super().evaluate(windows, **options)

    def predict(self, x, **options):
        """Return the outputs of every step of sequences given as in `fit`: an array for an array, a list for a list."""
        windows = self.windows(x)
        self._probe(windows)
        joined = windows.join(super().predict(windows, **options))
        return np.stack(joined) if isinstance(x, np.ndarray) else joined

    def windows(self, x, y=None, sample_weight=None):
        """Return the `Windows` of sequences, none longer than the longest of them unless the model's input asks it."""
        windows = Windows(x, y, sample_weight, steps=self.steps, streams=self.streams)
        longest = max(windows.lengths)
        if longest < self.steps and _fixed(self.model)[1] is None:
            windows = Windows(x, y, sample_weight, steps=longest, streams=self.streams)
        return windows

    def _probe(self, windows):
        """Raise SettingError unless the model answers in two windows what it answers in one."""
        if self._probed:
            return
        steps = min(_PROBED, self.steps, max(windows.lengths) // 2)
        if steps > 0 and _fixed(self.model)[1] is None:
            sequences = [each[: 2 * steps] for each in windows.arrays["x"] if len(each) >= 2 * steps]
            x = np.stack([sequences[row % len(sequences)] for row in range(self.streams)])
            x = x.astype(windows[0][0]["x"].dtype)
            whole = self._network(x, training=False)
            parts = [
                self({"x": part, "starts": np.full(self.streams, start)})
                for part, start in ((x[:, :steps], True), (x[:, steps:], False))
            ]
            whole, *parts = (ops.convert_to_numpy(ops.cast(each, "float32")) for each in (whole, *parts))
            error = np.abs(np.concatenate(parts, axis=1) - whole).max()
            # What rounding makes of the same steps is far below a hundredth of how much the outputs vary.
            if error > (0.1 if "16" in self.model.compute_dtype else 0.01) * whole.std() + 1e-5 * np.abs(whole).max():
                raise SettingError(
                    f"the model answers otherwise in two windows than in one (by up to {error:.2g}): some of it reads "
                    "across time without being a recurrent layer, such as a convolution, attention, a mean over time "
                    "or a given initial_state; expected recurrent layers and layers of single steps"
                )
        self._probed = True


def recurrent_layers(model):
    """Return the recurrent layers of a model, in a fixed order."""
    return [each for each in model._flatten_layers(include_self=False) if isinstance(each, keras.layers.RNN)]


@contextlib.contextmanager
def _stateful(layers, states):
    """Let layers start from these states and leave their last in them, within the context only."""
    kept = [(layer.stateful, layer.states) for layer in layers]
    try:
        for layer, own in zip(layers, states, strict=True):
            # past Keras' tracking: the variables are not the layer's
            vars(layer).update(stateful=True, states=own)
        yield
    finally:
        for layer, (stateful, own) in zip(layers, kept, strict=True):
            vars(layer).update(stateful=stateful, states=own)


@contextlib.contextmanager
def _masking(network, mask):
    """Let the layers that do not pass a mask on do so, within the context only: each step of theirs is one of ours."""
    others = [] if mask is None else [each for each in network._flatten_layers() if not each.supports_masking]
    try:
        for layer in others:
            vars(layer).update(_supports_masking=True, compute_mask=lambda inputs, previous_mask=None: mask)
        yield
    finally:
        for layer in others:
            vars(layer).update(_supports_masking=False)
            del vars(layer)["compute_mask"]


def _fixed(model):
    """Return the numbers of rows and steps that the model's input fixes, each None if open."""
    return tuple(model.inputs[0].shape[:2])


def _check_model(model, steps, streams):
    if not isinstance(model, keras.Model) or not model.built:
        raise SettingError(f"model is a {type(model).__name__}; expected a keras.Model that is built, with an Input")
    if len(getattr(model, "inputs", None) or ()) != 1 or len(model.outputs) != 1:
        raise SettingError("model has not one input and one output; expected a Sequential or functional one that has")
    if len(model.inputs[0].shape) < 2:
        raise SettingError(f"the model's input has the shape {model.inputs[0].shape}; expected (batch, time, ...)")
    if model.outputs[0].shape[1:2] != model.inputs[0].shape[1:2]:
        raise SettingError(
            f"the model's output has the shape {model.outputs[0].shape}; expected one for each step, (batch, "
            "time, ...): take return_sequences=True, and weigh the steps by sample_weight where few have a target"
        )
    layers = recurrent_layers(model)
    if not layers:
        raise SettingError("the model has no recurrent layers, whose states would go on; train it with keras.Model.fit")
    for wrapper in model._flatten_layers():
        if isinstance(wrapper, (keras.layers.Wrapper, keras.layers.Bidirectional)) and any(
            each in layers for each in wrapper._flatten_layers()
        ):
            reason = (
                "reads a sequence from its end, which no window has seen"
                if isinstance(wrapper, keras.layers.Bidirectional)
                else "keeps no state from window to window"
            )
            raise SettingError(f"layer {wrapper.name} ({type(wrapper).__name__}) {reason}; expected plain layers")
    for layer in layers:
        if layer.go_backwards:
            raise SettingError(f"layer {layer.name} goes backwards, from an end that no window has seen")
        if layer.stateful:
            raise SettingError(f"layer {layer.name} is stateful; expected stateful=False: states are carried here")
    for value, given, name in zip((streams, steps), _fixed(model), ("streams", "steps"), strict=True):
        if given is not None and value != given:
            raise SettingError(
                f"{name} is {value}, and the model's input {model.inputs[0].shape} fixes {given}; expected {given}, or "
                "an Input that leaves it open (None)"
            )
