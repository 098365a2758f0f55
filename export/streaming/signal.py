"""What flows through a streaming model, and what it keeps from chunk to chunk."""

from dataclasses import dataclass, replace

import tensorflow as tf

_MANY = 2**30  # chunks; counted no further, as a device may listen for years


@dataclass(frozen=True)
class Signal:
    """A tensor within a streaming model.

    Args:
        tensor: of one chunk.
        kind: "stream", (batch, time, ...): this chunk's part of a sequence; "constant": the same in all chunks;
            "summary": what is known after this chunk, and after the last of a clip what the whole clip gives.
        lead: of a stream, how many frames pass before the first that the whole clip has too; those hold nothing.
        padded: of a stream, how many frames of zeros the whole clip has before it.
    """

    tensor: object
    kind: str
    lead: int = 0
    padded: int = 0

    @property
    def frames(self):
        """How many frames a chunk has."""
        return self.tensor.shape[1]

    def holding(self, tensor):
        """Return this signal with another tensor of as many frames."""
        return replace(self, tensor=tensor)


class Memory:
    """The states of a stream: all zeros before the first chunk.

    Args:
        batch_size: number of streams, None if open.
        states: {name: tensor} before this chunk; None while it is found out which there are.
        batch: number of streams as a tensor, where it is open.
    """

    def __init__(self, batch_size, states=None, batch=None):
        self._batch_size, self._states, self._batch = batch_size, states, batch
        self.specs, self._after, self._taken = {}, {}, set()

    @property
    def after(self):
        """The states after this chunk, {name: tensor}."""
        if "chunks" in self.specs:
            self._after["chunks"] = tf.minimum(self.chunks + 1, _MANY)
        return {name: self._after[name] for name in self.specs}

    @property
    def chunks(self):
        """How many chunks of each stream came before this one, int32 (batch, 1)."""
        return self.recall("chunks", [1], tf.int32)

    def scope(self, name):
        """Return a name for the states of one use of a layer, `name` if no other use has it."""
        candidate, number = name, 1
        while candidate in self._taken:
            number += 1
            candidate = f"{name}_{number}"
        self._taken.add(candidate)
        return candidate

    def recall(self, name, shape, dtype="float32"):
        """Return what `keep` was given under `name` in the chunk before, (batch, *shape)."""
        spec = self.specs[name] = tf.TensorSpec([self._batch_size, *shape], dtype, name)
        if self._states is not None:
            return self._states[name]
        return tf.zeros([n if n is not None else self._batch for n in spec.shape], spec.dtype)

    def keep(self, name, tensor):
        """Let the next chunk recall `tensor`."""
        self._after[name] = tensor

    def valid(self, signal):
        """Return which frames of `signal` the whole clip has too, bool (batch, frames)."""
        return self.chunks * signal.frames + tf.range(signal.frames) >= signal.lead

    def cleared(self, signal, value=0.0):
        """Return the signal's tensor with `value` in frames that hold nothing."""
        if not signal.lead:
            return signal.tensor
        valid = self.valid(signal)
        valid = tf.reshape(valid, [-1, signal.frames] + [1] * (len(signal.tensor.shape) - 2))
        return tf.where(valid, signal.tensor, tf.constant(value, signal.tensor.dtype))
