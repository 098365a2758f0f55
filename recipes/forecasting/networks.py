"""The networks of the forecasting recipe: a scaled past to a scaled future, each channel by the same weights."""

import keras
from keras import ops

from zoo.layers import EchoState, SegRNN

_RESERVOIR = 300  # units
SCALED = "scaled"  # the layer whose output is compared with the scaled future


def segrnn(scaled, recipe):
    """Segments of the past through one GRU, all segments of the future at once."""
    return SegRNN(
        recipe.horizon, recipe.units or 128, recipe.segment, dropout=recipe.dropout, seed=recipe.seed, name=SCALED
    )(scaled)


def echo_state(scaled, recipe):
    """A reservoir that nothing trains, and a linear readout of its last state and of the past itself."""
    _, steps, channels = scaled.shape
    past = ops.reshape(ops.swapaxes(scaled, 1, 2), (-1, steps, 1))
    state = EchoState(recipe.units or _RESERVOIR, leak=0.3, bias_scaling=0.2, seed=recipe.seed, name="reservoir")(past)
    features = keras.layers.Concatenate(name="features")([state, ops.reshape(past, (-1, steps))])
    ahead = keras.layers.Dense(recipe.horizon, name="readout")(features)
    ahead = ops.reshape(ahead, (-1, channels, recipe.horizon))
    return keras.layers.Permute((2, 1), name=SCALED)(ahead)
