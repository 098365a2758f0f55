"""Random recurrent models for the fuzz tests, each from one seed."""

import cases
import keras
import numpy as np
from keras import layers as L

_STEPS, _FEATURES, _TOKENS, _UNITS = 6, 4, 9, 5
_RECURRENT = [
    lambda **options: L.LSTM(_UNITS, **options),
    lambda **options: L.GRU(_UNITS, **options),
    lambda **options: L.GRU(_UNITS, reset_after=False, **options),
    lambda **options: L.SimpleRNN(_UNITS, **options),
    lambda **options: L.RNN([L.LSTMCell(3), L.GRUCell(_UNITS)], **options),
    *[case.make for case in cases.LAYERS if not case.spikes],  # a rounding may decide on a spike
]


class Draw:
    """Draws from a seed; the same seed builds the same model."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)

    def chance(self, probability):
        return bool(self.random.random() < probability)

    def one(self, options):
        return options[self.random.integers(len(options))]


def random_model(seed):
    """Return (model, inputs): one to four recurrent layers of any kind among others, and a batch of one for it."""
    draw = Draw(seed)
    keras.utils.set_random_seed(seed)
    x, inputs, array = _front(draw)
    for position in range(count := int(draw.random.integers(1, 5))):
        sequences = position < count - 1 or draw.chance(0.5)
        x = _recurrent(draw, sequences)(x)
        if sequences and draw.chance(0.4):
            x = _between(draw, x)
    if len(x.shape) == 3 and draw.chance(0.4):
        x = draw.one([L.GlobalAveragePooling1D, L.GlobalMaxPooling1D])()(x)
    model = keras.Model(inputs, L.Dense(2, name="y")(x), name=f"seed_{seed}")
    for weight in model.weights:  # gates that work and biases that count, yet no sum that outgrows the tolerance
        if weight.trainable or "moving" in weight.name:
            values = draw.random.normal(size=weight.shape) * 0.3
            weight.assign(1 + values**2 if "variance" in weight.name else values)
    return model, {inputs.name: array}


def _front(draw):
    """An input, what comes before the first recurrent layer, and an example."""
    steps = _STEPS if draw.chance(0.7) else None
    if draw.chance(0.3):
        inputs = keras.Input((steps,), dtype="int32", name="tokens")
        x = L.Embedding(_TOKENS, _FEATURES, mask_zero=draw.chance(0.6))(inputs)
        return x, inputs, draw.random.integers(0, _TOKENS, (1, _STEPS)).astype("int32")
    inputs = x = keras.Input((steps, _FEATURES), name="x")
    array = draw.random.normal(size=(1, _STEPS, _FEATURES)).astype("float32")
    if draw.chance(0.3):
        array[:, draw.random.random(_STEPS) < 0.4] = 0
        x = L.Masking(0.0)(x)
    elif draw.chance(0.4):
        x = L.Conv1D(_FEATURES, 3, padding=draw.one(["same", "causal"]), activation="relu")(x)
    return x, inputs, array


def _recurrent(draw, sequences):
    make = draw.one(_RECURRENT)
    if draw.chance(0.25):
        return L.Bidirectional(make(return_sequences=sequences), merge_mode=draw.one(["concat", "sum", "ave", "mul"]))
    return make(return_sequences=sequences, go_backwards=draw.chance(0.15))


def _between(draw, x):
    kind = draw.one(["dense", "batch_norm", "layer_norm", "dropout", "attention", "residual"])
    if kind == "attention":
        return L.Attention()([x, x])
    if kind == "residual":
        return L.Add()([x, L.Dense(x.shape[-1], activation="tanh")(x)])
    return {
        "dense": L.Dense(_FEATURES, activation="gelu"),
        "batch_norm": L.BatchNormalization(),
        "layer_norm": L.LayerNormalization(),
        "dropout": L.Dropout(0.3),
    }[kind](x)
