"""Additive attention: a small network scores each step of the memory."""

import keras
from keras import ops

from zoo.layers.attention_cell import AttentionCell, read
from zoo.layers.cell import state_sizes


@keras.saving.register_keras_serializable("zoo")
class AdditiveAttention(AttentionCell):
    """Let a cell read, before each step, what its state makes it look for in a memory.

    What is read, the context, is an input of the very same step, beside the step's own inputs.

        e[t, s] = v . tanh(m[s] W_k + h[t-1] W_q + x[t] W_x + b)   for each step s of the memory m
        a[t]    = softmax of e[t] over the steps that count        the attention, (batch, memory steps)
        z[t]    = sum over s of a[t, s] m[s]                       the context
        y[t], states[t] = cell([x[t], z[t]], states[t-1])

    where h is the first of the cell's states: the hidden state of an LSTM, the first cell's of `StackedCells`. Of a row
    whose memory is all masked, attention and context are zero.

    The term x[t] W_x is there with `query_inputs` alone. The papers leave it out: then the word before, of which the
    state knows nothing yet, has no say in where the step looks. Give it where that word tells where to look: after
    "red", at the red thing.

    The weights: `key_kernel` W_k (memory_features, units), `query_kernel` W_q (size of h, units), `input_kernel` W_x
    (features, units), `bias` b (units,), `score_kernel` v (units, 1), and the cell's. The kernels start Glorot uniform,
    so that the tanh is neither flat nor saturated at the start; the bias at zero.

    Args:
        cell: `Cell`, whose inputs are wider than the step's by `memory_features`.
        units: int, width of the network that scores.
        memory_features: int, width of the memory.
        query_inputs: bool, the step's inputs are part of what it looks for.

    Call arguments:
        inputs: (batch, features).
        states: those of `cell`.
        attended: what `attend(memory, memory_mask)` returned.

    Returns:
        The output and the list of states of `cell`, and the attention (batch, memory steps).

    Raises:
        SettingError: `cell` is no `Cell`; `units` or `memory_features` is not a positive whole number; a memory of
            another shape.

    Example:
        >>> layer = AttentiveRecurrent(AdditiveAttention(LSTMCell(3), units=4, memory_features=6))
        >>> tuple(layer(np.ones((2, 7, 5)), memory=np.ones((2, 9, 6))).shape)
        (2, 3)

    Reference:
        D. Bahdanau, K. Cho, Y. Bengio, "Neural machine translation by jointly learning to align and translate",
        ICLR 2015, https://arxiv.org/abs/1409.0473
    """

    def __init__(self, cell, units, memory_features, query_inputs=False, **kwargs):
        super().__init__(cell, units, memory_features, **kwargs)
        self.query_inputs = bool(query_inputs)

    def build(self, input_shape):
        hidden, units = state_sizes(self.cell)[0], self.units
        kernel = {"initializer": "glorot_uniform"}
        self.key_kernel = self.add_weight(shape=(self.memory_features, units), **kernel, name="key_kernel")
        self.query_kernel = self.add_weight(shape=(hidden, units), **kernel, name="query_kernel")
        self.input_kernel = None
        if self.query_inputs:
            self.input_kernel = self.add_weight(shape=(input_shape[-1], units), **kernel, name="input_kernel")
        self.bias = self.add_weight(shape=(units,), initializer="zeros", name="bias")
        self.score_kernel = self.add_weight(shape=(units, 1), **kernel, name="score_kernel")
        super().build((*input_shape[:-1], input_shape[-1] + self.memory_features))

    @property
    def project_weights(self):
        return [self.input_kernel] if self.query_inputs else []

    def project(self, inputs, noise=None):
        return ops.concatenate([inputs, ops.matmul(inputs, self.input_kernel)], -1) if self.query_inputs else inputs

    @property
    def recur_weights(self):
        return [self.query_kernel, self.bias, *self.cell.recur_weights]

    @property
    def own_weights(self):
        return [self.score_kernel]

    def recur(self, states, weights):
        query_kernel, bias, *inner = weights
        return [ops.matmul(states[0], query_kernel) + bias, self.cell.recur(states, inner)]

    def advance(self, projected, recurrent, states, weights, noise=None):
        (score_kernel,), inner, attended = self.sort_weights(weights)
        query, recurrent = recurrent
        if self.query_inputs:
            projected, asked = projected[..., : -self.units], projected[..., -self.units :]
            query = query + asked
        scores = ops.matmul(ops.tanh(attended[0] + ops.expand_dims(query, 1)), score_kernel)[..., 0]
        context, attention = read(scores, attended)
        inputs = ops.concatenate([projected, context], axis=-1)
        output, states = self.advance_inner(inputs, recurrent, states, inner, noise)
        return self.joined(output, attention), states

    def get_config(self):
        return {**super().get_config(), "query_inputs": self.query_inputs}
