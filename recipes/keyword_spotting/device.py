"""What a device does around a keyword model: a wav to the model's input, its output to labels. NumPy alone."""

import numpy as np

if __package__:
    from zoo.recipes.device.labels import answer, show
    from zoo.recipes.device.settings import number
    from zoo.recipes.device.sound import FASTEST, LONGEST, read_wav, resample
else:  # in a bundle
    from labels import answer, show  # noqa: F401
    from settings import number
    from sound import FASTEST, LONGEST, read_wav, resample


def read(path, card):
    """Return the model's input from a WAV file of any rate, mono or stereo: {"samples": (1, length)}.

    As in training, a shorter clip is put in the middle of silence and of a longer one the loudest window is kept.

    Args:
        path: a WAV file of 8, 16, 24 or 32-bit integer samples.
        card: the bundle's card, with `settings` of the recipe: sample_rate (Hz) and seconds.

    Raises:
        DataError: the file is missing, empty, not WAV, of rate 0, or longer than a minute; the card's settings are not
            those of a keyword model.
    """
    rate, seconds = (number(card, name, most) for name, most in (("sample_rate", FASTEST), ("seconds", LONGEST)))
    length = max(1, round(rate * seconds))
    samples, found_rate = read_wav(path)
    return {"samples": _fit_length(resample(samples, found_rate, rate), length)[None].astype(np.float32)}


def _fit_length(samples, length):
    surplus = len(samples) - length
    if surplus <= 0:
        before = -surplus // 2
        return np.pad(samples, (before, -surplus - before))
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    start = int(np.argmax(energy[length:] - energy[:-length]))
    return samples[start : start + length]
