"""What cells that attend to a memory have in common."""

import contextlib

from keras import ops

from zoo.errors import SettingError
from zoo.layers.cell import check_units, project_within_step
from zoo.layers.cell_wrapper import CellWrapper

_FAR_BELOW = 3e4  # any score of a memory that training finds; float16 still holds it


class AttentionCell(CellWrapper):
    """A cell around a cell that reads, at each step, a mean of a memory, weighted by what it looks for.

    The memory, (batch, memory steps, features), is the same for all steps, as weights are, but another for each row of
    the batch. `attend` computes once, before the steps, what they read of it; while they run, `reading` puts that
    behind the cell's own `advance_weights`. So the memory's gradient is summed over the steps as theirs is, and no
    step keeps a copy of it. `AttentiveRecurrent` does both over a sequence.

        attended = cell.attend(memory, memory_mask)                   once
        output, states, attention = cell(inputs, states, attended)    for each step

    A subclass makes `key_kernel` in `build`, implements `recur` and `advance`, and gives its output and its attention
    side by side, as `joined`: a loop collects one tensor.

    Args:
        cell: `Cell`, whose inputs become the step's inputs and what was read, side by side.
        units: int, a width that the subclass names.
        memory_features: int, width of the memory.

    Raises:
        SettingError: `cell` is no `Cell`; `units` or `memory_features` is not a positive whole number.
    """

    def __init__(self, cell, units, memory_features, **kwargs):
        super().__init__(cell, **kwargs)
        self.units = check_units(units)
        self.memory_features = check_units(memory_features, "memory_features")
        self._attended = ()

    def attend(self, memory, memory_mask=None):
        """Return what steps read of a memory: its keys, its values and, with a mask, what is to be kept of them.

        Args:
            memory: (batch, memory steps, memory_features).
            memory_mask: bool (batch, memory steps), True where the memory counts. Of a row with no such step, nothing
                is read: zeros.
        """
        if not self.built:
            raise SettingError(f"cell {self.name} has no weights yet; build it first: cell.build((None, features))")
        check_memory(self, memory, memory_mask)
        memory = ops.cast(memory, self.compute_dtype)
        if memory_mask is None:
            return [ops.matmul(memory, self.key_kernel), memory]
        keep = ops.cast(memory_mask, "bool")
        memory = ops.where(ops.expand_dims(keep, -1), memory, ops.zeros_like(memory))  # 0 * NaN would be NaN
        return [ops.matmul(memory, self.key_kernel), memory, ops.cast(keep, self.compute_dtype)]

    @contextlib.contextmanager
    def reading(self, attended):
        """Within this context the steps read `attended`, which `attend` returned."""
        before, self._attended = self._attended, tuple(attended)
        try:
            yield
        finally:
            self._attended = before

    @property
    def attended(self):
        """What the steps read now, the list that `reading` was given; empty outside."""
        return list(self._attended)

    def call(self, inputs, states, attended=None, training=False):
        if attended is None:
            raise SettingError(_no_memory(self))
        with self.reading(attended):
            output, states = super().call(inputs, states, training=training)
        output, attention = self.split(output)
        return output, states, attention

    def joined(self, output, attention):
        """Return what `advance` has to: the output and the attention side by side."""
        return ops.concatenate([output, attention], axis=-1)

    def split(self, joined):
        """Return the output (..., output_size) and the attention (..., memory steps)."""
        size = self.output_size
        output = ops.reshape(joined[..., :size], (*ops.shape(joined)[:-1], size))  # of known size for any memory
        return output, joined[..., size:]

    def get_initial_output(self, batch_size):
        if not self._attended:
            raise SettingError(_no_memory(self))
        return ops.zeros((batch_size, self.output_size + ops.shape(self._attended[1])[1]), self.compute_dtype)

    @property
    def project_weights(self):
        return []

    def project(self, inputs, noise=None):
        return inputs  # the inner cell's projection waits for what is read

    @property
    def advance_weights(self):
        return [*self.own_weights, *self.cell.advance_weights, *self.cell.project_weights, *self._attended]

    @property
    def own_weights(self):
        """The attention's own variables that `advance` reads."""
        raise NotImplementedError(f"{type(self).__name__}.own_weights")

    def sort_weights(self, weights):
        """Return the values of `own_weights`, of what `advance_inner` needs, and `attended`, from `advance`'s."""
        own = len(self.own_weights)
        inner = own + len(self.cell.advance_weights) + len(self.cell.project_weights)
        if len(weights) == inner:
            raise SettingError(_no_memory(self))
        return weights[:own], weights[own:inner], weights[inner:]

    def advance_inner(self, inputs, recurrent, states, weights, noise):
        """Take the inner cell's step.

        Its projection is part of it, also of a cell whose projection is affine and whose share of the step's own
        inputs could be had in one matmul before the loop: only this holds for any cell.
        """
        noise = None if noise is None else noise[0]
        own = len(self.cell.advance_weights)
        projected = project_within_step(self.cell, inputs, weights[own:], noise)
        return self.cell.advance(projected, recurrent, states, weights[:own], noise)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "memory_features": self.memory_features}


def read(scores, attended):
    """Return the context (batch, memory_features) and the attention (batch, memory steps) from a score of each step."""
    _, values, *keep = attended
    if keep:  # the product leaves nothing of a row with nothing to keep
        attention = ops.softmax(scores + _FAR_BELOW * (keep[0] - 1), axis=-1) * keep[0]
    else:
        attention = ops.softmax(scores, axis=-1)
    return ops.matmul(ops.expand_dims(attention, 1), values)[:, 0], attention


def check_memory(cell, memory, memory_mask):
    """Raise SettingError unless a memory and its mask fit the cell."""
    if memory is None:
        raise SettingError(_no_memory(cell))
    shape, wanted = tuple(memory.shape), f"(batch, memory steps, {cell.memory_features})"
    if len(shape) != 3 or shape[-1] != cell.memory_features:
        raise SettingError(f"memory has the shape {shape}; expected for {cell.name}: {wanted}")
    if memory_mask is None:
        return
    masked = tuple(memory_mask.shape)
    if len(masked) != 2 or any(None not in pair and len(set(pair)) > 1 for pair in zip(masked, shape, strict=False)):
        raise SettingError(f"memory_mask has the shape {masked}; expected that of the memory's steps: {shape[:2]}")


def _no_memory(cell):
    return f"{cell.name} was given no memory to read; run it in zoo.layers.AttentiveRecurrent, called with memory=..."
