"""Optimizers that add noise to the gradients, less and less, which can help deep and recurrent networks to start."""

import keras
from keras import ops

from zoo import checks
from zoo.errors import SettingError


class _Noisy:
    """Adds noise to the gradients before the optimizer beside it in the bases clips and applies them."""

    def __init__(self, learning_rate=0.001, *, noise=0.01, decay=0.55, noise_seed=0, **options):
        super().__init__(learning_rate, **options)
        if noise < 0 or decay < 0:
            raise SettingError(f"{type(self).__name__}: received noise={noise!r}, decay={decay!r}; expected 0 or more.")
        self.noise, self.decay, self.noise_seed = noise, decay, checks.seed(noise_seed, "noise_seed")
        self._draws = keras.random.SeedGenerator(self.noise_seed)
        self._track_variable(self._draws.state)  # so that checkpoints, and JAX, carry it on

    def apply(self, grads, trainable_variables=None):
        step = ops.cast(self.iterations, "float32")
        deviation = ops.sqrt(self.noise / (1.0 + step) ** self.decay)
        noisy = [gradient if gradient is None else self._with_noise(gradient, deviation) for gradient in grads]
        return super().apply(noisy, trainable_variables)

    def _with_noise(self, gradient, deviation):
        gradient = ops.convert_to_tensor(gradient)  # that of an embedding comes by rows
        drawn = keras.random.normal(ops.shape(gradient), dtype=gradient.dtype, seed=self._draws)
        return gradient + ops.cast(deviation, gradient.dtype) * drawn

    def get_config(self):
        return super().get_config() | {"noise": self.noise, "decay": self.decay, "noise_seed": self.noise_seed}


@keras.saving.register_keras_serializable("zoo")
class NoisyAdam(_Noisy, keras.optimizers.Adam):
    """Adam whose gradients get Gaussian noise, less and less.

        g[t] <- g[t] + N(0, noise / (1 + t)^decay)

    The noise comes before the clipping, if there is one. A seed gives the same noise again.

    Args:
        learning_rate: as Keras' Adam takes it.
        noise: variance of the noise in the first step; the paper takes 0.01, 0.3 or 1.
        decay: exponent of its fall.
        noise_seed: int.
        options: of `keras.optimizers.Adam`, as `global_clipnorm` and `weight_decay`.

    Raises:
        SettingError: `noise` or `decay` is negative.

    Reference:
        Neelakantan et al., "Adding gradient noise improves learning for very deep networks", 2015,
        https://arxiv.org/abs/1511.06807
    """


@keras.saving.register_keras_serializable("zoo")
class NoisySGD(_Noisy, keras.optimizers.SGD):
    """Gradient descent with the noise of `NoisyAdam`; the arguments are those, and of `keras.optimizers.SGD`."""
