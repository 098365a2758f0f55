"""What a device does around a keyword model: a wav to the model's input, its output to labels. NumPy alone."""

import wave
from pathlib import Path

import numpy as np

try:
    from zoo.errors import DataError
except ImportError:  # on a device, where the zoo is not installed

    class DataError(ValueError):
        """A file cannot be used as it is."""


LONGEST = 60.0  # seconds
FASTEST = 384_000  # Hz: no recorder samples more often
_SHOWN = 3  # labels


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
    rate, seconds = (_setting(card, name, most) for name, most in (("sample_rate", FASTEST), ("seconds", LONGEST)))
    length = max(1, round(rate * seconds))
    samples, found_rate = _read_wav(Path(path))
    return {"samples": _fit_length(_resample(samples, found_rate, rate), length)[None].astype(np.float32)}


def answer(outputs, card):
    """Return (label, probability) for every label of the card, best first, from the model's outputs."""
    (probabilities,), labels = outputs.values(), card["labels"]
    probabilities = np.asarray(probabilities, np.float32).reshape(-1)
    if len(probabilities) != len(labels):
        raise DataError(f"the model gives {len(probabilities)} probabilities for {len(labels)} labels; export it again")
    return [(labels[i], float(probabilities[i])) for i in np.argsort(-probabilities, kind="stable")]


def show(answers):
    """Return the likeliest labels as lines of text."""
    width = max(len(label) for label, _ in answers[:_SHOWN])
    return "\n".join(f"{label:{width}}  {probability:.3f}" for label, probability in answers[:_SHOWN])


def _setting(card, name, most):
    value = card["settings"].get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
        raise DataError(f"the card's {name} is {ascii(value)[:80]}; expected a number above 0, at most {most:g}")
    return value


def _read_wav(path):
    if not path.is_file():  # a pipe would be waited for
        raise DataError(f"there is no file {path}; expected a WAV file")
    try:
        with wave.open(str(path), "rb") as file:
            rate, width, channels, frames = (
                file.getframerate(),
                file.getsampwidth(),
                file.getnchannels(),
                file.getnframes(),
            )
            if rate == 0 or frames == 0:
                raise DataError(f"{path} has {frames} samples at {rate} Hz; expected sound at a rate above 0")
            if width > 4:
                raise DataError(f"{path} has samples of {8 * width} bits; expected 8, 16, 24 or 32")
            if frames > LONGEST * rate:
                raise DataError(
                    f"{path} lasts {frames / rate:.0f} s; expected at most {LONGEST:g} s: cut it into clips"
                )
            data = np.frombuffer(file.readframes(frames), np.uint8)
    except (wave.Error, EOFError, OSError, RuntimeError) as error:
        raise DataError(f"{path} is not a WAV file of integer samples ({error}); convert it to 16-bit WAV") from None
    data = data[: len(data) // (width * channels) * (width * channels)].reshape(-1, width)
    wide = np.zeros((len(data), 4), np.uint8)
    wide[:, 4 - width :] = data  # little endian: the high bytes last, so that every width has the same full scale
    if width == 1:
        wide[:, 3] ^= 0x80  # 8-bit WAV counts from 0 with silence at 128
    samples = wide.view("<i4").reshape(-1, channels).mean(axis=1) / 2.0**31
    if not len(samples):
        raise DataError(f"{path} holds no sound; record it again")
    return samples, rate


def _resample(samples, rate, wanted):
    """Change the rate by cutting or padding the spectrum, which is exact for what both rates can hold."""
    if rate == wanted:
        return samples
    length = max(1, round(len(samples) * wanted / rate))
    return np.fft.irfft(np.fft.rfft(samples), length) * (length / len(samples))


def _fit_length(samples, length):
    surplus = len(samples) - length
    if surplus <= 0:
        before = -surplus // 2
        return np.pad(samples, (before, -surplus - before))
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    start = int(np.argmax(energy[length:] - energy[:-length]))
    return samples[start : start + length]
