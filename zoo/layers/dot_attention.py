"""Dot-product attention: the memory is scored by how much it is like the output."""

import keras
from keras import ops

from zoo.layers.attention_cell import AttentionCell, read
from zoo.layers.cell import state_sizes


@keras.saving.register_keras_serializable("zoo")
class DotAttention(AttentionCell):
    """Let a cell read, after each step, what its output is like in a memory.

    Luong's global attention with the general score and with input feeding: what was read, joined with the cell's
    output, is the output of the step, and beside the inputs of the next, so that the cell knows where it has looked.

        h[t], states[t] = cell([x[t], o[t-1]], states[t-1])
        e[t, s] = h[t] . (m[s] W_k)                                for each step s of the memory m
        a[t]    = softmax of e[t] over the steps that count        the attention, (batch, memory steps)
        z[t]    = sum over s of a[t, s] m[s]                       the context
        o[t]    = tanh([z[t], h[t]] W_c)                           the output, and the last of the states

    Of a row whose memory is all masked, attention and context are zero.

    The weights: `key_kernel` W_k (memory_features, size of h), `output_kernel` W_c (memory_features + size of h,
    units), and the cell's. The kernels start Glorot uniform, which keeps the variance of what they multiply.

    Args:
        cell: `Cell`, whose inputs are wider than the step's by `units`.
        units: int, width of the output.
        memory_features: int, width of the memory.

    Call arguments:
        inputs: (batch, features).
        states: those of `cell`, and o[t-1], "attentional", (batch, units).
        attended: what `attend(memory, memory_mask)` returned.

    Returns:
        The output o[t] (batch, units), the list of new states, and the attention (batch, memory steps).

    Raises:
        SettingError: `cell` is no `Cell`; `units` or `memory_features` is not a positive whole number; a memory of
            another shape.

    Example:
        >>> layer = AttentiveRecurrent(DotAttention(GRUCell(3), units=4, memory_features=6))
        >>> tuple(layer(np.ones((2, 7, 5)), memory=np.ones((2, 9, 6))).shape)
        (2, 4)

    Reference:
        M.-T. Luong, H. Pham, C. Manning, "Effective approaches to attention-based neural machine translation",
        EMNLP 2015, https://arxiv.org/abs/1508.04025
    """

    def __init__(self, cell, units, memory_features, **kwargs):
        super().__init__(cell, units, memory_features, **kwargs)
        self.state_size = [*state_sizes(cell), self.units]
        self.state_names = (*cell.state_names, "attentional")
        self.output_size = self.units

    def build(self, input_shape):
        hidden, kernel = self.cell.output_size, {"initializer": "glorot_uniform"}
        self.key_kernel = self.add_weight(shape=(self.memory_features, hidden), **kernel, name="key_kernel")
        self.output_kernel = self.add_weight(
            shape=(self.memory_features + hidden, self.units), **kernel, name="output_kernel"
        )
        super().build((*input_shape[:-1], input_shape[-1] + self.units))

    @property
    def own_weights(self):
        return [self.output_kernel]

    def recall(self, states, noise):
        return [*super().recall(states[:-1], noise), states[-1]]

    def recur(self, states, weights):
        return self.cell.recur(states[:-1], weights)

    def advance(self, projected, recurrent, states, weights, noise=None):
        (output_kernel,), inner, attended = self.sort_weights(weights)
        inputs = ops.concatenate([projected, states[-1]], axis=-1)
        hidden, states = self.advance_inner(inputs, recurrent, states[:-1], inner, noise)
        scores = ops.matmul(attended[0], ops.expand_dims(hidden, -1))[..., 0]
        context, attention = read(scores, attended)
        # of this step's output, so that it cannot be in `recur`, whose matmuls are of the step before
        output = ops.tanh(ops.matmul(ops.concatenate([context, hidden], axis=-1), output_kernel))
        return self.joined(output, attention), [*states, output]

    def get_initial_state(self, batch_size=None):
        return [*super().get_initial_state(batch_size), ops.zeros((batch_size, self.units), self.compute_dtype)]
