"""LSTM with layer normalisation."""

import keras
from keras import ops

from zoo.errors import SettingError
from zoo.layers.cell import Cell, check_units
from zoo.layers.recurrent import SequenceLayer

_EPSILON = 1e-5


@keras.saving.register_keras_serializable("zoo")
class LayerNormLSTMCell(Cell):
    """Long short-term memory with layer normalisation, one step, in the form of the paper's supplement.

    What comes from the inputs and what comes from the hidden state are normalised apart, each over all four gates at
    once, and so is the cell state on its way out; the memory itself is left as it is. Other forms normalise each gate
    on its own: they are other models, and their weights do not fit here.

        z[t] = N(x[t] W) * s_x + N(h[t-1] U) * s_h + b        i, f, g, o = the quarters of z[t]
        c[t] = sigmoid(f) * c[t-1] + sigmoid(i) * tanh(g)
        h[t] = sigmoid(o) * tanh(N(c[t]) * s_c + b_c)
        N(v) = (v - mean(v)) / sqrt(variance(v) + 1e-5)

    The weights: `kernel` W (features, 4 units) and `recurrent_kernel` U (units, 4 units) in Keras' gate order i f c o,
    `bias` b (4 units,), `input_scale` s_x and `recurrent_scale` s_h (4 units,), `cell_scale` s_c and `cell_bias` b_c
    (units,). The kernel starts Glorot uniform, the recurrent kernel orthogonal, which gives every direction of the
    hidden state the same weight; the scales at 1 and the biases at 0 but that of the forget gate at 1, so that the cell
    remembers until it learns to forget.

    Args:
        units: int of at least 2, width of the hidden and of the cell state (the norm of a single value is 0).

    Call arguments:
        inputs: (batch, features).
        states: [hidden, cell], each (batch, units).

    Returns:
        The output h[t] (batch, units), and [h[t], c[t]].

    Raises:
        SettingError: `units` is not a whole number of at least 2.

    Example:
        >>> cell = LayerNormLSTMCell(3)
        >>> output, (hidden, memory) = cell(np.ones((2, 5)), cell.get_initial_state(2))
        >>> tuple(memory.shape)
        (2, 3)

    Reference:
        J. Ba, J. Kiros, G. Hinton, "Layer normalization", 2016, https://arxiv.org/abs/1607.06450
    """

    state_names = ("hidden", "cell")

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = check_units(units)
        if units < 2:
            raise SettingError(f"units is {units}; expected at least 2, as the norm of a single value is 0")
        self.state_size = [self.units, self.units]
        self.output_size = self.units

    def build(self, input_shape):
        units = self.units
        self.kernel = self.add_weight(shape=(input_shape[-1], 4 * units), initializer="glorot_uniform", name="kernel")
        self.recurrent_kernel = self.add_weight(
            shape=(units, 4 * units), initializer="orthogonal", name="recurrent_kernel"
        )
        self.bias = self.add_weight(shape=(4 * units,), initializer=self._forget_bias, name="bias")
        self.input_scale = self.add_weight(shape=(4 * units,), initializer="ones", name="input_scale")
        self.recurrent_scale = self.add_weight(shape=(4 * units,), initializer="ones", name="recurrent_scale")
        self.cell_scale = self.add_weight(shape=(units,), initializer="ones", name="cell_scale")
        self.cell_bias = self.add_weight(shape=(units,), initializer="zeros", name="cell_bias")

    def _forget_bias(self, shape, dtype=None):
        units = self.units
        return ops.concatenate([ops.zeros(units, dtype), ops.ones(units, dtype), ops.zeros(2 * units, dtype)])

    @property
    def recur_weights(self):
        return [self.recurrent_kernel]

    @property
    def advance_weights(self):
        return [self.recurrent_scale, self.cell_scale, self.cell_bias]

    def project(self, inputs):
        # Centring is linear: that of the kernel is that of the product, and passes over fewer numbers.
        centred = self.kernel - ops.mean(self.kernel, axis=-1, keepdims=True)
        return _scale(ops.matmul(inputs, centred)) * self.input_scale + self.bias

    def recur(self, states, weights):
        return ops.matmul(states[0], weights[0])

    def advance(self, projected, recurrent, states, weights, noise=None):
        recurrent_scale, cell_scale, cell_bias = weights
        i, f, g, o = ops.split(projected + _normalise(recurrent) * recurrent_scale, 4, axis=-1)
        memory = ops.sigmoid(f) * states[1] + ops.sigmoid(i) * ops.tanh(g)
        hidden = ops.sigmoid(o) * ops.tanh(_normalise(memory) * cell_scale + cell_bias)
        return hidden, [hidden, memory]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("zoo")
class LayerNormLSTM(SequenceLayer):
    """LSTM with layer normalisation over a sequence: `Recurrent` over `LayerNormLSTMCell`.

    Args:
        units: int of at least 2, width of the hidden and of the cell state.
        **kwargs: the arguments of `Recurrent`: return_sequences, return_state, go_backwards, stateful, ...

    Call arguments:
        sequences: (batch, time, features).
        initial_state: [hidden, cell], each (batch, units); zeros if left out.
        mask: (batch, time), True where a step counts.

    Returns:
        (batch, units), or (batch, time, units) with `return_sequences`; followed by the final hidden and cell state
        with `return_state`.

    Raises:
        SettingError: `units` is not a whole number of at least 2.

    Example:
        >>> layer = LayerNormLSTM(8, return_sequences=True)
        >>> tuple(layer(np.ones((2, 20, 5))).shape)
        (2, 20, 8)
    """

    def __init__(self, units, **kwargs):
        super().__init__(LayerNormLSTMCell(units, dtype=kwargs.get("dtype")), **kwargs)


def _normalise(values):
    """Mean 0 and variance 1 over the last axis."""
    return _scale(values - ops.mean(values, axis=-1, keepdims=True))


def _scale(centred):
    """Variance 1 over the last axis, whose mean is 0; in float32, where squares of half precision would be lost."""
    half = keras.backend.standardize_dtype(centred.dtype) in ("float16", "bfloat16")
    return ops.cast(_scaled(ops.cast(centred, "float32")), centred.dtype) if half else _scaled(centred)


def _scaled(centred):
    """v / sqrt(mean(v^2) + epsilon), with its gradient in closed form: half the operations."""
    if keras.backend.backend() == "torch":  # whose `torch.func`, which RTRL and Diagnosis need, takes no other gradient
        return centred * _rate(centred)
    return _scaled_in_closed_form(centred)


def _rate(centred):
    return ops.rsqrt(ops.mean(ops.square(centred), axis=-1, keepdims=True) + _EPSILON)


@ops.custom_gradient
def _scaled_in_closed_form(centred):
    rate = _rate(centred)
    scaled = centred * rate

    def gradient(upstream):
        return rate * (upstream - scaled * ops.mean(upstream * scaled, axis=-1, keepdims=True))

    return scaled, gradient
