"""Loudness taken out of log-mel features without looking ahead."""

import math

import keras
from keras import ops

from zoo.errors import SettingError

_DB = math.log(10) / 10  # of a natural logarithm of energy


@keras.saving.register_keras_serializable("zoo")
class RunningLevel(keras.layers.Layer):
    """Log-mel features relative to the loudest energy heard so far, cut off a fixed range below it.

    A quiet voice, a far microphone and the noise between words then look alike: a network need not learn loudness from
    examples. Only the past is used, so a stream gives what the whole clip gives. The running maximum is made of
    maxima of shifted copies, log2(frames) of them, which every target has.

        level[t] = max(lowest, max_m x[0, m], ..., max_m x[t, m])
        y[t, m]  = max(x[t, m] - level[t], -range)

    Args:
        range_db: how far below the level a feature may lie, in dB.
        lowest_db: the level of silence, in dB of a full-scale sine.

    Call arguments:
        features: `(batch, frames, mels)`, natural logarithms of energies, as `LogMel` gives.

    Raises:
        SettingError: a range that is not above 0.
    """

    def __init__(self, *, range_db=40.0, lowest_db=-45.0, **kwargs):
        super().__init__(**kwargs)
        if not range_db > 0:
            raise SettingError(f"RunningLevel: range_db must be above 0, received {range_db!r}")
        self.range_db, self.lowest_db = range_db, lowest_db

    @property
    def lowest(self):
        """The level of silence, as a natural logarithm of energy."""
        return self.lowest_db * _DB

    def call(self, features):
        return self.relative(features, self.levels(features))

    def levels(self, features):
        """Return the loudest energy up to each frame, `(batch, frames, 1)`."""
        level = ops.maximum(ops.max(features, axis=-1, keepdims=True), self.lowest)
        reach = 1  # level[t] is the maximum of this many frames up to t
        while reach < features.shape[1]:
            level = ops.concatenate(
                [level[:, :reach], ops.maximum(level[:, reach:], level[:, :-reach])],
                axis=1,
            )
            reach *= 2
        return level

    def relative(self, features, levels):
        """Return `features` relative to `levels`, cut off below the range."""
        return ops.maximum(features - levels, -self.range_db * _DB)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"range_db": self.range_db, "lowest_db": self.lowest_db}
