"""The networks of the forecasting recipe: a scaled past to a scaled future, each channel by the same weights.

Two give the future itself, `deepar` its quantiles.
"""

import keras
import numpy as np
from keras import ops

from zoo.layers import CalendarCycles, DeepAR, EchoState, PathQuantiles, SegRNN, StaticCovariates
from zoo.recipes.forecasting.scores import LEVELS

_RESERVOIR, _TELLER = 300, 40  # units
SCALED = "scaled"  # the layer whose output is compared with the scaled future
SAID = "said_of_series"  # the layer that knows the static columns and their words


def known(recipe, turns, series):
    """Return what is known of every step beside the series, (batch, look_back + horizon, features), and from what.

    Args:
        recipe: `Forecasting`.
        turns: what each clock of the calendar turns in a step; empty to read none.
        series: `zoo.data.series.Series`; what its static columns say is read.

    Returns:
        (known, {name: input}); known is None where there is nothing.
    """
    inputs, parts = {}, []
    if turns:
        inputs["clock"] = keras.Input((len(turns),), name="clock")
        parts.append(CalendarCycles(recipe.look_back, recipe.horizon, turns, name="cycles")(inputs["clock"]))
    if series.static:
        said = np.array([panel.static for panel in series.panels])
        columns = [
            words or (numbers.mean(), numbers.std() or 1.0)
            for (_, words), numbers in zip(series.static, said.T, strict=True)
        ]
        inputs["static"] = keras.Input((len(columns),), name="static")
        layer = StaticCovariates(recipe.look_back + recipe.horizon, columns, name=SAID)
        parts.append(layer(inputs["static"]))
    joined = keras.layers.Concatenate(name="known")(parts) if len(parts) > 1 else next(iter(parts), None)
    return joined, inputs


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


def deepar(scaled, recipe, level, known):
    """Paths of the future, walked by an LSTM that tells how each value is distributed, and their quantiles.

    A level, (batch, 1, channels), lets it see how high the series stands, not only how it moved: where to return to.
    """
    layer = DeepAR(
        recipe.horizon, recipe.units or _TELLER, recipe.paths, recipe.degrees, seed=recipe.seed, name="deepar"
    )
    series = scaled if level is None else keras.layers.Add(name="raised")([scaled, level])
    quantiles = PathQuantiles(LEVELS, name="path_quantiles")(layer(series) if known is None else layer(series, known))
    return quantiles if level is None else quantiles - ops.expand_dims(level, -1)
