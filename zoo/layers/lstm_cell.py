"""The LSTM cell of Keras, split for the zoo."""

import keras
from keras import ops

from zoo.layers.cell import Cell, check_units, with_weights


@keras.saving.register_keras_serializable("zoo")
class LSTMCell(Cell):
    """Long short-term memory, one step: what `keras.layers.LSTMCell` computes, with the same weights.

    It is there to be wrapped and stacked (`Zoneout`, `VariationalDropout`, `StackedCells`); alone, over a sequence,
    take `keras.layers.LSTM`.

        i[t] = sigmoid(x[t] W_i + h[t-1] U_i + b_i)
        f[t] = sigmoid(x[t] W_f + h[t-1] U_f + b_f)
        g[t] =    tanh(x[t] W_c + h[t-1] U_c + b_c)
        o[t] = sigmoid(x[t] W_o + h[t-1] U_o + b_o)
        c[t] = f[t] * c[t-1] + i[t] * g[t]
        h[t] = o[t] * tanh(c[t])

    The weights: `kernel` (features, 4 units), `recurrent_kernel` (units, 4 units), `bias` (4 units,), in Keras' gate
    order i f c o. The kernel starts Glorot uniform, which keeps the variance of the gates' inputs that of the features;
    the recurrent kernel orthogonal, which neither grows nor shrinks the hidden state at the start; the forget bias at
    1, so that the cell remembers until it learns to forget (Jozefowicz et al., 2015).

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
        >>> layer = Recurrent(LSTMCell(3))
        >>> tuple(layer(np.ones((2, 7, 5))).shape)
        (2, 3)

    Reference:
        F. Gers, J. Schmidhuber, F. Cummins, "Learning to forget: continual prediction with LSTM", Neural Computation
        12(10), 2000, https://doi.org/10.1162/089976600300015015
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

    def _forget_bias(self, shape, dtype=None):
        units = self.units
        return ops.concatenate([ops.zeros(units, dtype), ops.ones(units, dtype), ops.zeros(2 * units, dtype)])

    @property
    def recur_weights(self):
        return [self.recurrent_kernel]

    def project(self, inputs):
        return ops.matmul(inputs, self.kernel) + self.bias

    def recur(self, states, weights):
        return ops.matmul(states[0], weights[0])

    def advance(self, projected, recurrent, states, weights, noise=None):
        i, f, g, o = ops.split(projected + recurrent, 4, axis=-1)
        memory = ops.sigmoid(f) * states[1] + ops.sigmoid(i) * ops.tanh(g)
        hidden = ops.sigmoid(o) * ops.tanh(memory)
        return hidden, [hidden, memory]

    def fold(self):
        """Return the `keras.layers.LSTMCell` with these weights, for which formats have ops."""
        plain = keras.layers.LSTMCell(self.units, name=self.name, dtype=self.dtype_policy)
        return with_weights(plain, self)

    def get_config(self):
        return {**super().get_config(), "units": self.units}
