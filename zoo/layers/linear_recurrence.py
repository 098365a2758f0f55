"""Recurrences that are linear in their state, and the layer that computes all steps of them at once."""

from keras import ops

from zoo.layers.cell import Cell
from zoo.layers.recurrent import SequenceLayer


class LinearCell(Cell):
    """A cell whose state enters linearly, and whose gates see the inputs only.

        h[t] = a[t] * h[t-1] + b[t]        a[t], b[t] = gates(project(x[t]))

    A subclass implements `project` and `gates`.
    """

    def gates(self, projected):
        """Return what is kept of the state and what is added to it, a and b, from one or many projected inputs."""
        raise NotImplementedError(f"{type(self).__name__}.gates")

    def advance(self, projected, recurrent, states, weights, noise=None):
        keep, add = self.gates(projected)
        hidden = keep * states[0] + add
        return hidden, [hidden]


class LinearRecurrence(SequenceLayer):
    """A layer over a `LinearCell`, by a parallel scan where the number of steps is known.

    Two steps in a row are again such a step, a2 a1 and a2 b1 + b2, so that T of them take log T rounds of products of
    whole sequences in place of T small ones. With an open number of steps, `unroll`
    or `checkpoint_every` it is the loop of `Recurrent`.
    """

    def inner_loop(self, sequences, initial_state, mask, training=False):
        if sequences.shape[1] is None or self.unroll or self.checkpoint_every is not None:
            return super().inner_loop(sequences, initial_state, mask, training=training)
        keep, add = self.cell.gates(self.cell.project(sequences))  # (batch, time, units)
        if self.go_backwards:
            keep, add = ops.flip(keep, axis=1), ops.flip(add, axis=1)
        if mask is not None:
            mask = ops.expand_dims(ops.cast(mask, "bool"), -1)
            mask = ops.flip(mask, axis=1) if self.go_backwards else mask
            keep, add = ops.where(mask, keep, ops.ones_like(keep)), ops.where(mask, add, ops.zeros_like(add))
        keep, add = _scan(keep, add)
        hidden = keep * ops.expand_dims(initial_state[0], 1) + add
        outputs = hidden
        if mask is not None:
            # before the first step that counts there is no output, only a state
            there_is_one = mask if self.zero_output_for_mask else ops.cumsum(ops.cast(mask, "int32"), axis=1) > 0
            outputs = ops.where(there_is_one, hidden, ops.zeros_like(hidden))
        return outputs[:, -1], outputs if self.return_sequences else outputs[:, -1:], [hidden[:, -1]]


def _scan(keep, add):
    """Return the step that does what all steps up to each time do, (batch, time, units).

    Written out because `keras.ops.associative_scan` forgets shapes on TensorFlow, and does not compile there.
    """
    steps, units = keep.shape[1:]
    if steps == 1:
        return keep, add
    if steps % 2:  # a step that keeps everything makes the number even
        keep, add = _scan(_append(keep, ops.ones_like), _append(add, ops.zeros_like))
        return keep[:, :-1], add[:, :-1]
    pairs = [ops.reshape(each, (-1, steps // 2, 2, units)) for each in (keep, add)]
    (keep_1, keep_2), (add_1, add_2) = [(each[:, :, 0], each[:, :, 1]) for each in pairs]
    keep_2, add_2 = _scan(keep_2 * keep_1, keep_2 * add_1 + add_2)  # to the end of each pair
    keep_0, add_0 = _shift(keep_2, ops.ones_like), _shift(add_2, ops.zeros_like)  # to its start
    keep_1, add_1 = keep_1 * keep_0, keep_1 * add_0 + add_1
    return [ops.reshape(ops.stack(each, axis=2), (-1, steps, units)) for each in ((keep_1, keep_2), (add_1, add_2))]


def _append(values, fill):
    return ops.concatenate([values, fill(values[:, :1])], axis=1)


def _shift(values, fill):
    return ops.concatenate([fill(values[:, :1]), values[:, :-1]], axis=1)
