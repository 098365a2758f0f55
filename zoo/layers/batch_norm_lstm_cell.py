"""The cell of the LSTM with recurrent batch normalisation, and what it normalises by."""

from functools import partial

import keras
import numpy as np
from keras import ops

from zoo.errors import SettingError
from zoo.layers.cell import Cell, check_built, check_rate, check_units

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
        norms = [partial(normalise, mean=tables[i], variance=tables[i + 1]) for i in range(0, len(tables), 2)]
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
        of_batch = [m[:, part] for part in (slice(of_gates), slice(of_gates, None)) for m in moments(values, counts)]
        for statistic, moment in zip(self.statistics, of_batch, strict=False):  # without `steps` no second pair
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


def moments(values, counts):
    """Return mean and variance over the first axis of the rows with a count of 1."""
    rows = ops.maximum(ops.sum(counts, axis=0), 1)
    mean = ops.sum(counts * values, axis=0) / rows
    return mean, ops.sum(counts * ops.square(values - mean), axis=0) / rows


def normalise(values, mean, variance):
    """Return (values - mean) / sqrt(variance + epsilon), computed in float32 at least."""
    return ops.cast((wide(values) - mean) * ops.rsqrt(variance + _EPSILON), values.dtype)


def wide(values):
    """In float32 if in half precision, where squares would be lost."""
    half = keras.backend.standardize_dtype(values.dtype) in ("float16", "bfloat16")
    return ops.cast(values, "float32") if half else values
