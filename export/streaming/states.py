"""How layers that carry a state over all of the past go on: recurrent ones, and sums and maxima up to now."""

import keras
import tensorflow as tf
from keras import layers

from zoo import layers as zoo_layers
from zoo.errors import ExportError
from zoo.export.streaming.rules import changed, check_filled, stream_rule
from zoo.export.streaming.signal import Signal


@stream_rule(layers.RNN)
def recurrent(layer, signals, memory, scope, apply):
    """Run a layer on from the states in which the last chunk left it."""
    signal, *given = signals
    check_filled(layer, signal)
    if layer.go_backwards:
        raise ExportError(f"{layer.name} reads the sequence from its end, which a stream has not reached")
    if any(state.kind != "constant" for state in given):
        raise ExportError(f"{layer.name} starts from a state that is known only at the end of a sequence")
    batch = tf.shape(signal.tensor)[0]
    fresh = layer.get_initial_state(batch)
    start = [state.tensor for state in given] or keras.tree.flatten(fresh)
    names = _state_names(layer.cell, len(start), scope)
    states = []
    for name, first in zip(names, start, strict=True):
        # What is kept is the distance from the start, which is zero before the first chunk.
        state = memory.recall(name, first.shape[1:], first.dtype)
        states.append(state if not given and _starts_at_zero(layer) else state + first)
    mask = getattr(signal.tensor, "_keras_mask", None)
    if signal.lead and signal.lead % signal.frames == 0:  # the clip begins with a chunk: there states are fresh
        begun = memory.chunks * signal.frames > signal.lead
        states = [
            tf.where(tf.reshape(begun, [-1] + [1] * (len(first.shape) - 1)), state, first)
            for state, first in zip(states, start, strict=True)
        ]
    elif signal.lead:
        valid = memory.valid(signal)
        mask = valid if mask is None else mask & valid
    with changed(layer, "return_state", True):
        output, *after = apply(signal.tensor, initial_state=keras.tree.pack_sequence_as(fresh, states), mask=mask)
    if mask is not None and not layer.zero_output_for_mask:
        output = _repeated(output, mask, layer.return_sequences, memory, f"{scope}/output")
    after = keras.tree.flatten(after)
    for name, state, first in zip(names, after, start, strict=True):
        memory.keep(name, state if not given and _starts_at_zero(layer) else state - first)
    result = signal.holding(output) if layer.return_sequences else Signal(output, "summary")
    return [result, *[Signal(state, "summary") for state in after]] if layer.return_state else result


def _repeated(output, mask, sequences, memory, name):
    """Return `output` as it is where steps left out by `mask` repeat the last before, from an earlier chunk too."""
    carried = getattr(output, "_keras_mask", None)
    seen = tf.cumsum(tf.cast(mask, tf.int32), axis=1) > 0  # whether this chunk has an output of its own by then
    before = memory.recall(name, output.shape[2 if sequences else 1 :], output.dtype)
    if sequences:
        seen, before = tf.reshape(seen, [-1, mask.shape[1]] + [1] * (len(output.shape) - 2)), before[:, None]
    else:
        seen = tf.reshape(seen[:, -1], [-1] + [1] * (len(output.shape) - 1))
    output = tf.where(seen, output, before)
    if carried is not None:
        output._keras_mask = carried  # which is all that tells what follows a model within the model
    memory.keep(name, output[:, -1] if sequences else output)
    return output


def _state_names(cell, count, scope):
    names = getattr(cell, "state_names", None) or {1: ["hidden"], 2: ["hidden", "cell"]}.get(count, [])
    names = names if len(names) == count else [f"state_{i}" for i in range(count)]
    return [f"{scope}/{name}" for name in names]


def _starts_at_zero(layer):
    with tf.init_scope():
        return not any(keras.ops.convert_to_numpy(s).any() for s in keras.tree.flatten(layer.get_initial_state(1)))


@stream_rule(zoo_layers.RunningLevel)
def running_level(layer, signals, memory, scope, apply):
    """Go on from the loudest energy before this chunk."""
    (signal,) = signals
    check_filled(layer, signal)
    name = f"{scope}/level"  # above the level of silence, which it has at the start
    levels = layer.levels(memory.cleared(signal, layer.lowest))
    levels = tf.maximum(levels, memory.recall(name, [1])[:, None] + layer.lowest)
    memory.keep(name, levels[:, -1] - layer.lowest)
    return signal.holding(layer.relative(signal.tensor, levels))


@stream_rule(layers.GlobalAveragePooling1D)
def mean_so_far(layer, signals, memory, scope, apply):
    """Return the mean of all frames up to now."""
    (signal,) = signals
    check_filled(layer, signal)
    name, x, mask = f"{scope}/sum", memory.cleared(signal), getattr(signal.tensor, "_keras_mask", None)
    if mask is not None:
        x = tf.where(mask[..., None], x, tf.zeros_like(x))
    total = memory.recall(name, x.shape[2:], x.dtype) + tf.reduce_sum(x, axis=1)
    memory.keep(name, total)
    if mask is None:
        frames = (memory.chunks + 1) * signal.frames - signal.lead
    else:
        counts = mask if not signal.lead else mask & memory.valid(signal)
        frames = memory.recall(f"{scope}/frames", [1], tf.int32)
        frames += tf.reduce_sum(tf.cast(counts, tf.int32), axis=1, keepdims=True)
        memory.keep(f"{scope}/frames", frames)
    mean = total / tf.cast(tf.maximum(frames, 1), x.dtype)
    return Signal(mean[:, None] if layer.keepdims else mean, "summary")


@stream_rule(layers.GlobalMaxPooling1D)
def maximum_so_far(layer, signals, memory, scope, apply):
    """Return the maximum of all frames up to now."""
    (signal,) = signals
    check_filled(layer, signal)
    name, x = f"{scope}/maximum", memory.cleared(signal, signal.tensor.dtype.min)
    largest = tf.reduce_max(x, axis=1)
    before = memory.recall(name, x.shape[2:], x.dtype)
    largest = tf.where(memory.chunks * signal.frames > signal.lead, tf.maximum(before, largest), largest)
    memory.keep(name, largest)
    return Signal(largest[:, None] if layer.keepdims else largest, "summary")


@stream_rule(layers.Bidirectional)
def bidirectional(layer, signals, memory, scope, apply):
    """Refuse: half of the layer begins at the end."""
    raise ExportError(f"{layer.name} reads the sequence from its end too, which a stream has not reached")
