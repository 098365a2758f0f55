"""LSTM with recurrent batch normalisation."""

from functools import partial

import keras
import numpy as np
from keras import ops

from zoo.errors import SettingError
from zoo.layers.cell import Cell, check_built, check_rate, check_units
from zoo.layers.cell_wrapper import CellWrapper
from zoo.layers.recurrent import Recurrent, SequenceLayer

_EPSILON = 1e-5
_COUNTS_TO = {"bfloat16": 2**8, "float16": 2**11}  # the whole numbers that a state of this dtype can hold


@keras.saving.register_keras_serializable("zoo")
class BatchNormLSTMCell(Cell):
    """Long short-term memory with recurrent batch normalisation, one step.

    What comes from the inputs and what comes from the hidden state are normalised apart, each unit over the batch, so
    that neither drowns the other whatever their scale. In training that is the batch at this step; at inference it is
    the average of what training saw, which comes in two forms:

    - With `steps`, the paper's: each time step has statistics of its own, as the first steps of a recurrence look
      unlike the later ones, and the cell state is normalised on its way out. A third state counts the steps, so that
      stepping, streaming and a continued sequence know where they are; a masked step does not count.
    - Without, all steps share one set, for any length, and the cell state is left alone: at inference the norms are
      then constant factors, and `fold()` gives the plain LSTM that computes the same.

        z[t] = N(x[t] W) * s_x + N(h[t-1] U) * s_h + b        i, f, g, o = the quarters of z[t]
        c[t] = sigmoid(f) * c[t-1] + sigmoid(i) * tanh(g)
        h[t] = sigmoid(o) * tanh(N(c[t]) * s_c + b_c)         with `steps`; else sigmoid(o) * tanh(c[t])
        N(v) = (v - mean) / sqrt(variance + 1e-5)

    The weights: `kernel` W (features, 4 units) and `recurrent_kernel` U (units, 4 units) in Keras' gate order i f c o,
    `bias` b (4 units,), `scale` (8 units,), s_x then s_h; with `steps` also `cell_scale` s_c and `cell_bias` b_c
    (units,). The kernel starts Glorot uniform, the recurrent kernel orthogonal, which gives every direction of the
    hidden state the same weight; the scales at 0.1, as the paper finds gradients to vanish in saturated gates at 1; the
    forget bias at 1, so that the cell remembers until it learns to forget. The statistics: `mean` and `variance`
    (steps or 1, 8 units), `cell_mean` and `cell_variance` (steps, units).

    Training takes `BatchNormLSTM`, which gathers the statistics; in any other layer the cell runs at inference only.

    Args:
        units: int, width of the hidden and of the cell state.
        steps: int, number of time steps with statistics of their own; None shares them.
        momentum: float in [0, 1), how much of the statistics a training batch leaves. The default averages about the
            last ten batches, so that a short training is enough for them to arrive.

    Call arguments:
        inputs: (batch, features).
        states: [hidden, cell], each (batch, units), and with `steps` the number of steps so far, (batch, 1).

    Returns:
        The output h[t] (batch, units), and the list of new states.

    Raises:
        SettingError: `units` or `steps` is not a positive whole number; `momentum` is not in [0, 1); a dtype of half
            precision in which so many `steps` cannot be counted.

    Example:
        >>> cell = BatchNormLSTMCell(3)
        >>> output, (hidden, memory) = cell(np.ones((2, 5)), cell.get_initial_state(2))
        >>> tuple(memory.shape)
        (2, 3)

    Reference:
        T. Cooijmans, N. Ballas, C. Laurent, C. Gulcehre, A. Courville, "Recurrent batch normalization", ICLR 2017,
        https://arxiv.org/abs/1603.09025
    """

    def __init__(self, units, steps=None, momentum=0.9, **kwargs):
        super().__init__(**kwargs)
        self.units = self.output_size = check_units(units)
        self.steps = None if steps is None else check_units(steps, "steps")
        self.momentum = check_rate(momentum, "momentum")
        if momentum == 1:
            raise SettingError("momentum is 1; expected less, or the statistics stay what they are")
        most = _COUNTS_TO.get(self.compute_dtype)
        if most is not None and self.steps is not None and self.steps > most:
            raise SettingError(f"steps is {steps}; {self.compute_dtype} counts to {most}: take float32 for this layer")
        counted = self.steps is not None
        self.state_names = ("hidden", "cell", "step") if counted else ("hidden", "cell")
        self.state_size = [self.units, self.units, 1] if counted else [self.units, self.units]

    def build(self, input_shape):
        units = self.units
        self.kernel = self.add_weight(shape=(input_shape[-1], 4 * units), initializer="glorot_uniform", name="kernel")
        self.recurrent_kernel = self.add_weight(
            shape=(units, 4 * units), initializer="orthogonal", name="recurrent_kernel"
        )
        small = keras.initializers.Constant(0.1)
        self.bias = self.add_weight(shape=(4 * units,), initializer=self._forget_bias, name="bias")
        self.scale = self.add_weight(shape=(8 * units,), initializer=small, name="scale")
        self.scales = [self.bias, self.scale]
        self.statistics = self._add_statistics("", (self.steps or 1, 8 * units))
        self.mean, self.variance = self.statistics
        if self.steps is not None:
            self.cell_scale = self.add_weight(shape=(units,), initializer=small, name="cell_scale")
            self.cell_bias = self.add_weight(shape=(units,), initializer="zeros", name="cell_bias")
            self.scales = [*self.scales, self.cell_scale, self.cell_bias]
            self.cell_mean, self.cell_variance = self._add_statistics("cell_", (self.steps, units))
            self.statistics = [*self.statistics, self.cell_mean, self.cell_variance]

    def _add_statistics(self, prefix, shape):
        return [
            self.add_weight(
                shape=shape,
                initializer=initializer,
                name=prefix + name,
                trainable=False,
                autocast=False,  # a mean in half precision would be off by a part of the deviation
                aggregation="mean",  # over the machines of a distributed training
            )
            for name, initializer in (("mean", "zeros"), ("variance", "ones"))
        ]

    def _forget_bias(self, shape, dtype=None):
        units = self.units
        return ops.concatenate([ops.zeros(units, dtype), ops.ones(units, dtype), ops.zeros(2 * units, dtype)])

    @property
    def recur_weights(self):
        return [self.recurrent_kernel]

    @property
    def advance_weights(self):
        return [*self.scales, *self.statistics]

    def draw_noise(self, steps, batch_size):
        raise SettingError(f"cell {self.name} is a BatchNormLSTMCell, which only a BatchNormLSTM can train")

    def project(self, inputs):
        return ops.matmul(inputs, self.kernel)

    def recur(self, states, weights):
        return ops.matmul(states[0], weights[0])

    def advance(self, projected, recurrent, states, weights, noise=None):
        scales, tables = weights[: len(self.scales)], weights[len(self.scales) :]
        if self.steps is not None:
            tables = [ops.take(table, ops.cast(states[2][:, 0], "int32"), axis=0) for table in tables]
        norms = [partial(_normalise, mean=tables[i], variance=tables[i + 1]) for i in range(0, len(tables), 2)]
        return self.normalised_step(projected, recurrent, states, scales, norms)

    def normalised_step(self, projected, recurrent, states, scales, norms):
        """Return (output, new states), with functions that normalise what enters the gates, and the cell state."""
        bias, scale = scales[:2]
        gates = norms[0](ops.concatenate([projected, recurrent], axis=-1)) * scale
        i, f, g, o = ops.split(gates[:, : 4 * self.units] + gates[:, 4 * self.units :] + bias, 4, axis=-1)
        memory = ops.sigmoid(f) * states[1] + ops.sigmoid(i) * ops.tanh(g)
        if self.steps is None:
            hidden = ops.sigmoid(o) * ops.tanh(memory)
            return hidden, [hidden, memory]
        cell_scale, cell_bias = scales[2:]
        hidden = ops.sigmoid(o) * ops.tanh(norms[1](memory) * cell_scale + cell_bias)
        return hidden, [hidden, memory, states[2] + 1]

    def remember(self, values, counts):
        """Take a training batch into the statistics.

        Each set of them moves towards the average of the means and variances that the steps which share it were
        normalised with, weighted by their rows. Steps with fewer than two rows have no variance to tell, and are left
        out.

        Args:
            values: what enters the gates, from inputs and hidden state, (batch, time, 8 units); with `steps` followed
                by the cell state and the number of steps before, (batch, time, 9 units + 1).
            counts: 1 where a row counts, 0 where it is masked, (batch, time, 1).
        """
        values, counts = ops.cast(values, self.variable_dtype), ops.cast(counts, self.variable_dtype)
        rows = ops.sum(counts, axis=0)  # (time, 1)
        rows = ops.where(rows < 2, ops.zeros_like(rows), rows)
        sets, index = 1, ops.zeros_like(rows[:, 0], dtype="int32")
        if self.steps is not None:
            sets, index = self.steps, ops.cast(ops.max(values[..., -1] * counts[..., 0], axis=0), "int32")
            values = values[..., :-1]
        total = ops.segment_sum(rows, index, sets)
        keep = ops.where(total > 0, self.momentum, ops.ones_like(total))
        of_gates = 8 * self.units
        moments = [m[:, part] for part in (slice(of_gates), slice(of_gates, None)) for m in _moments(values, counts)]
        for statistic, moment in zip(self.statistics, moments, strict=False):  # without `steps` no second pair
            seen = ops.segment_sum(rows * moment, index, sets) / ops.maximum(total, 1)
            statistic.assign(keep * statistic + (1 - keep) * seen)

    def fold(self):
        """Return the `keras.layers.LSTMCell` that computes the same at inference; without `steps`, else the cell."""
        if self.steps is not None:
            return self
        check_built(self)
        kernel, recurrent_kernel, bias, scale, mean, variance = [
            ops.convert_to_numpy(weight).astype("float64")
            for weight in (self.kernel, self.recurrent_kernel, self.bias, self.scale, self.mean[0], self.variance[0])
        ]
        factor = scale / np.sqrt(variance + _EPSILON)
        of_input, of_hidden = np.split(factor, 2)
        plain = keras.layers.LSTMCell(self.units, name=self.name, dtype=self.dtype_policy)
        plain.build((None, kernel.shape[0]))
        shift = sum(np.split(mean * factor, 2))
        plain.set_weights([kernel * of_input, recurrent_kernel * of_hidden, bias - shift])
        return plain

    def get_config(self):
        return {**super().get_config(), "units": self.units, "steps": self.steps, "momentum": self.momentum}


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
            mean, variance = _moments(_wide(values), _wide(noise))
            return _normalise(values, mean, variance)

        output, new_states = self.cell.normalised_step(projected, recurrent, states, weights, [norm, norm])
        of_steps = [] if self.cell.steps is None else [new_states[1], states[2]]
        return ops.concatenate([output, projected, recurrent, *of_steps], axis=-1), new_states


def _moments(values, counts):
    """Return mean and variance over the first axis of the rows with a count of 1."""
    rows = ops.maximum(ops.sum(counts, axis=0), 1)
    mean = ops.sum(counts * values, axis=0) / rows
    return mean, ops.sum(counts * ops.square(values - mean), axis=0) / rows


def _normalise(values, mean, variance):
    return ops.cast((_wide(values) - mean) * ops.rsqrt(variance + _EPSILON), values.dtype)


def _wide(values):
    """In float32 if in half precision, where squares would be lost."""
    half = keras.backend.standardize_dtype(values.dtype) in ("float16", "bfloat16")
    return ops.cast(values, "float32") if half else values
