"""Sound files to arrays: one rate, one channel, values between -1 and 1."""

import struct
from pathlib import Path

import numpy as np
import soundfile
import soxr

from zoo.errors import DataError

SHORTEST = 0.025  # seconds: one analysis frame of speech; a shorter clip holds nothing that a front-end could see
LONGEST = 60.0  # seconds: a longer file is a recording session, not a clip
LOUDEST = 2.0  # lossy decoders and resampling overshoot 1 by some per cent; twice is another unit


def read_audio(path, sample_rate, *, longest=LONGEST):
    """Read a sound file as mono samples at the rate that is asked for.

    Any format of libsndfile (WAV, FLAC, OGG, MP3, AIFF), any rate, any number of channels: channels are averaged, the
    rate is changed by soxr. What a decoder or the resampling overshoots beyond 1 is cut off, as a sound card does.

    Args:
        path: str or Path, the file.
        sample_rate: int, Hz, of the result.
        longest: float, seconds, the longest file that is accepted (default: a minute).

    Returns:
        float32 array (samples,), values in [-1, 1].

    Raises:
        DataError: the file is missing, empty, corrupt, shorter than a frame of 25 ms or longer than `longest`, its
            header gives a sample rate of 0, or its samples are NaN, infinite or in another unit. The message names it.

    Example:
        >>> from zoo.data import demo_speech
        >>> read_audio(demo_speech.EXAMPLE, 16000).dtype
        dtype('float32')
    """
    path = Path(path)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise DataError(f"{path}: {found}, expected a sound file: check the path.")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file has zero bytes, expected a sound file: record it again or remove it.")
    try:
        with soundfile.SoundFile(path) as file:
            rate, frames = file.samplerate, len(file)
            _check_duration(path, frames / rate, longest)
            samples = file.read(dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        if _is_wav_of_rate_zero(path):
            raise DataError(
                f"{path}: the header gives a sample rate of 0 Hz, expected for example 16000: export the file again."
            ) from error
        raise DataError(
            f"{path}: not readable as sound ({error.error_string.rstrip('.')}): convert it to WAV or remove it."
        ) from error
    if len(samples) != frames:
        raise DataError(f"{path}: {len(samples)} samples, but its header promises {frames}: copy the file again.")
    if not np.isfinite(samples).all():
        raise DataError(
            f"{path}: has samples that are NaN or infinite, expected numbers from -1 to 1: export the file again."
        )
    loudest = float(np.abs(samples).max())
    if loudest > LOUDEST:
        raise DataError(
            f"{path}: has samples up to {loudest:.6g}, expected -1 to 1: divide by full scale, or save as 16-bit PCM."
        )
    mono = samples.mean(axis=1)
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate)
    return np.clip(mono, -1.0, 1.0)


def fit_length(samples, length):
    """Give a clip the length that a model takes.

    A shorter clip is put in the middle of silence; of a longer one the loudest window (the most energy) is kept, since
    the word is where the energy is.

    Args:
        samples: array (samples,).
        length: int, samples of the result.

    Returns:
        Array (length,) of the same type.
    """
    surplus = len(samples) - length
    if surplus <= 0:
        before = -surplus // 2
        return np.pad(samples, (before, -surplus - before))
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    start = int(np.argmax(energy[length:] - energy[:-length]))
    return samples[start : start + length]


def _check_duration(path, seconds, longest):
    if seconds < SHORTEST:
        raise DataError(
            f"{path}: lasts {seconds:.3f} s, expected at least one frame of {SHORTEST} s: record it again or remove it."
        )
    if seconds > longest:
        raise DataError(f"{path}: lasts {seconds:.1f} s, expected at most {longest:g} s: cut it into clips.")


def _is_wav_of_rate_zero(path):
    """True for a RIFF file whose `fmt ` chunk says 0 Hz, which libsndfile reports as an internal error."""
    head = path.read_bytes()[:4096]
    at = head.find(b"fmt ")
    return head[:4] == b"RIFF" and 0 <= at <= len(head) - 16 and struct.unpack_from("<I", head, at + 12)[0] == 0
