"""What devices do with recordings: a WAV file to samples of the rate that a model wants. NumPy alone."""

import wave
from pathlib import Path

import numpy as np

if __package__:
    from zoo.errors import DataError
else:  # in a bundle
    from contents import DataError

LONGEST = 60.0  # seconds
FASTEST = 384_000  # Hz: no recorder samples more often


def read_wav(path):
    """Return (samples, Hz) of a WAV file: float64 (length,) between -1 and 1, the mean of its channels.

    Args:
        path: a WAV file of 8, 16, 24 or 32-bit integer samples.

    Raises:
        DataError: the file is missing, empty, not WAV, of rate 0, or longer than a minute.
    """
    path = Path(path)
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


def resample(samples, rate, wanted):
    """Change the rate by cutting or padding the spectrum, which is exact for what both rates can hold."""
    if rate == wanted:
        return samples
    length = max(1, round(len(samples) * wanted / rate))
    return np.fft.irfft(np.fft.rfft(samples), length) * (length / len(samples))
