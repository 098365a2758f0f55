"""How each kind of layer goes on from chunk to chunk: one small function for each, by layer class."""

import contextlib
import math

import keras
import tensorflow as tf
from keras import layers

from zoo import layers as zoo_layers
from zoo.errors import ExportError, SettingError
from zoo.export.streaming.signal import Signal, slide

_RULES = {}
_CONVOLUTIONS = (
    layers.Conv1D,
    layers.Conv2D,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.SeparableConv1D,
    layers.SeparableConv2D,
)
_POOLINGS = (layers.AveragePooling1D, layers.AveragePooling2D, layers.MaxPooling1D, layers.MaxPooling2D)
# Each frame of the result depends on that frame alone.
_FRAME_BY_FRAME = (
    layers.Activation,
    layers.ActivityRegularization,
    layers.Dense,
    layers.Dropout,
    layers.ELU,
    layers.Embedding,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.Identity,
    layers.LeakyReLU,
    layers.Masking,
    layers.ReLU,
    layers.Rescaling,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.TimeDistributed,
    layers.UnitNormalization,
    zoo_layers.AudioAugment,
    zoo_layers.SpectrogramMask,
)
_MERGES = (layers.Add, layers.Average, layers.Maximum, layers.Minimum, layers.Multiply, layers.Subtract)
# Keras' operations, where a model applies one without a layer: on numbers one by one, and over some axes.
_BY_NUMBER = (
    *("Absolute", "Add", "Cast", "Clip", "Divide", "Equal", "Exp", "Gelu", "Log", "LogicalAnd", "LogicalNot"),
    *("LogicalOr", "Maximum", "Minimum", "Multiply", "Negative", "NotEqual", "Power", "Relu", "Sigmoid", "Silu"),
    *("Softplus", "Sqrt", "Square", "Subtract", "Tanh", "TrueDivide", "Where"),
)
_OVER_AXES = ["Any", "Max", "Mean", "Min", "Sum"]


def stream_rule(*classes):
    """Register how layers of exactly these classes go on from chunk to chunk.

    The decorated function receives `(layer, signals, memory, scope, apply)`: the layer, the list of its `Signal`s,
    the `Memory`, the name below which it keeps states, and a function that calls the layer as the model does, with
    these tensors in place of those of the signals. It returns the layer's `Signal`, or a list of them, or raises
    `ExportError` if the layer needs more than the past.

    Example:
        @stream_rule(MyLayer)
        def my_layer(layer, signals, memory, scope, apply):
            ...
    """

    def register(function):
        for one in classes:
            if one in _RULES:
                raise ValueError(f"{one.__name__} has a streaming rule already: {_RULES[one]}")
            _RULES[one] = function
        return function

    return register


def find_rule(operation):
    """Return the rule for a layer or operation that a stream reaches.

    Raises:
        ExportError: there is none.
    """
    found = _RULES.get(type(operation))
    if found is None and isinstance(operation, layers.RNN):
        found = recurrent
    if found is None and type(operation).__module__.startswith("keras.src.ops."):
        known = {**dict.fromkeys(_BY_NUMBER, merge), **dict.fromkeys(_OVER_AXES, along_an_axis)}
        found = known.get(type(operation).__name__)
    if found is None:
        raise ExportError(
            f"{operation.name} is a {type(operation).__name__}, which has no rule for streaming: it may need the whole "
            "sequence; leave it out, or register one with zoo.export.streaming.rules.stream_rule"
        )
    return found


@stream_rule(*_FRAME_BY_FRAME)
def frame_by_frame(layer, signals, memory, scope, apply):
    """Let each frame go through the layer by itself."""
    (signal,) = signals
    _check_filled(layer, signal)
    return signal.holding(apply(signal.tensor))


@stream_rule(layers.BatchNormalization, layers.LayerNormalization, layers.Normalization, layers.Softmax)
def along_an_axis(layer, signals, memory, scope, apply):
    """Likewise, for a layer that sums over axes, if time is none of them."""
    axes, rank = layer.axis, len(signals[0].tensor.shape)
    axes = axes if isinstance(axes, (list, tuple)) else [axes]
    if any(axis % rank <= 1 for axis in axes if axis is not None):
        raise ExportError(f"{layer.name} works along the axis of time, for which it needs the whole sequence")
    return frame_by_frame(layer, signals, memory, scope, apply)


@stream_rule(*_MERGES)
def merge(layer, signals, memory, scope, apply):
    """Join streams whose frames begin at the same time, and what has no axis of time."""
    streams = [signal for signal in signals if signal.kind == "stream"]
    for signal in streams:
        _check_filled(layer, signal)
    if len({(signal.lead, signal.frames) for signal in streams}) > 1:
        raise ExportError(f"{layer.name} joins sequences whose frames do not begin at the same time")
    for signal in signals:
        if signal.kind != "stream" and len(signal.tensor.shape) > 2 and signal.tensor.shape[1] != 1:
            raise ExportError(f"{layer.name} joins a stream and a tensor with a length of its own")
    return streams[0].holding(apply(*[signal.tensor for signal in signals]))


@stream_rule(layers.Concatenate)
def concatenate(layer, signals, memory, scope, apply):
    """Likewise, along any axis but that of time."""
    if layer.axis % len(signals[0].tensor.shape) <= 1:
        raise ExportError(f"{layer.name} joins sequences one after the other, for which it needs them whole")
    return merge(layer, signals, memory, scope, apply)


@stream_rule(layers.Reshape)
def reshape(layer, signals, memory, scope, apply):
    """Cut a chunk into frames of another shape, if it holds a whole number of them."""
    (signal,) = signals
    _check_filled(layer, signal)
    rest, size = layer.target_shape[1:], math.prod(signal.tensor.shape[2:])
    whole = math.prod(rest)  # of a frame of the result; below 0 where it is left to Keras
    if whole < 1 or not rest or signal.lead * size % whole:
        raise ExportError(f"{layer.name} changes the frames to {layer.target_shape}, which has no meaning for a chunk")
    if signal.frames * size % whole:
        raise SettingError(
            f"a chunk gives {signal.frames * size} numbers to {layer.name}, which makes frames of {whole} of them; "
            "choose time_steps so that it gives whole frames"
        )
    frames = signal.frames * size // whole
    return Signal(tf.reshape(signal.tensor, [-1, frames, *rest]), "stream", lead=signal.lead * size // whole)


@stream_rule(layers.ZeroPadding1D, layers.ZeroPadding2D)
def zero_padding(layer, signals, memory, scope, apply):
    """Note the frames of zeros in front of the sequence, for the convolution or pooling that follows."""
    (signal,) = signals
    _check_filled(layer, signal)
    before, after = layer.padding[0] if isinstance(layer, layers.ZeroPadding2D) else layer.padding
    if after:
        raise ExportError(f"{layer.name} adds {after} frames at the end of the sequence, which a stream does not know")
    x = signal.tensor
    if isinstance(layer, layers.ZeroPadding2D):
        x = tf.pad(x, [[0, 0], [0, 0], list(layer.padding[1]), [0, 0]])
    return Signal(x, "stream", signal.lead, padded=before)


@stream_rule(*_CONVOLUTIONS)
def convolution(layer, signals, memory, scope, apply):
    """Slide over the stream, with the frames that a window needs of the chunk before."""
    (signal,) = signals
    size = (layer.kernel_size[0] - 1) * layer.dilation_rate[0] + 1
    if layer.padding == "causal":
        _check_filled(layer, signal)
        signal = Signal(signal.tensor, "stream", signal.lead, padded=size - 1)
        with _changed(layer, "padding", "valid"):
            return _slide(layer, signal, size, layer.strides[0], memory, scope, apply)
    return _slide(layer, signal, size, layer.strides[0], memory, scope, apply)


@stream_rule(*_POOLINGS)
def pooling(layer, signals, memory, scope, apply):
    """Likewise."""
    (signal,) = signals
    return _slide(layer, signal, layer.pool_size[0], layer.strides[0], memory, scope, apply)


@stream_rule(zoo_layers.LogMel)
def log_mel(layer, signals, memory, scope, apply):
    """Slide over samples as a convolution over frames does."""
    (signal,) = signals
    _check_stride(layer, signal, layer.hop)
    return slide(signal, layer.frame, layer.hop, apply, memory, scope)


@stream_rule(zoo_layers.RunningLevel)
def running_level(layer, signals, memory, scope, apply):
    """Go on from the loudest energy before this chunk."""
    (signal,) = signals
    _check_filled(layer, signal)
    name = f"{scope}/level"  # above the level of silence, which it has at the start
    levels = layer.levels(memory.cleared(signal, layer.lowest))
    levels = tf.maximum(levels, memory.recall(name, [1])[:, None] + layer.lowest)
    memory.keep(name, levels[:, -1] - layer.lowest)
    return signal.holding(layer.relative(signal.tensor, levels))


@stream_rule(layers.GlobalAveragePooling1D)
def mean_so_far(layer, signals, memory, scope, apply):
    """Return the mean of all frames up to now."""
    (signal,) = signals
    _check_filled(layer, signal)
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
    _check_filled(layer, signal)
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


def recurrent(layer, signals, memory, scope, apply):
    """Run a layer on from the states in which the last chunk left it."""
    signal, *given = signals
    _check_filled(layer, signal)
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
    with _changed(layer, "return_state", True):
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
    seen = tf.cumsum(tf.cast(mask, tf.int32), axis=1) > 0  # whether this chunk has an output of its own by then
    before = memory.recall(name, output.shape[2 if sequences else 1 :], output.dtype)
    if sequences:
        seen, before = tf.reshape(seen, [-1, mask.shape[1]] + [1] * (len(output.shape) - 2)), before[:, None]
    else:
        seen = tf.reshape(seen[:, -1], [-1] + [1] * (len(output.shape) - 1))
    output = tf.where(seen, output, before)
    memory.keep(name, output[:, -1] if sequences else output)
    return output


def _slide(layer, signal, size, stride, memory, scope, apply):
    """Let a convolution or a pooling go over a stream."""
    if size == stride == 1:
        return signal.holding(apply(signal.tensor)) if not signal.padded else slide(signal, 1, 1, apply, memory, scope)
    if layer.padding == "same":
        raise ExportError(
            f"{layer.name} pads with 'same', which looks ahead by half its window; "
            "put the padding in front (ZeroPadding before it, padding='valid', or 'causal' where it exists)"
        )
    if layer.data_format != "channels_last":
        raise ExportError(f"{layer.name} has the channels first; a stream has time there")
    _check_stride(layer, signal, stride)
    return slide(signal, size, stride, apply, memory, scope)


def _check_stride(layer, signal, stride):
    if signal.frames % stride:
        raise SettingError(
            f"a chunk gives {signal.frames} frames to {layer.name}, which moves on by {stride}; "
            f"choose time_steps so that it gives a multiple of {stride}"
        )


def _check_filled(layer, signal):
    if signal.padded:
        raise ExportError(f"{layer.name} follows padding with zeros; only a convolution or a pooling can in a stream")


def _state_names(cell, count, scope):
    names = getattr(cell, "state_names", None) or {1: ["hidden"], 2: ["hidden", "cell"]}.get(count, [])
    names = names if len(names) == count else [f"state_{i}" for i in range(count)]
    return [f"{scope}/{name}" for name in names]


def _starts_at_zero(layer):
    with tf.init_scope():
        return not any(keras.ops.convert_to_numpy(s).any() for s in keras.tree.flatten(layer.get_initial_state(1)))


@contextlib.contextmanager
def _changed(layer, name, value):
    """Within this context an attribute of `layer` has another value."""
    before = getattr(layer, name)
    setattr(layer, name, value)
    try:
        yield
    finally:
        setattr(layer, name, before)
