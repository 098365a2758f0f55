"""A sequence of any length to one vector: the sum that attention weighs, or the largest of each feature."""

import keras
from keras import ops

from zoo.layers.cell import check_units


@keras.saving.register_keras_serializable("zoo")
class AttentionPooling(keras.layers.Layer):
    """The sum of a sequence's steps, weighed by how much each matters.

    A small network looks at each step by itself; `weights` gives what it found, for people to see.

        e[t] = v . tanh(W x[t] + b)
        a    = softmax(e) over the steps that the mask leaves
        y    = sum_t a[t] x[t]

    The weights: `kernel` (features, units), `bias` (units,), `query` (units,).

    Args:
        units: int, width of the small network.

    Call arguments:
        inputs: `(batch, time, features)`.
        mask: bool `(batch, time)`, or None.

    Returns:
        `(batch, features)`.

    Raises:
        SettingError: `units` is not a positive whole number.

    Reference:
        Z. Yang et al., "Hierarchical attention networks for document classification", NAACL 2016,
        https://aclanthology.org/N16-1174
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units, self.supports_masking = check_units(units), True

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        self.query = self.add_weight(shape=(self.units, 1), initializer="glorot_uniform", name="query")

    def call(self, inputs, mask=None):
        return ops.sum(inputs * self.weights_of(inputs, mask), axis=1)

    def weights_of(self, inputs, mask=None):
        """Return how much each step matters, `(batch, time, 1)`, of sum 1."""
        scores = ops.matmul(ops.tanh(ops.matmul(inputs, self.kernel) + self.bias), self.query)
        if mask is not None:
            scores = _lowered(scores, mask)
        weights = ops.exp(scores - ops.stop_gradient(ops.max(scores, axis=1, keepdims=True)))  # any shift will do
        if mask is not None:
            weights = weights * ops.expand_dims(ops.cast(mask, weights.dtype), -1)
        return weights / (ops.sum(weights, axis=1, keepdims=True) + keras.config.epsilon())  # of padding only: zeros

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])

    def get_config(self):
        return super().get_config() | {"units": self.units}


@keras.saving.register_keras_serializable("zoo")
class MaxPooling(keras.layers.Layer):
    """The largest value of each feature over the steps that the mask leaves; Keras' own looks at padding too.

        y[i] = max_t x[t, i]

    Call arguments:
        inputs: `(batch, time, features)`.
        mask: bool `(batch, time)`, or None.

    Returns:
        `(batch, features)`.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs, mask=None):
        inputs = inputs if mask is None else _lowered(inputs, mask)
        if keras.backend.backend() != "jax":
            return ops.max(inputs, axis=1)
        # JAX divides the gradient by how many steps equal the maximum, none where XLA rounds them anew: NaN
        return ops.squeeze(ops.take_along_axis(inputs, ops.argmax(inputs, axis=1, keepdims=True), axis=1), 1)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])


def _lowered(x, mask):
    """Return x, `(batch, time, features)`, with the lowest value over time where the mask leaves a step out.

    A large negative constant would do too, but not in integers, whose range it would take up.
    """
    kept = ops.expand_dims(ops.cast(mask, x.dtype), -1)
    return x * kept + ops.stop_gradient(ops.min(x, axis=1, keepdims=True)) * (1 - kept)
