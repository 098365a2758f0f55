"""The GRU cell of Keras, split for the zoo."""

import keras
from keras import ops

from zoo.layers.cell import Cell, check_units, with_weights


@keras.saving.register_keras_serializable("zoo")
class GRUCell(Cell):
    """Gated recurrent unit, one step: what `keras.layers.GRUCell` computes, with the same weights.

    The reset gate acts after the recurrent product, as in cuDNN and by Keras' default, so that the product is one
    matmul of the state alone. The cell is there to be wrapped and stacked (`Zoneout`, `VariationalDropout`,
    `StackedCells`); alone, over a sequence, take `keras.layers.GRU`.

        z[t] = sigmoid(x[t] W_z + b_z + h[t-1] U_z + d_z)
        r[t] = sigmoid(x[t] W_r + b_r + h[t-1] U_r + d_r)
        g[t] =    tanh(x[t] W_h + b_h + r[t] * (h[t-1] U_h + d_h))
        h[t] = z[t] * h[t-1] + (1 - z[t]) * g[t]

    The weights: `kernel` (features, 3 units), `recurrent_kernel` (units, 3 units), `bias` (2, 3 units), its rows b and
    d, in Keras' gate order z r h. The kernel starts Glorot uniform, which keeps the variance of the gates' inputs that
    of the features; the recurrent kernel orthogonal, which neither grows nor shrinks the state at the start; the biases
    at zero, where both gates are half open.

    Args:
        units: int, width of the state.

    Call arguments:
        inputs: (batch, features).
        states: [hidden], (batch, units).

    Returns:
        The output h[t] (batch, units), and [h[t]].

    Raises:
        SettingError: `units` is not a positive whole number.

    Example:
        >>> layer = Recurrent(GRUCell(3))
        >>> tuple(layer(np.ones((2, 7, 5))).shape)
        (2, 3)

    Reference:
        K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine translation",
        EMNLP 2014, https://arxiv.org/abs/1406.1078
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = check_units(units)

    def build(self, input_shape):
        units = self.units
        self.kernel = self.add_weight(shape=(input_shape[-1], 3 * units), initializer="glorot_uniform", name="kernel")
        self.recurrent_kernel = self.add_weight(
            shape=(units, 3 * units), initializer="orthogonal", name="recurrent_kernel"
        )
        self.bias = self.add_weight(shape=(2, 3 * units), initializer="zeros", name="bias")

    @property
    def project_weights(self):
        return [self.kernel, self.bias]

    @property
    def recur_weights(self):
        return [self.recurrent_kernel, self.bias]

    def project(self, inputs):
        return ops.matmul(inputs, self.kernel) + self.bias[0]

    def recur(self, states, weights):
        recurrent_kernel, bias = weights
        return ops.matmul(states[0], recurrent_kernel) + bias[1]

    def advance(self, projected, recurrent, states, weights, noise=None):
        x_z, x_r, x_h = ops.split(projected, 3, axis=-1)
        h_z, h_r, h_h = ops.split(recurrent, 3, axis=-1)
        update, reset = ops.sigmoid(x_z + h_z), ops.sigmoid(x_r + h_r)
        hidden = update * states[0] + (1 - update) * ops.tanh(x_h + reset * h_h)
        return hidden, [hidden]

    def fold(self):
        """Return the `keras.layers.GRUCell` with these weights, for which formats have ops."""
        plain = keras.layers.GRUCell(self.units, name=self.name, dtype=self.dtype_policy)
        return with_weights(plain, self)

    def get_config(self):
        return {**super().get_config(), "units": self.units}
