"""Quantiles of a forecast, from paths that were drawn."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable("zoo")
class PathQuantiles(keras.layers.Layer):
    """Quantiles of drawn values: the sorted ones, with straight lines between them.

    Hazen's rule: the k-th of n sorted values, k from 1, is their (k - 1/2) / n quantile. It is exact where the values
    are the midpoints of n equally likely shares, as what `DeepAR` draws for a step.

        at[p] = p n - 1/2, kept from 0 to n - 1;  k = floor(at[p])
        q[p]  = v[k] + (at[p] - k) (v[k + 1] - v[k])           v sorted, from v[0] to v[n - 1]

    Args:
        levels: list of floats in (0, 1).

    Call arguments:
        paths: (..., paths).

    Returns:
        (..., levels).

    Example:
        >>> PathQuantiles([0.25, 0.5])(np.array([[4.0, 1.0, 2.0, 3.0]])).numpy().tolist()
        [[1.5, 2.5]]

    Reference:
        R. Hyndman, Y. Fan, "Sample quantiles in statistical packages", The American Statistician 50(4), 1996,
        definition 5.
    """

    def __init__(self, levels, **kwargs):
        super().__init__(**kwargs)
        self.levels = [float(level) for level in levels]

    def call(self, paths):
        count = paths.shape[-1]
        falling, _ = ops.top_k(paths, count)  # every target sorts by this op
        at = [min(max(level * count - 0.5, 0.0), count - 1.0) for level in self.levels]
        below = [math.floor(place) for place in at]
        low = ops.take(falling, [count - 1 - place for place in below], axis=-1)
        high = ops.take(falling, [max(count - 2 - place, 0) for place in below], axis=-1)
        part = ops.convert_to_tensor([place - low for place, low in zip(at, below, strict=True)], paths.dtype)
        return low + part * (high - low)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], len(self.levels))

    def get_config(self):
        return {**super().get_config(), "levels": self.levels}
