"""The scalar cell of the extended LSTM, with exponential gates."""

import keras
from keras import ops

from zoo import checks
from zoo.errors import SettingError
from zoo.layers.cell import Cell, check_units
from zoo.layers.recurrent import SequenceLayer


@keras.saving.register_keras_serializable("zoo")
class SLSTMCell(Cell):
    """Scalar LSTM of xLSTM, one step.

    The input gate is exponential, so that a later input can outweigh all that was stored before; the output divides by
    the sum of the gates, the normaliser n. The stabiliser m takes the largest exponent out of c and n, which changes
    neither their quotient nor the output, and keeps all exponentials at 1 or less. The forget gate is the sigmoid (the
    paper allows the exponential too). Within a head all units hear each other, between heads none.

        i[t] = x[t] W_i + h[t-1] U_i + b_i          f[t] = log sigmoid(x[t] W_f + h[t-1] U_f + b_f)
        z[t] = tanh(x[t] W_z + h[t-1] U_z + b_z)    o[t] =     sigmoid(x[t] W_o + h[t-1] U_o + b_o)
        m[t] = max(f[t] + m[t-1], i[t])
        c[t] = exp(f[t] + m[t-1] - m[t]) * c[t-1] + exp(i[t] - m[t]) * z[t]
        n[t] = exp(f[t] + m[t-1] - m[t]) * n[t-1] + exp(i[t] - m[t])
        h[t] = o[t] * c[t] / n[t]

    At the start, where n is 0, nothing is stored that m[t-1] could belong to: there m[t] = i[t].

    The weights: `kernel` (features, 4 units) in the order i f z o, Glorot uniform, which keeps the variance of the
    features; `recurrent_kernel` (heads, units / heads, 4 units / heads), orthogonal in each head; `bias` (4 units,), 1
    for the forget gate, so that the cell remembers until it learns to forget, otherwise 0.

    Args:
        units: int, width of the states.
        heads: int that divides `units`, groups of units with a memory in common.

    Call arguments:
        inputs: (batch, features).
        states: [hidden, cell, normaliser, stabiliser], each (batch, units).

    Returns:
        The output h[t] (batch, units), and [h[t], c[t], n[t], m[t]].

    Raises:
        SettingError: `units` or `heads` is not a positive whole number, or `heads` does not divide `units`.

    Example:
        >>> cell = SLSTMCell(6, heads=2)
        >>> output, states = cell(np.ones((2, 5)), cell.get_initial_state(2))
        >>> tuple(output.shape), len(states)
        ((2, 6), 4)

    Reference:
        M. Beck et al., "xLSTM: extended long short-term memory", 2024, https://arxiv.org/abs/2405.04517
    """

    state_names = ("hidden", "cell", "normaliser", "stabiliser")

    def __init__(self, units, heads=1, **kwargs):
        super().__init__(**kwargs)
        self.units = check_units(units)
        self.heads = checks.whole(heads, "heads")
        if self.units % self.heads:
            raise SettingError(f"heads is {heads}; expected a whole number that divides the {units} units")
        self.state_size = [self.units] * 4
        self.output_size = self.units

    def build(self, input_shape):
        units, width = self.units, self.units // self.heads
        self.kernel = self.add_weight(shape=(input_shape[-1], 4 * units), initializer="glorot_uniform", name="kernel")
        self.recurrent_kernel = self.add_weight(
            shape=(self.heads, width, 4 * width), initializer=_orthogonal_heads, name="recurrent_kernel"
        )
        self.bias = self.add_weight(shape=(4 * units,), initializer=self._forget_bias, name="bias")

    def _forget_bias(self, shape, dtype=None):
        units = self.units
        return ops.concatenate([ops.zeros(units, dtype), ops.ones(units, dtype), ops.zeros(2 * units, dtype)])

    @property
    def recur_weights(self):
        return [self.recurrent_kernel]

    def project(self, inputs):
        return ops.matmul(inputs, self.kernel) + self.bias

    def recur(self, states, weights):
        width = self.units // self.heads
        hidden = ops.transpose(ops.reshape(states[0], (-1, self.heads, width)), (1, 0, 2))  # (heads, batch, width)
        heard = ops.reshape(ops.matmul(hidden, weights[0]), (self.heads, -1, 4, width))
        return ops.reshape(ops.transpose(heard, (1, 2, 0, 3)), (-1, 4 * self.units))  # gate by gate, heads within

    def advance(self, projected, recurrent, states, weights, noise=None):
        _, cell, normaliser, stabiliser = states
        i, f, z, o = ops.split(projected + recurrent, 4, axis=-1)
        remembered = ops.log_sigmoid(f) + stabiliser
        stabiliser = ops.where(normaliser == 0, i, ops.maximum(remembered, i))
        # Never above 0 but at the start, where what it multiplies is 0, and an infinite factor would make it NaN.
        forget = ops.exp(ops.minimum(remembered - stabiliser, 0.0))
        write = ops.exp(i - stabiliser)
        cell = forget * cell + write * ops.tanh(z)
        normaliser = forget * normaliser + write
        hidden = ops.sigmoid(o) * cell / normaliser
        return hidden, [hidden, cell, normaliser, stabiliser]

    def get_config(self):
        return {**super().get_config(), "units": self.units, "heads": self.heads}


@keras.saving.register_keras_serializable("zoo")
class SLSTM(SequenceLayer):
    """Scalar LSTM of xLSTM over a sequence: `Recurrent` over `SLSTMCell`.

    Args:
        units: int, width of the states.
        heads: int that divides `units`, groups of units with a memory in common.
        **kwargs: the arguments of `Recurrent`: return_sequences, return_state, go_backwards, stateful, ...

    Call arguments:
        sequences: (batch, time, features).
        initial_state: [hidden, cell, normaliser, stabiliser], each (batch, units); zeros if left out.
        mask: (batch, time), True where a step counts.

    Returns:
        (batch, units), or (batch, time, units) with `return_sequences`; followed by the four final states with
        `return_state`.

    Raises:
        SettingError: `units` or `heads` is not a positive whole number, or `heads` does not divide `units`.

    Example:
        >>> layer = SLSTM(8, heads=2, return_sequences=True)
        >>> tuple(layer(np.ones((2, 20, 5))).shape)
        (2, 20, 8)
    """

    def __init__(self, units, heads=1, **kwargs):
        super().__init__(SLSTMCell(units, heads, dtype=kwargs.get("dtype")), **kwargs)


def _orthogonal_heads(shape, dtype=None):
    return ops.stack([keras.initializers.Orthogonal()(shape[1:], dtype) for _ in range(shape[0])])
