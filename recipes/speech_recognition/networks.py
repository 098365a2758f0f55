"""The network of speech recognition: features to a probability for each character, at a quarter of their rate."""

import math

import keras
from keras import ops

from zoo.layers import GRUCell, LogMel, LSTMCell, MaskedNorm, Recurrent, RunningLevel

MELS, FRAME_MS, HOP_MS, FLOOR = 40, 25.0, 10.0, 1e-10
_CONVOLUTIONS = ((5, 2), (5, 2))  # size and stride
CERTAIN = 30.0  # logit by which the blank leads in padding: exp(-30) is nothing beside 1 in float32


def front_end(sample_rate, streaming):
    """Return the layers from samples to features, none of which learns."""
    log_mel = LogMel(sample_rate, mels=MELS, frame_ms=FRAME_MS, hop_ms=HOP_MS, floor=FLOOR, name="log_mel")
    return [log_mel, RunningLevel(name="level")] if streaming else [log_mel]


def silence(features, streaming):
    """Return the value of features in padding; `features` as `Transcripts.features`, 0 where samples come in."""
    if features:
        return 0.0
    return -math.log(10) / 10 * RunningLevel().range_db if streaming else math.log(FLOOR)


def network(features, outputs, *, cell, layers, units, channels, dropout, streaming, padding, seed):
    """Return the logits (batch, frames / 4, outputs) of features, a symbolic tensor (batch, frames, features).

    Without streaming, frames of padding change nothing: they are left out of the normalisation, cleared before each
    convolution, masked in the recurrent layers, and say the blank. With streaming nothing looks ahead, so what follows
    an utterance cannot change it; there the network learns that silence is blank.

    Args:
        features: symbolic tensor; its length may be open.
        outputs: number of characters and the blank, which is class 0.
        cell: "lstm" or "gru".
        layers: recurrent layers.
        units: of each direction of a recurrent layer.
        channels: of each convolution.
        dropout: share of the recurrent layers' outputs that training drops.
        streaming: whether to look at the past only.
        padding: value of features in padding.
        seed: of dropout.
    """
    x, kept = features, None
    if streaming:
        x = keras.layers.BatchNormalization(center=False, scale=False, momentum=0.9, name="normalise")(x)
    else:
        heard = ops.any(ops.abs(x - padding) > 1e-3, axis=-1, keepdims=True)  # another runtime's logarithm may differ
        until_end = ops.flip(ops.cumsum(ops.flip(ops.cast(heard, "float32"), axis=1), axis=1), axis=1)
        kept = ops.minimum(until_end, 1)  # up to the last frame that was heard: silence within counts
        x = MaskedNorm(name="normalise")(x, kept)
    for index, (size, stride) in enumerate(_CONVOLUTIONS, 1):
        past = size - 1 if streaming else size // 2
        x = keras.layers.ZeroPadding1D((past, size - 1 - past), name=f"past_{index}")(x)
        x = keras.layers.Conv1D(channels, size, stride, use_bias=False, name=f"convolution_{index}")(x)
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"normalise_{index}")(x)
        x = keras.layers.ReLU(name=f"relu_{index}")(x)
        if not streaming:
            kept = keras.layers.MaxPooling1D(stride, padding="same", name=f"kept_{index}")(kept)
            x = keras.layers.Multiply(name=f"clear_{index}")([x, kept])
        x = keras.layers.Dropout(0.1, seed=seed + index, name=f"dropout_{index}")(x)
    mask = None if streaming else ops.squeeze(kept, -1) > 0.5
    for index in range(1, layers + 1):
        made = {"lstm": LSTMCell, "gru": GRUCell}[cell](units)
        if streaming:
            x = Recurrent(made, return_sequences=True, name=f"recurrent_{index}")(x)
        else:
            layer = keras.layers.Bidirectional(Recurrent(made, return_sequences=True), name=f"recurrent_{index}")
            x = layer(x, mask=mask)
        x = keras.layers.Dropout(dropout, seed=seed + 10 + index, name=f"dropout_recurrent_{index}")(x)
    x = keras.layers.Dense(outputs, name="logits")(x)
    if streaming:
        return x
    blank = ops.pad((1 - kept) * CERTAIN, ((0, 0), (0, 0), (0, outputs - 1)))
    return x * kept + blank


def copy_weights(source, target):
    """Give the layers of one model the weights of another's by name."""
    for layer in source.layers:
        if layer.weights:
            target.get_layer(layer.name).set_weights(layer.get_weights())
