"""Features made comparable between speakers and microphones, utterance by utterance."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("zoo")
class MaskedNorm(keras.layers.Layer):
    """Each feature with mean 0 and variance 1 over the frames of its own utterance; padding is left out and 0.

        mean = sum_t m[t] x[t] / sum_t m[t]
        y[t] = m[t] (x[t] - mean) / sqrt(sum_t m[t] (x[t] - mean)^2 / sum_t m[t] + 1e-5)

    Nothing is learnt. It needs the whole utterance, so a model that streams cannot have it.

    Call arguments:
        features: `(batch, frames, features)`.
        kept: `(batch, frames, 1)`, 1 where a frame counts and 0 where it is padding.

    Example:
        >>> y = MaskedNorm()(np.array([[[1.0], [3.0], [9.0]]]), np.array([[[1.0], [1.0], [0.0]]]))
        >>> np.round(y[0, :, 0], 3).tolist()
        [-1.0, 1.0, 0.0]
    """

    def call(self, features, kept):
        frames = ops.maximum(ops.sum(kept, axis=1, keepdims=True), 1)  # of silence alone there are none
        centred = (features - ops.sum(features * kept, axis=1, keepdims=True) / frames) * kept
        variance = ops.sum(ops.square(centred), axis=1, keepdims=True) / frames
        return centred * ops.rsqrt(variance + 1e-5)

    def compute_output_shape(self, features_shape, kept_shape):
        return features_shape
