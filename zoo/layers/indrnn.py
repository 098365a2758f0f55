"""Independently recurrent network: each unit remembers itself only."""

import keras
from keras import ops

from zoo.errors import SettingError
from zoo.layers.cell import Cell, check_units
from zoo.layers.recurrent import SequenceLayer

_ACTIVATIONS = {"relu": ops.relu, "tanh": ops.tanh}


@keras.saving.register_keras_serializable("zoo")
class RecurrentBound(keras.constraints.Constraint):
    """Hold recurrent weights within what a sequence bears.

    A unit multiplies its memory by its weight u at each step, so that after `steps` steps no gradient is larger than
    twice what it was:

        |u| <= 2^(1 / steps)

    Args:
        steps: int, time steps of the longest sequence, or None for any length, which is the limit |u| <= 1.

    Raises:
        SettingError: `steps` is not a positive whole number.

    Example:
        >>> float(RecurrentBound(1)(np.array([3.0]))[0])
        2.0
    """

    def __init__(self, steps):
        self.steps = None if steps is None else check_units(steps, "steps")
        self.bound = 1.0 if steps is None else 2.0 ** (1 / steps)

    def __call__(self, w):
        return ops.clip(w, -self.bound, self.bound)

    def get_config(self):
        return {"steps": self.steps}


@keras.saving.register_keras_serializable("zoo")
class IndRNNCell(Cell):
    """Independently recurrent network, one step.

    The recurrent weight is a vector: a unit sees its own past only, the units mix in the next layer. The gradient
    through time is then a power of one number for each unit, which `RecurrentBound` keeps from exploding, and relu,
    which does not saturate, becomes possible over thousands of steps.

        h[t] = act(x[t] W + b + u * h[t-1])

    The weights: `kernel` (features, units), `bias` (units,), `recurrent` (units,), within `RecurrentBound(steps)`. The
    recurrent weights start as the authors' do: uniform in [0, 2^(1/steps)], units of every memory between one step and
    all; with `remember`, in [2^(-1/steps), 2^(1/steps)], where every unit keeps between half and twice of what it saw
    first: for the last layer of a network whose answer depends on the distant past. (Their code allows a growth of 5 in
    place of 2 for pixel by pixel digits.) Ours is that the kernel starts Glorot uniform, which keeps the variance of
    the inputs, in place of a narrower range; the bias starts at zero.

    Args:
        units: int, width of the state.
        steps: int, time steps of the sequences to learn, or None for any length (2^(1/steps) is then 1).
        activation: "relu" or "tanh".
        remember: bool, start with long memories only; needs `steps`.

    Call arguments:
        inputs: (batch, features).
        states: [hidden], (batch, units).

    Returns:
        The output h[t] (batch, units), and [h[t]].

    Raises:
        SettingError: `units` or `steps` is not a positive whole number; `activation` is another one; `remember` without
            `steps`.

    Example:
        >>> cell = IndRNNCell(3, steps=100)
        >>> output, (hidden,) = cell(np.ones((2, 5)), cell.get_initial_state(2))
        >>> tuple(hidden.shape)
        (2, 3)

    Reference:
        S. Li, W. Li, C. Cook, C. Zhu, Y. Gao, "Independently recurrent neural network (IndRNN): building a longer and
        deeper RNN", CVPR 2018, https://arxiv.org/abs/1803.04831
    """

    def __init__(self, units, steps=None, activation="relu", remember=False, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = check_units(units)
        self.bound = RecurrentBound(steps)
        if not isinstance(activation, str) or activation not in _ACTIVATIONS:
            raise SettingError(f"activation is {activation!r}; expected one of {', '.join(_ACTIVATIONS)}")
        if remember and steps is None:
            raise SettingError("remember is True and steps None; long memories need the number of steps")
        self.steps, self.activation, self.remember = self.bound.steps, activation, remember

    def build(self, input_shape):
        units, bound = self.units, self.bound.bound
        initial = keras.initializers.RandomUniform(1 / bound if self.remember else 0.0, bound)
        self.kernel = self.add_weight(shape=(input_shape[-1], units), initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight(shape=(units,), initializer="zeros", name="bias")
        self.recurrent = self.add_weight(shape=(units,), initializer=initial, constraint=self.bound, name="recurrent")

    @property
    def advance_weights(self):
        return [self.recurrent]

    def project(self, inputs):
        return ops.matmul(inputs, self.kernel) + self.bias

    def advance(self, projected, recurrent, states, weights, noise=None):
        hidden = _ACTIVATIONS[self.activation](projected + weights[0] * states[0])
        return hidden, [hidden]

    def get_config(self):
        own = {"units": self.units, "steps": self.steps, "activation": self.activation, "remember": self.remember}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("zoo")
class IndRNN(SequenceLayer):
    """Independently recurrent network over a sequence: `Recurrent` over `IndRNNCell`.

    Args:
        units: int, width of the state.
        steps: int, time steps of the sequences to learn, or None for any length.
        activation: "relu" or "tanh".
        remember: bool, start with long memories only; needs `steps`.
        **kwargs: the arguments of `Recurrent`: return_sequences, return_state, go_backwards, stateful, ...

    Call arguments:
        sequences: (batch, time, features).
        initial_state: [hidden], (batch, units); zeros if left out.
        mask: (batch, time), True where a step counts.

    Returns:
        (batch, units), or (batch, time, units) with `return_sequences`; followed by the final state with
        `return_state`.

    Raises:
        SettingError: as `IndRNNCell`.

    Example:
        >>> layer = IndRNN(8, steps=20, return_sequences=True)
        >>> tuple(layer(np.ones((2, 20, 5))).shape)
        (2, 20, 8)
    """

    def __init__(self, units, steps=None, activation="relu", remember=False, **kwargs):
        super().__init__(IndRNNCell(units, steps, activation, remember, dtype=kwargs.get("dtype")), **kwargs)


def indrnn_stack(sequences, units, depth, *, steps=None, residual=False, batch_norm=False):
    """Apply `depth` IndRNN layers, one on the other, as deep as their gradients stay healthy.

    As a unit of one layer sees itself only, the units mix from layer to layer, and two layers are the least that can
    do what one fully recurrent layer does.

        plain      y = norm(IndRNN(x))
        residual   y = x + IndRNN(norm(x)), from the second layer on

    where norm is batch normalisation over batch and time, or nothing. The last layer starts with long memories if
    `steps` is known, the others with memories of every length.

    Plain stacks are the paper's, with its normalisation after the activation. The residual form is ours: like the
    paper's it leaves the sum free of any activation, so that gradients reach the first layer as they are, but it adds
    over every layer, the last one too, and normalises a layer's inputs. The authors add over blocks of two recurrences,
    each normalised between weight and recurrence, and end in a plain layer.

    Args:
        sequences: (batch, time, features), of a functional model or an array.
        units: int, width of every layer.
        depth: int, number of layers.
        steps: int, time steps of the sequences to learn, or None for any length.
        residual: bool, each layer after the first adds to its input.
        batch_norm: bool, batch normalisation between the layers.

    Returns:
        (batch, time, units).

    Raises:
        SettingError: `units`, `depth` or `steps` is not a positive whole number.

    Example:
        >>> inputs = keras.Input((784, 1))
        >>> outputs = keras.layers.Dense(10)(indrnn_stack(inputs, 128, 6, steps=784, batch_norm=True)[:, -1])
        >>> keras.Model(inputs, outputs).output_shape
        (None, 10)
    """
    depth = check_units(depth, "depth")
    for level in range(depth):
        remember = steps is not None and level == depth - 1
        layer = IndRNN(units, steps, remember=remember, return_sequences=True)
        if residual and level > 0:
            sequences = sequences + layer(_normalised(sequences) if batch_norm else sequences)
        else:
            sequences = layer(sequences)
            sequences = _normalised(sequences) if batch_norm and not residual else sequences
    return sequences


def _normalised(sequences):
    return keras.layers.BatchNormalization()(sequences)
