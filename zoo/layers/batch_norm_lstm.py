"""LSTM with recurrent batch normalisation."""

import keras
import numpy as np
from keras import ops

from zoo.errors import SettingError
from zoo.layers.batch_norm_lstm_cell import BatchNormLSTMCell, moments, normalise, wide
from zoo.layers.cell_wrapper import CellWrapper
from zoo.layers.recurrent import Recurrent, SequenceLayer


@keras.saving.register_keras_serializable("zoo")
class BatchNormLSTM(SequenceLayer):
    """LSTM with recurrent batch normalisation over a sequence, which gathers its statistics while it trains.

    As with `keras.layers.BatchNormalization`, a call with `training=True` normalises by the batch and moves the
    statistics, any other uses them, and a layer with `trainable = False` always does. Masked rows take no part. Rows at
    the same place in their sequences are normalised together: pad at the end. A training batch needs two rows or more,
    as a single one is equal to its mean.

    Training keeps what was normalised at all steps to take the statistics from, with `checkpoint_every` too, which
    therefore saves less memory than in other layers.

    Args:
        units: int, width of the hidden and of the cell state.
        steps: int, number of time steps with statistics of their own, the longest sequence; None shares one set, and
            leaves the cell state unnormalised: `BatchNormLSTMCell` says why.
        momentum: float in [0, 1), how much of the statistics a training batch leaves.
        **kwargs: the arguments of `Recurrent`: return_sequences, return_state, go_backwards, stateful, ...

    Call arguments:
        sequences: (batch, time, features).
        initial_state: [hidden, cell], each (batch, units), and with `steps` the number of steps so far, (batch, 1);
            zeros if left out.
        mask: (batch, time), True where a step counts.

    Returns:
        (batch, units), or (batch, time, units) with `return_sequences`; followed by the final states with
        `return_state`.

    Raises:
        SettingError: `units` or `steps` is not a positive whole number; `momentum` is not in [0, 1); a sequence, with
            what came before it, is longer than `steps`. Where only a compiled program knows the length, TensorFlow
            raises its InvalidArgumentError with the same words, and XLA, which cannot raise, answers NaN.

    Example:
        >>> layer = BatchNormLSTM(8, return_sequences=True)
        >>> tuple(layer(np.ones((2, 20, 5)), training=True).shape)
        (2, 20, 8)
    """

    def __init__(self, units, steps=None, momentum=0.9, **kwargs):
        super().__init__(BatchNormLSTMCell(units, steps, momentum, dtype=kwargs.get("dtype")), **kwargs)

    def build(self, sequences_shape, initial_state_shape=None):
        self._check_length(sequences_shape[1])
        super().build(sequences_shape, initial_state_shape)

    def inner_loop(self, sequences, initial_state, mask, training=False):
        if self.cell.steps is not None:
            self._check_length(sequences.shape[1])
            initial_state = self._within_statistics(sequences, initial_state)
        if not (training and self.trainable):
            return super().inner_loop(sequences, initial_state, mask)
        counts = ops.ones((*ops.shape(sequences)[:2], 1), initial_state[0].dtype)
        if mask is not None:
            counts = counts * ops.cast(ops.expand_dims(keras.tree.flatten(mask)[0], -1), counts.dtype)
        if self.go_backwards:
            counts = ops.flip(counts, axis=1)
        recorder = Recurrent(
            _TrainingCell(self.cell, ops.swapaxes(counts, 0, 1)),
            self.checkpoint_every,
            return_sequences=True,
            go_backwards=self.go_backwards,
            unroll=self.unroll,
            zero_output_for_mask=self.zero_output_for_mask,
            name=self.name,
        )
        last, recorded, states = recorder.inner_loop(sequences, initial_state, mask, training=True)
        units = self.cell.units
        self.cell.remember(ops.stop_gradient(recorded[..., units:]), counts)
        outputs = recorded[..., :units] if self.return_sequences else recorded[:, -1:, :units]
        return last[:, :units], outputs, states

    def _check_length(self, length):
        if None not in (length, self.cell.steps) and length > self.cell.steps:
            raise SettingError(self._too_long(length))

    def _within_statistics(self, sequences, initial_state):
        """Return the initial state; where the whole gets too long and no error can say so, one of NaN."""
        steps = ops.cast(ops.shape(sequences)[1], "float32") + ops.max(ops.cast(initial_state[2], "float32"), initial=0)
        too_long = steps > self.cell.steps
        try:
            if too_long:
                raise SettingError(self._too_long(int(steps)))
            return initial_state
        except TypeError:  # as a program is being traced, which has no values yet
            hidden, memory, step = initial_state
            if keras.backend.backend() == "tensorflow":
                import tensorflow as tf

                tf.debugging.Assert(~too_long, [self._too_long("more"), steps])
            return [ops.where(too_long, np.nan, hidden), memory, step]

    def _too_long(self, received):
        return (
            f"steps is {self.cell.steps}, and layer {self.name} received {received} time steps; "
            "expected no more than it has statistics for: train with a larger steps, or with steps=None"
        )

    def fold(self):
        """Return the `keras.layers.LSTM` that computes the same at inference.

        Raises:
            SettingError: the layer has `steps`, or is not built.
        """
        if self.cell.steps is not None:
            raise SettingError(
                f"steps is {self.cell.steps}; only statistics that all steps share, steps=None, fold into an LSTM"
            )
        if not self.built:
            raise SettingError(f"layer {self.name} has no weights yet; build it first: layer.build((None, None, n))")
        kept = ("name", "return_sequences", "return_state", "go_backwards", "stateful", "unroll")
        options = {name: getattr(self, name) for name in (*kept, "zero_output_for_mask")}
        cell = self.cell.fold()
        plain = keras.layers.LSTM(self.cell.units, dtype=self.dtype_policy, **options)
        plain.build((None, None, cell.kernel.shape[0]))
        plain.set_weights(cell.get_weights())
        return plain


class _TrainingCell(CellWrapper):
    """A cell in one training batch: it normalises by the rows that count, and its output shows what it normalised.

    The tables of statistics are none of its weights: of weights the loop adds up a gradient at each step.

    Args:
        cell: `BatchNormLSTMCell`.
        counts: 1 where a row counts, else 0, (time, batch, 1).
    """

    def __init__(self, cell, counts):
        super().__init__(cell)
        self.counts = counts
        self.output_size = 9 * cell.units if cell.steps is None else 10 * cell.units + 1

    @property
    def advance_weights(self):
        return self.cell.scales

    def draw_noise(self, steps, batch_size):
        return self.counts

    def recall(self, states, noise):
        return states

    def project(self, inputs, noise=None):
        return self.cell.project(inputs)

    def advance(self, projected, recurrent, states, weights, noise=None):
        def norm(values):
            mean, variance = moments(wide(values), wide(noise))
            return normalise(values, mean, variance)

        output, new_states = self.cell.normalised_step(projected, recurrent, states, weights, [norm, norm])
        of_steps = [] if self.cell.steps is None else [new_states[1], states[2]]
        return ops.concatenate([output, projected, recurrent, *of_steps], axis=-1), new_states
