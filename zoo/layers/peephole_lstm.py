"""LSTM whose gates see the cell state."""

import keras
from keras import ops

from zoo.layers.cell import Cell, check_units
from zoo.layers.recurrent import SequenceLayer


@keras.saving.register_keras_serializable("zoo")
class PeepholeLSTMCell(Cell):
    """Long short-term memory with peephole connections, one step.

    The gates read the cell state through one weight per unit, which lets them measure exact intervals; input and
    forget gate see the state before the step, the output gate the state after it.

        i[t] = sigmoid(x[t] W_i + h[t-1] U_i + p_i * c[t-1] + b_i)
        f[t] = sigmoid(x[t] W_f + h[t-1] U_f + p_f * c[t-1] + b_f)
        g[t] =    tanh(x[t] W_c + h[t-1] U_c + b_c)
        c[t] = f[t] * c[t-1] + i[t] * g[t]
        o[t] = sigmoid(x[t] W_o + h[t-1] U_o + p_o * c[t] + b_o)
        h[t] = o[t] * tanh(c[t])

    The weights: `kernel` (features, 4 units) and `recurrent_kernel` (units, 4 units) in Keras' gate order i f c o,
    `bias` (4 units,), `peephole` (3, units) in the order i f o. The kernel starts Glorot uniform, which keeps the
    variance of the gates' inputs that of the features; the recurrent kernel orthogonal, which neither grows nor shrinks
    the hidden state at the start; the forget bias at 1, so that the cell remembers until it learns to forget
    (Jozefowicz et al., 2015); the peepholes at zero, which is the plain LSTM.

    Args:
        units: int, width of the hidden and of the cell state.

    Call arguments:
        inputs: (batch, features).
        states: [hidden, cell], each (batch, units).

    Returns:
        The output h[t] (batch, units), and [h[t], c[t]].

    Raises:
        SettingError: `units` is not a positive whole number.

    Example:
        >>> cell = PeepholeLSTMCell(3)
        >>> output, (hidden, memory) = cell(np.ones((2, 5)), cell.get_initial_state(2))
        >>> tuple(memory.shape)
        (2, 3)

    Reference:
        F. Gers, N. Schraudolph, J. Schmidhuber, "Learning precise timing with LSTM recurrent networks", JMLR 3, 2002,
        https://www.jmlr.org/papers/v3/gers02a.html
    """

    state_names = ("hidden", "cell")

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = check_units(units)
        self.state_size = [self.units, self.units]
        self.output_size = self.units

    def build(self, input_shape):
        units = self.units
        self.kernel = self.add_weight(shape=(input_shape[-1], 4 * units), initializer="glorot_uniform", name="kernel")
        self.recurrent_kernel = self.add_weight(
            shape=(units, 4 * units), initializer="orthogonal", name="recurrent_kernel"
        )
        self.bias = self.add_weight(shape=(4 * units,), initializer=self._forget_bias, name="bias")
        self.peephole = self.add_weight(shape=(3, units), initializer="zeros", name="peephole")

    def _forget_bias(self, shape, dtype=None):
        units = self.units
        return ops.concatenate([ops.zeros(units, dtype), ops.ones(units, dtype), ops.zeros(2 * units, dtype)])

    @property
    def recur_weights(self):
        return [self.recurrent_kernel, self.bias]

    @property
    def advance_weights(self):
        return [self.peephole]

    def project(self, inputs):
        return ops.matmul(inputs, self.kernel)

    def recur(self, states, weights):
        recurrent_kernel, bias = weights
        return ops.matmul(states[0], recurrent_kernel) + bias  # here a matmul's epilogue; on X W a pass over all steps

    def advance(self, projected, recurrent, states, weights, noise=None):
        memory, peephole = states[1], weights[0]
        i, f, g, o = ops.split(projected + recurrent, 4, axis=-1)
        i = ops.sigmoid(i + peephole[0] * memory)
        f = ops.sigmoid(f + peephole[1] * memory)
        memory = f * memory + i * ops.tanh(g)
        hidden = ops.sigmoid(o + peephole[2] * memory) * ops.tanh(memory)
        return hidden, [hidden, memory]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("zoo")
class PeepholeLSTM(SequenceLayer):
    """Peephole LSTM over a sequence: `Recurrent` over `PeepholeLSTMCell`.

    Args:
        units: int, width of the hidden and of the cell state.
        **kwargs: the arguments of `Recurrent`: return_sequences, return_state, go_backwards, stateful, ...

    Call arguments:
        sequences: (batch, time, features).
        initial_state: [hidden, cell], each (batch, units); zeros if left out.
        mask: (batch, time), True where a step counts.

    Returns:
        (batch, units), or (batch, time, units) with `return_sequences`; followed by the final hidden and cell state
        with `return_state`.

    Raises:
        SettingError: `units` is not a positive whole number.

    Example:
        >>> layer = PeepholeLSTM(8, return_sequences=True)
        >>> tuple(layer(np.ones((2, 20, 5))).shape)
        (2, 20, 8)
    """

    def __init__(self, units, **kwargs):
        super().__init__(PeepholeLSTMCell(units, dtype=kwargs.get("dtype")), **kwargs)
