"""LSTM whose gates see the cell state."""

import keras
from keras import ops

from zoo.errors import SettingError
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
        h[t] = o[t] * tanh(c[t])                        with a projection (o[t] * tanh(c[t])) W_p

    A projection makes the hidden state, which is what the gates and the next layer read, narrower than the memory. With
    coupled gates there is no input gate of its own: what is forgotten makes room for what is new, i[t] = 1 - f[t].

    The weights: `kernel` (features, 4 units) and `recurrent_kernel` (hidden, 4 units) in Keras' gate order i f c o,
    `bias` (4 units,), `peephole` (3, units) in the order i f o, `projection_kernel` W_p (units, hidden) if there is a
    projection; without one hidden is units. Coupled gates take f c o, 3 units, and two rows of peepholes, f o. The
    kernel starts Glorot uniform, which keeps the variance of the gates' inputs that of the features; the recurrent
    kernel and the projection orthogonal, which neither grows nor shrinks what passes them from step to step; the forget
    bias at 1, so that the cell remembers until it learns to forget (Jozefowicz et al., 2015); the peepholes at zero,
    which is the plain LSTM.

    Args:
        units: int, width of the cell state.
        projection: int, width of the hidden state and the output; None for `units`, without a projection.
        coupled: bool, i[t] = 1 - f[t].

    Call arguments:
        inputs: (batch, features).
        states: [hidden, cell], (batch, hidden) and (batch, units).

    Returns:
        The output h[t] (batch, hidden), and [h[t], c[t]].

    Raises:
        SettingError: `units` or `projection` is not a positive whole number, or `coupled` is neither True nor False.

    Example:
        >>> cell = PeepholeLSTMCell(3)
        >>> output, (hidden, memory) = cell(np.ones((2, 5)), cell.get_initial_state(2))
        >>> tuple(memory.shape)
        (2, 3)

    Reference:
        F. Gers, N. Schraudolph, J. Schmidhuber, "Learning precise timing with LSTM recurrent networks", JMLR 3, 2002,
        https://www.jmlr.org/papers/v3/gers02a.html; the projection: H. Sak, A. Senior, F. Beaufays, "Long short-term
        memory recurrent neural network architectures for large scale acoustic modeling", Interspeech 2014,
        https://arxiv.org/abs/1402.1128; coupled gates: K. Greff et al., "LSTM: a search space odyssey", IEEE
        Transactions on Neural Networks and Learning Systems 28(10), 2017, https://arxiv.org/abs/1503.04069
    """

    state_names = ("hidden", "cell")

    def __init__(self, units, projection=None, coupled=False, **kwargs):
        super().__init__(**kwargs)
        self.units = check_units(units)
        self.projection = None if projection is None else check_units(projection, "projection")
        if not isinstance(coupled, bool):
            raise SettingError(f"coupled is {coupled!r}; expected True or False")
        self.coupled = coupled
        self.output_size = self.projection or self.units
        self.state_size = [self.output_size, self.units]

    def build(self, input_shape):
        units, gates = self.units, 3 if self.coupled else 4
        self.kernel = self.add_weight(
            shape=(input_shape[-1], gates * units), initializer="glorot_uniform", name="kernel"
        )
        self.recurrent_kernel = self.add_weight(
            shape=(self.output_size, gates * units), initializer="orthogonal", name="recurrent_kernel"
        )
        self.bias = self.add_weight(shape=(gates * units,), initializer=self._forget_bias, name="bias")
        self.peephole = self.add_weight(shape=(gates - 1, units), initializer="zeros", name="peephole")
        if self.projection is not None:
            self.projection_kernel = self.add_weight(
                shape=(units, self.projection), initializer="orthogonal", name="projection_kernel"
            )

    def _forget_bias(self, shape, dtype=None):
        parts = [ops.ones(self.units, dtype), ops.zeros(2 * self.units, dtype)]
        return ops.concatenate(parts if self.coupled else [ops.zeros(self.units, dtype), *parts])

    @property
    def recur_weights(self):
        return [self.recurrent_kernel, self.bias]

    @property
    def advance_weights(self):
        # The projection is here, though it is a matmul, because its result is the output as well as the state: in
        # `recur` it would be made twice in each step. Its gradient is then summed up step by step.
        return [self.peephole] if self.projection is None else [self.peephole, self.projection_kernel]

    def project(self, inputs):
        return ops.matmul(inputs, self.kernel)

    def recur(self, states, weights):
        recurrent_kernel, bias = weights
        return ops.matmul(states[0], recurrent_kernel) + bias  # here a matmul's epilogue; on X W a pass over all steps

    def advance(self, projected, recurrent, states, weights, noise=None):
        memory = states[1]
        *p_i, p_f, p_o = ops.unstack(weights[0])
        *i, f, g, o = ops.split(projected + recurrent, 3 if self.coupled else 4, axis=-1)
        f = ops.sigmoid(f + p_f * memory)
        i = 1 - f if self.coupled else ops.sigmoid(i[0] + p_i[0] * memory)
        memory = f * memory + i * ops.tanh(g)
        hidden = ops.sigmoid(o + p_o * memory) * ops.tanh(memory)
        if self.projection is not None:
            hidden = ops.matmul(hidden, weights[1])
        return hidden, [hidden, memory]

    def get_config(self):
        own = {"units": self.units, "projection": self.projection, "coupled": self.coupled}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("zoo")
class PeepholeLSTM(SequenceLayer):
    """Peephole LSTM over a sequence: `Recurrent` over `PeepholeLSTMCell`.

    Args:
        units: int, width of the cell state.
        projection: int, width of the hidden state and the output; None for `units`, without a projection.
        coupled: bool, the input gate is 1 - the forget gate.
        **kwargs: the arguments of `Recurrent`: return_sequences, return_state, go_backwards, stateful, ...

    Call arguments:
        sequences: (batch, time, features).
        initial_state: [hidden, cell], (batch, hidden) and (batch, units); zeros if left out.
        mask: (batch, time), True where a step counts.

    Returns:
        (batch, hidden), or (batch, time, hidden) with `return_sequences`, where hidden is `projection` or `units`;
        followed by the final hidden and cell state with `return_state`.

    Raises:
        SettingError: as `PeepholeLSTMCell`.

    Example:
        >>> layer = PeepholeLSTM(8, projection=3, return_sequences=True)
        >>> tuple(layer(np.ones((2, 20, 5))).shape)
        (2, 20, 3)
    """

    def __init__(self, units, projection=None, coupled=False, **kwargs):
        super().__init__(PeepholeLSTMCell(units, projection, coupled, dtype=kwargs.get("dtype")), **kwargs)
