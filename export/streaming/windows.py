"""How layers that look at windows of a sequence go on: with the frames that the next windows need."""

import math

import tensorflow as tf
from keras import layers

from zoo import layers as zoo_layers
from zoo.errors import ExportError, SettingError
from zoo.export.streaming.rules import changed, check_filled, stream_rule
from zoo.export.streaming.signal import Signal

_CONVOLUTIONS = (
    layers.Conv1D,
    layers.Conv2D,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.SeparableConv1D,
    layers.SeparableConv2D,
)
_POOLINGS = (layers.AveragePooling1D, layers.AveragePooling2D, layers.MaxPooling1D, layers.MaxPooling2D)


@stream_rule(layers.ZeroPadding1D, layers.ZeroPadding2D)
def zero_padding(layer, signals, memory, scope, apply):
    """Note the frames of zeros in front of the sequence, for the convolution or pooling that follows."""
    (signal,) = signals
    check_filled(layer, signal)
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
        check_filled(layer, signal)
        signal = Signal(signal.tensor, "stream", signal.lead, padded=size - 1)
        with changed(layer, "padding", "valid"):
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
    check_stride(layer, signal, layer.hop)
    return slide(signal, layer.frame, layer.hop, apply, memory, scope)


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
    check_stride(layer, signal, stride)
    return slide(signal, size, stride, apply, memory, scope)


def check_stride(layer, signal, stride):
    """Raise SettingError unless a chunk holds a whole number of the layer's strides."""
    if signal.frames % stride:
        raise SettingError(
            f"a chunk gives {signal.frames} frames to {layer.name}, which moves on by {stride}; "
            f"choose time_steps so that it gives a multiple of {stride}"
        )


def slide(signal, size, stride, apply, memory, scope):
    """Apply what looks at windows of a sequence to a stream, by keeping the frames that the next windows need.

    Args:
        signal: a stream; the frames of zeros in front of it count as frames.
        size: frames in a window.
        stride: frames from one window to the next; a chunk holds a whole number of them.
        apply: function of (batch, time, ...) that gives one frame for each whole window.
        memory: `Memory`.
        scope: name for what is kept.
    """
    x = memory.cleared(signal) if signal.padded else signal.tensor
    lead = signal.lead - signal.padded
    kept = size - stride + (stride - size - lead) % stride  # so that a window starts at the first frame of the clip
    if kept > 0:
        name = f"{scope}/frames"
        x = tf.concat([memory.recall(name, [kept, *x.shape[2:]], x.dtype), x], axis=1)
        memory.keep(name, x[:, -kept:])
    else:
        x = x[:, -kept:]
    return Signal(apply(x), "stream", lead=math.ceil((lead + kept) / stride))
