"""A cell that draws a value from what it expects, and reads that value at its next step."""

import keras
from keras import ops

from zoo.layers.cell import project_within_step, state_sizes
from zoo.layers.cell_wrapper import CellWrapper

_LEAST = 1e-3  # of a spread: a value that repeats itself would make a likelihood without bound


@keras.saving.register_keras_serializable("zoo")
class SampledCell(CellWrapper):
    """Walk along a path of a series: a cell tells how the next value is distributed, and reads what was drawn.

    What is random comes from outside, as the first of the inputs: a draw of the standard distribution, so that the same
    draws give the same path on every device. The rest of the inputs is known ahead of time. The mean is told relative
    to the value before, so that a cell that has learnt nothing repeats it.

        noise[t], known[t] = x[t]
        y[t], s[t] = cell([value[t-1], known[t]], s[t-1])
        change[t], width[t] = y[t] W + b
        value[t] = value[t-1] + change[t] + (softplus(width[t]) + 0.001) * noise[t]

    The weights: those of the cell, `kernel` W (units, 2) and `bias` b (2,).

    Args:
        cell: `Cell`, which reads as many features as there are inputs.

    Call arguments:
        inputs: (batch, 1 + known), the noise first.
        states: [value (batch, 1), then the states of `cell`].

    Returns:
        value[t] (batch, 1), and the list of new states.

    Raises:
        SettingError: `cell` is no `Cell`.

    Example:
        >>> layer = Recurrent(SampledCell(LSTMCell(4)), return_sequences=True)
        >>> tuple(layer(np.ones((2, 7, 3))).shape)
        (2, 7, 1)

    Reference:
        D. Salinas et al., "DeepAR: Probabilistic forecasting with autoregressive recurrent networks", International
        Journal of Forecasting 36(3), 2020, https://arxiv.org/abs/1704.04110
    """

    def __init__(self, cell, **kwargs):
        super().__init__(cell, **kwargs)
        self.state_size = [1, *state_sizes(cell)]
        self.state_names = ("value", *cell.state_names)
        self.output_size = 1

    def build(self, input_shape):
        super().build(input_shape)  # the value takes the place of the noise
        self.kernel = self.add_weight(shape=(self.cell.output_size, 2), initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight(shape=(2,), initializer="zeros", name="bias")

    @property
    def project_weights(self):
        return []

    @property
    def advance_weights(self):
        return [self.kernel, self.bias, *self.cell.advance_weights, *self.cell.project_weights]

    def project(self, inputs, noise=None):
        return inputs  # the cell's own inputs are not known before the step

    def recall(self, states, noise):
        return states if noise[0] is None else [states[0], *self.cell.recall(states[1:], noise[0])]

    def recur(self, states, weights):
        return self.cell.recur(states[1:], weights)

    def advance(self, projected, recurrent, states, weights, noise=None):
        kernel, bias, *weights = weights
        own, part = len(self.cell.advance_weights), None if noise is None else noise[0]
        read = states[0]
        if projected.shape[-1] > 1:
            read = ops.concatenate([read, projected[:, 1:]], axis=-1)
        read = project_within_step(self.cell, read, weights[own:], part)
        output, states_of_cell = self.cell.advance(read, recurrent, states[1:], weights[:own], part)
        mean, spread = _distribution(output, states[0], kernel, bias)
        value = mean + spread * projected[:, :1]
        return value, [value, *states_of_cell]

    def distribution(self, outputs, values):
        """Return (mean, spread), each (..., 1), from outputs of `cell` (..., units) and the values that it read."""
        return _distribution(outputs, values, self.kernel, self.bias)

    def get_initial_state(self, batch_size=None):
        return [ops.zeros((batch_size, 1), self.compute_dtype), *self.cell.get_initial_state(batch_size)]


def _distribution(outputs, values, kernel, bias):
    told = ops.matmul(outputs, kernel) + bias
    return values + told[..., :1], ops.softplus(told[..., 1:]) + _LEAST
