"""How sure a forecast is, from how far it was off before."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("zoo")
class ResidualQuantiles(keras.layers.Layer):
    """Quantiles of a forecast, from how far its forecasts of other days were off.

    The offsets are weights that no gradient trains: zeros until they are assigned. The median is the forecast itself.

        q[t, c, p] = y[t, c] + offset[t, c, p]        offset: the p-quantile of the errors at step t of channel c

    Args:
        levels: list of floats in (0, 1), growing; 0.5 is one of them.

    Call arguments:
        forecast: (batch, time, channels).

    Returns:
        (batch, time, channels, levels).

    Reference:
        V. Vovk et al., "Algorithmic learning in a random world", 2005 (split conformal prediction).
    """

    def __init__(self, levels, **kwargs):
        super().__init__(**kwargs)
        self.levels = [float(level) for level in levels]

    def build(self, input_shape):
        shape = (*input_shape[1:], len(self.levels))
        self.offset = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="offset")

    def call(self, forecast):
        return ops.expand_dims(forecast, -1) + self.offset

    def compute_output_shape(self, input_shape):
        return (*input_shape, len(self.levels))

    def get_config(self):
        return {**super().get_config(), "levels": self.levels}
