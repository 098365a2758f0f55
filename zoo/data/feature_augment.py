"""What training does to features of speech so that a network meets more voices and tempos than were recorded."""

import numpy as np

_CHANNELS = 40  # mel bands from which cepstra are taken to come


class FeatureAugment:
    """Random tempo, vocal tract length and masks of one utterance's features, in NumPy.

    The tempo is changed by reading the frames at other places, by linear interpolation. A vocal tract of another length
    moves the formants: the bands are read at other places. Cepstra are brought to log-mel bands for that and back,
    which is one small matrix. Masked bands and stretches of time take the utterance's mean. The noise is a share of
    each feature's deviation within the utterance.

        y[t] = warp(x[t / stretch]) + noise[t]      stretch and warp factor drawn evenly on a log scale

    Args:
        cepstra: whether the features are cepstra (MFCC), else log-mel bands.
        stretch: the largest change of tempo: 0.15 draws from 1 / 1.15 to 1.15.
        warp: the largest change of the vocal tract's length, likewise.
        noise: standard deviation of the noise over that of the feature.
        time: widest mask in frames, two in each utterance, each at most a tenth of it.
        bands: widest mask in bands, two in each utterance; none for cepstra, where a band is no entry.
        seed: int, of the draws.

    Call arguments:
        features: float32 (frames, features).
        random: the NumPy generator to draw from (default: that of `seed`).

    Returns:
        float32 (other frames, features).

    Reference:
        Jaitly and Hinton, "Vocal tract length perturbation (VTLP) improves speech recognition", 2013; Park et al.,
        "SpecAugment", 2019, https://arxiv.org/abs/1904.08779
    """

    def __init__(self, *, cepstra=False, stretch=0.15, warp=0.15, noise=0.25, time=12, bands=6, seed=0):
        self.cepstra, self.noise, self.time, self.bands = cepstra, noise, time, 0 if cepstra else bands
        self._largest = np.log1p([stretch, warp])
        self._random = np.random.default_rng(seed)

    def __call__(self, features, random=None):
        random = self._random if random is None else random
        stretch, warp = np.exp(random.uniform(-self._largest, self._largest))
        x = read_between(features, np.linspace(0, len(features) - 1, max(1, round(len(features) * stretch))))
        x = x @ warp_matrix(x.shape[1], warp, self.cepstra)
        mean = x.mean(axis=0)
        x += self.noise * x.std(axis=0) * random.standard_normal(x.shape, np.float32)
        for _ in range(2):
            start, stop = _stretch_of(random, len(x), min(self.time, len(x) // 10))
            x[start:stop] = mean
            start, stop = _stretch_of(random, x.shape[1], self.bands)
            x[:, start:stop] = mean[start:stop]
        return x


def _stretch_of(random, length, widest):
    width = random.integers(widest + 1)
    start = random.integers(length - width + 1)
    return start, start + width


def read_between(rows, places):
    """Return the rows at fractional places, (places, features), by linear interpolation."""
    low = np.minimum(np.floor(places).astype(int), len(rows) - 1)
    high = np.minimum(low + 1, len(rows) - 1)
    share = (places - low)[:, None].astype(np.float32)
    return rows[low] * (1 - share) + rows[high] * share


def warp_matrix(size, factor, cepstra):
    """Return what brings features to those of a vocal tract `factor` times as long, float32 (size, size).

    Band m of the result is read at m factor; beyond the highest band, there.
    """
    channels = _CHANNELS if cepstra else size
    places = np.minimum(np.arange(channels) * factor, channels - 1)
    matrix = read_between(np.eye(channels, dtype=np.float32), places).T  # (channels read, channels)
    if cepstra:
        transform = np.cos(np.pi / channels * np.outer(np.arange(channels) + 0.5, np.arange(size)))
        matrix = np.linalg.pinv(transform) @ matrix @ transform
    return matrix.astype(np.float32)
