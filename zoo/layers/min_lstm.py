"""LSTM without an output gate and without the past in its gates."""

import keras
from keras import ops

from zoo.layers.cell import check_units
from zoo.layers.linear_recurrence import LinearCell, LinearRecurrence


@keras.saving.register_keras_serializable("zoo")
class MinLSTMCell(LinearCell):
    """Minimal long short-term memory, one step.

    The gates and the candidate depend on the input alone, and the two gates are divided by their sum, so that the state
    keeps its scale however long the sequence. The state's recurrence is linear: a whole sequence is computed by a
    parallel scan, in training too. This is the paper's plain form, whose candidate has no activation, not the one in
    log space, whose candidate is positive: with a[t] in (0, 1) the plain scan is stable.

        f[t] = sigmoid(x[t] W_f + b_f)
        i[t] = sigmoid(x[t] W_i + b_i)
        h[t] = (f[t] * h[t-1] + i[t] * (x[t] W_h + b_h)) / (f[t] + i[t])

    The quotients are computed from the logarithms of f and i, so that two shut gates are no 0 / 0.

    The weights: `kernel` (features, 3 units) in the order f i h, Glorot uniform, which keeps the variance of the
    features; `bias` (3 units,), 1 for the forget gate, so that the cell remembers until it learns to forget, otherwise
    0. There is no recurrent kernel.

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
        >>> cell = MinLSTMCell(3)
        >>> output, _ = cell(np.ones((2, 5)), cell.get_initial_state(2))
        >>> tuple(output.shape)
        (2, 3)

    Reference:
        L. Feng, F. Tung, M. Ahmed, Y. Bengio, H. Hajimirsadeghi, "Were RNNs all we needed?", 2024,
        https://arxiv.org/abs/2410.01201
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = check_units(units)

    def build(self, input_shape):
        units = self.units
        self.kernel = self.add_weight(shape=(input_shape[-1], 3 * units), initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight(shape=(3 * units,), initializer=self._forget_bias, name="bias")

    def _forget_bias(self, shape, dtype=None):
        return ops.concatenate([ops.ones(self.units, dtype), ops.zeros(2 * self.units, dtype)])

    def project(self, inputs):
        return ops.matmul(inputs, self.kernel) + self.bias

    def gates(self, projected):
        forget, write, candidate = ops.split(projected, 3, axis=-1)
        odds = ops.log_sigmoid(forget) - ops.log_sigmoid(write)  # log(f / i), and f / (f + i) = sigmoid(log(f / i))
        return ops.sigmoid(odds), ops.sigmoid(-odds) * candidate

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("zoo")
class MinLSTM(LinearRecurrence):
    """Minimal long short-term memory over a sequence, all of its steps at once: `LinearRecurrence` over `MinLSTMCell`.

    Args:
        units: int, width of the state.
        **kwargs: the arguments of `Recurrent`: return_sequences, return_state, go_backwards, stateful, ...

    Call arguments:
        sequences: (batch, time, features).
        initial_state: [hidden], (batch, units); zeros if left out.
        mask: (batch, time), True where a step counts.

    Returns:
        (batch, units), or (batch, time, units) with `return_sequences`; followed by the final state with
        `return_state`.

    Raises:
        SettingError: `units` is not a positive whole number.

    Example:
        >>> layer = MinLSTM(8, return_sequences=True)
        >>> tuple(layer(np.ones((2, 20, 5))).shape)
        (2, 20, 8)
    """

    def __init__(self, units, **kwargs):
        super().__init__(MinLSTMCell(units, dtype=kwargs.get("dtype")), **kwargs)
