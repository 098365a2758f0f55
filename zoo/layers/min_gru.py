"""GRU without a reset gate and without the past in its gates."""

import keras
from keras import ops

from zoo.layers.cell import check_units
from zoo.layers.linear_recurrence import LinearCell, LinearRecurrence


@keras.saving.register_keras_serializable("zoo")
class MinGRUCell(LinearCell):
    """Minimal gated recurrent unit, one step.

    The update gate and the candidate depend on the input alone. This makes the state's recurrence linear, so that a
    whole sequence is computed by a parallel scan, in training too; what is lost must be won back by stacking layers.
    This is the paper's plain form, whose candidate has no activation, not the one in log space, whose candidate is
    positive: with a[t] in (0, 1) the plain scan is stable.

        z[t] = sigmoid(x[t] W_z + b_z)
        h[t] = (1 - z[t]) * h[t-1] + z[t] * (x[t] W_h + b_h)

    The weights: `kernel` (features, 2 units) in the order z h, Glorot uniform, which keeps the features' variance;
    `bias` (2 units,), for the update gate -1, which is a forget bias of 1: the state stays until the gate learns to
    open. There is no recurrent kernel.

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
        >>> cell = MinGRUCell(3)
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
        self.kernel = self.add_weight(shape=(input_shape[-1], 2 * units), initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight(shape=(2 * units,), initializer=self._forget_bias, name="bias")

    def _forget_bias(self, shape, dtype=None):
        return ops.concatenate([-ops.ones(self.units, dtype), ops.zeros(self.units, dtype)])

    def project(self, inputs):
        return ops.matmul(inputs, self.kernel) + self.bias

    def gates(self, projected):
        update, candidate = ops.split(projected, 2, axis=-1)
        update = ops.sigmoid(update)
        return 1 - update, update * candidate

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("zoo")
class MinGRU(LinearRecurrence):
    """Minimal gated recurrent unit over a sequence, all of its steps at once: `LinearRecurrence` over `MinGRUCell`.

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
        >>> layer = MinGRU(8, return_sequences=True)
        >>> tuple(layer(np.ones((2, 20, 5))).shape)
        (2, 20, 8)
    """

    def __init__(self, units, **kwargs):
        super().__init__(MinGRUCell(units, dtype=kwargs.get("dtype")), **kwargs)
