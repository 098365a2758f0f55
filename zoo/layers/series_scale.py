"""A series in raw units, brought to where a network works, and what brings its forecast back."""

import keras
from keras import ops

_FLAT = 1e-5  # of the level: a window that varies less is constant within float32's rounding
_TINY = 1e-12  # keeps a window of zeros from a division by zero


@keras.saving.register_keras_serializable("zoo")
class SeriesScale(keras.layers.Layer):
    """Fill what is missing, take off the last value, divide by a spread.

    A missing value is NaN and takes the last known one before it, or, at the start, the first known one after it; a
    channel of which nothing is known is zeros. The filling is done by shifted copies, log2(time) of them each way,
    which every target has.

        level  = x[T]
        spread = the number given for the channel, or the window's own standard deviation
        y[t]   = (x[t] - level) / spread

    Args:
        spread: list of floats above 0, one for each channel; None to take each window's own, where series of very
            different sizes share a model.

    Call arguments:
        series: (batch, time, channels), raw, NaN where a value is missing.

    Returns:
        (y, level, spread): (batch, time, channels), and twice (batch, 1, channels).

    Example:
        >>> y, level, spread = SeriesScale([2.0])(np.array([[[1.0], [np.nan], [5.0]]]))
        >>> y[0, :, 0].numpy().tolist(), float(level[0, 0, 0])
        ([-2.0, -2.0, 0.0], 5.0)
    """

    def __init__(self, spread=None, **kwargs):
        super().__init__(**kwargs)
        self.spread = None if spread is None else [float(value) for value in spread]

    def call(self, series):
        series = self.filled(series)
        level = series[:, -1:]
        if self.spread is not None:
            spread = ops.ones_like(level) * ops.convert_to_tensor(self.spread, level.dtype)
        else:
            about = series - ops.mean(series, axis=1, keepdims=True)
            own = ops.sqrt(ops.mean(ops.square(about), axis=1, keepdims=True))
            spread = ops.maximum(own, _FLAT * ops.abs(level) + _TINY)
        return (series - level) / spread, level, spread

    def filled(self, series):
        """Return the series without NaN."""
        known = ops.equal(series, series)  # NaN alone is not equal to itself
        values = ops.where(known, series, ops.zeros_like(series))
        for forward in (True, False):
            reach = 1  # every gap shorter than this is filled
            while reach < series.shape[1]:
                values, known = _filled_from(values, known, reach, forward)
                reach *= 2
        return values

    def compute_output_shape(self, input_shape):
        one = (input_shape[0], 1, input_shape[2])
        return tuple(input_shape), one, one

    def get_config(self):
        return {**super().get_config(), "spread": self.spread}


def _filled_from(values, known, reach, forward):
    """Take what is missing from `reach` steps before it, or behind it."""
    if forward:
        late, early = slice(reach, None), slice(None, -reach)
        kept, order = slice(None, reach), lambda first, second: [first, second]
    else:
        late, early = slice(None, -reach), slice(reach, None)
        kept, order = slice(-reach, None), lambda first, second: [second, first]
    taken = ops.where(known[:, late], values[:, late], values[:, early])
    either = ops.logical_or(known[:, late], known[:, early])
    return (
        ops.concatenate(order(values[:, kept], taken), axis=1),
        ops.concatenate(order(known[:, kept], either), axis=1),
    )
