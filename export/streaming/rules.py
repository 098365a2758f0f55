"""How each kind of layer goes on from chunk to chunk, by class; here are those that look at one frame at a time."""

import contextlib
import math

import tensorflow as tf
from keras import layers

from zoo import layers as zoo_layers
from zoo.errors import ExportError, SettingError
from zoo.export.streaming.signal import Signal

_RULES = {}
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
    zoo_layers.Annotation,
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
        found = _RULES[layers.RNN]
    if found is None and type(operation).__module__.startswith("keras.src.ops."):
        known = {**dict.fromkeys(_BY_NUMBER, merge), **dict.fromkeys(_OVER_AXES, along_an_axis)}
        found = known.get(type(operation).__name__)
    if found is None:
        raise ExportError(
            f"{operation.name} is a {type(operation).__name__}, which has no rule for streaming: it may need the whole "
            "sequence; leave it out, or register one with zoo.export.streaming.rules.stream_rule"
        )
    return found


def check_filled(layer, signal):
    """Raise ExportError where zeros come before the frames of `signal`, which only a layer over windows counts in."""
    if signal.padded:
        raise ExportError(f"{layer.name} follows padding with zeros; only a convolution or a pooling can in a stream")


@contextlib.contextmanager
def changed(layer, name, value):
    """Within this context an attribute of `layer` has another value."""
    before = getattr(layer, name)
    setattr(layer, name, value)
    try:
        yield
    finally:
        setattr(layer, name, before)


@stream_rule(*_FRAME_BY_FRAME)
def frame_by_frame(layer, signals, memory, scope, apply):
    """Let each frame go through the layer by itself."""
    (signal,) = signals
    check_filled(layer, signal)
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
        check_filled(layer, signal)
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
    check_filled(layer, signal)
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
