"""What training does to speech so that a model meets more voices, rooms and microphones than were recorded."""

import math

import keras
from keras import ops

from zoo import checks
from zoo.errors import SettingError


class _TrainingOnly(keras.layers.Layer):
    """A layer that changes its input in training alone: inference and exported graphs do not contain it."""

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.seed = checks.seed(seed)
        self._random = keras.random.SeedGenerator(self.seed)

    def call(self, inputs, training=False):
        return self.augment(inputs) if training else inputs

    def augment(self, inputs):
        """Return the inputs, changed at random."""
        raise NotImplementedError(f"{type(self).__name__}.augment")

    def uniform(self, shape, low, high):
        return keras.random.uniform(shape, low, high, dtype="float32", seed=self._random)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"seed": self.seed}


@keras.saving.register_keras_serializable("zoo")
class AudioAugment(_TrainingOnly):
    """Random speed, shift, loudness, tilt and noise for each clip, in training only.

    Speed moves pitch, formants and tempo together, as another speaker does; the clip is read at other places by linear
    interpolation, with silence beyond its ends. Tilt lifts high or low frequencies, as another microphone does. Every
    draw is new for each clip and step, and follows `seed`.

        z[n] = x[speed (n - middle) + middle - shift] + noise[n]
        y[n] = gain (z[n] + tilt z[n-1])

    Args:
        shift: the furthest move, a fraction of the clip's length.
        speed: the largest change: 0.25 draws the factor from 1 / 1.25 to 1.25, evenly on a log scale.
        gain_db: the largest change of loudness in dB, either way.
        tilt: the largest tilt, below 1.
        snr_db: lowest and highest ratio of the clip's energy to that of the white noise, in dB.
        seed: an integer makes the draws repeatable.

    Call arguments:
        samples: `(batch, samples)`, float.
        training: whether to augment; otherwise the samples pass unchanged.

    Raises:
        SettingError: a negative range.

    Reference:
        Ko et al., "Audio augmentation for speech recognition", 2015, https://doi.org/10.21437/Interspeech.2015-711
    """

    def __init__(self, *, shift=0.1, speed=0.25, gain_db=6.0, tilt=0.8, snr_db=(5.0, 50.0), seed=None, **kwargs):
        super().__init__(seed, **kwargs)
        if min(shift, speed, gain_db, tilt) < 0 or snr_db[0] > snr_db[1]:
            raise SettingError(
                f"AudioAugment: shift, speed, gain_db and tilt must be 0 or more and snr_db run from low to high, "
                f"received {shift!r}, {speed!r}, {gain_db!r}, {tilt!r}, {snr_db!r}"
            )
        self.shift, self.speed, self.gain_db = shift, speed, gain_db
        self.tilt, self.snr_db = tilt, tuple(snr_db)

    def augment(self, inputs):
        clip, length = (ops.shape(inputs)[0], 1), inputs.shape[-1]
        largest = math.log(1 + self.speed)
        speed = ops.exp(self.uniform(clip, -largest, largest))
        shift = self.uniform(clip, -self.shift, self.shift) * length
        place = speed * (ops.arange(length, dtype="float32") - length / 2) + length / 2 - shift  # (batch, samples)
        left = ops.floor(place)
        weight = place - left
        padded = ops.pad(inputs, ((0, 0), (2, 2)))  # silence beyond the ends: sample n is at n + 2
        index = ops.cast(ops.clip(left, -2, length) + 2, "int32")
        x = ops.take_along_axis(padded, index, axis=1) * (1 - weight)
        x = x + ops.take_along_axis(padded, index + 1, axis=1) * weight
        energy = ops.mean(ops.square(x), axis=-1, keepdims=True)
        noise = self.uniform(ops.shape(x), -(3**0.5), 3**0.5)  # variance 1
        noise = noise * ops.sqrt(energy * 10 ** (-self.uniform(clip, *self.snr_db) / 10))
        x = x + noise
        x = x + self.uniform(clip, -self.tilt, self.tilt) * ops.pad(x[:, :-1], ((0, 0), (1, 0)))
        return x * 10 ** (self.uniform(clip, -self.gain_db, self.gain_db) / 20)

    def get_config(self):
        names = ("shift", "speed", "gain_db", "tilt", "snr_db")
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("zoo")
class SpectrogramMask(_TrainingOnly):
    """Bands of frequency and stretches of time set to zero, in training only.

    Put it behind the normalisation, where zero is the average. Each mask has a random place and a random width.

        y[t, m] = 0 where t or m lies in a mask, else x[t, m]

    Args:
        time: largest width of a mask in frames.
        frequency: largest width of a mask in bands.
        count: masks along each axis.
        seed: an integer makes the draws repeatable.

    Call arguments:
        features: `(batch, frames, bands)`.
        training: whether to mask; otherwise the features pass unchanged.

    Raises:
        SettingError: a negative width or count.

    Reference:
        Park et al., "SpecAugment", 2019, https://arxiv.org/abs/1904.08779
    """

    def __init__(self, *, time=6, frequency=6, count=1, seed=None, **kwargs):
        super().__init__(seed, **kwargs)
        self.time, self.frequency = checks.whole(time, "time", least=0), checks.whole(frequency, "frequency", least=0)
        self.count = checks.whole(count, "count", least=0)

    def augment(self, inputs):
        for _ in range(self.count):
            inputs = inputs * self._keep(inputs, self.time, axis=1) * self._keep(inputs, self.frequency, axis=2)
        return inputs

    def _keep(self, inputs, widest, axis):
        """Return ones with a stretch of zeros along one axis, `(batch, frames, 1)` or `(batch, 1, bands)`."""
        clip, length = (ops.shape(inputs)[0], 1), inputs.shape[axis]
        width = ops.floor(self.uniform(clip, 0, widest + 1))
        start = ops.floor(self.uniform(clip, 0, 1) * (length - width + 1))
        place = ops.arange(length, dtype="float32")
        masked = ops.logical_and(place >= start, place < start + width)
        return ops.expand_dims(1 - ops.cast(masked, inputs.dtype), axis=3 - axis)

    def get_config(self):
        return super().get_config() | {"time": self.time, "frequency": self.frequency, "count": self.count}
