"""Sound files become one rate, one channel, or one clear sentence."""

import re
import struct
import wave

import numpy as np
import pytest
import soundfile

from zoo.data.audio import fit_length, read_audio
from zoo.errors import DataError

PCM_STEP = 1 / 32768  # what 16 bits can tell apart


def tone(rate, seconds=0.5, hertz=440.0, amplitude=0.5):
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


@pytest.fixture
def wav(tmp_path):
    """Write samples to a file and return its path."""

    def write(samples, rate=8000, name="clip.wav", **options):
        soundfile.write(tmp_path / name, samples, rate, **options)
        return tmp_path / name

    return write


def test_sixteen_bit_wav_reads_as_the_standard_library_reads_it(wav):
    path = wav(tone(8000), subtype="PCM_16")
    with wave.open(str(path)) as file:
        expected = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    samples = read_audio(path, 8000)
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, expected.astype(np.float32))


@pytest.mark.parametrize("name", ["clip.flac", "clip.WAV", "clip.aiff"])
def test_other_formats_read_the_same(wav, name):
    np.testing.assert_allclose(read_audio(wav(tone(8000), name=name), 8000), tone(8000), atol=PCM_STEP)


def test_stereo_is_averaged_to_mono(wav):
    left, right = tone(8000), tone(8000, hertz=1000.0, amplitude=0.25)
    samples = read_audio(wav(np.stack([left, right], axis=1)), 8000)
    np.testing.assert_allclose(samples, (left + right) / 2, atol=PCM_STEP)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_any_rate_becomes_the_rate_asked_for(wav, rate):
    samples = read_audio(wav(tone(rate), rate), 16000)
    inner = slice(800, -800)  # the ends of a tone that starts at full level are not those of an endless one
    assert abs(len(samples) - 8000) <= 1  # half a second; at 11025 Hz no whole number of samples
    np.testing.assert_allclose(
        samples[inner], tone(16000)[: len(samples)][inner], atol=1e-3
    )  # the resampler's pass-band ripple


def test_overshoot_of_resampling_stays_within_one(wav):
    square = np.sign(tone(8000)) * 32767 / 32768
    assert np.abs(read_audio(wav(square), 16000)).max() <= 1.0


def wav_header(rate, frames):
    """A canonical WAV file of silence, built by hand: 16 bits, one channel."""
    data = bytes(2 * frames)
    form = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "zero bytes"),
        (b"this is no sound at all" * 100, "not readable as sound"),
        (wav_header(8000, 800)[:30], "not readable as sound"),
        (wav_header(0, 800), "sample rate of 0"),
        (wav_header(8000, 0), "lasts 0.000 s"),
        (wav_header(8000, 100), "at least one frame"),
        (wav_header(8000, 8000 * 61), "lasts 61.0 s"),
    ],
    ids=["zero-length", "junk", "cut in the header", "rate 0", "no samples", "shorter than a frame", "over a minute"],
)
def test_bad_file_is_named_in_one_sentence(tmp_path, content, said):
    path = tmp_path / "broken.wav"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_audio(path, 16000)
    message = str(caught.value)
    assert message.startswith(str(path)) and said in message
    assert message.endswith(".") and ". " not in re.sub(r"\(.*\)", "", message)  # libsndfile's words are in brackets


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip.wav", "clip.flac", "clip.ogg"])
def test_damaged_file_reads_or_is_refused_but_nothing_else(wav, name):
    """Fuzzing: bytes are changed and the end cut off at random, in the header more than elsewhere."""
    path = wav(tone(8000, seconds=0.1), name=name)
    intact, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(3000):
        damaged = bytearray(intact)
        for _ in range(random.integers(1, 6)):
            damaged[random.integers(64 if random.random() < 0.7 else len(damaged))] = random.integers(256)
        path.write_bytes(damaged[: len(damaged) if random.random() < 0.7 else random.integers(len(damaged))])
        try:
            samples = read_audio(path, 16000)
        except DataError:
            continue
        assert samples.ndim == 1 and np.abs(samples).max(initial=0.0) <= 1.0


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.wav: no such file"):
        read_audio(tmp_path / "gone.wav", 16000)


def test_folder_in_place_of_a_file_is_named(tmp_path):
    with pytest.raises(DataError, match="a folder, expected a sound file"):
        read_audio(tmp_path, 16000)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(wav, bad):
    samples = tone(8000)
    samples[1000] = bad
    with pytest.raises(DataError, match="NaN or infinite"):
        read_audio(wav(samples, subtype="FLOAT"), 8000)


def test_floats_in_another_unit_are_refused(wav):
    with pytest.raises(DataError, match="expected -1 to 1"):
        read_audio(wav(32768 * tone(8000), subtype="FLOAT"), 8000)


def test_flac_that_was_cut_off_is_refused(wav, tmp_path):
    path = wav(np.random.default_rng(0).uniform(-0.5, 0.5, 40000), name="clip.flac")
    path.write_bytes(path.read_bytes()[:20000])
    with pytest.raises(DataError, match=r"clip\.flac"):
        read_audio(path, 8000)


def test_shorter_clip_is_put_in_the_middle_of_silence():
    np.testing.assert_array_equal(fit_length(np.array([1.0, 2.0, 3.0]), 8), [0, 0, 1, 2, 3, 0, 0, 0])


def test_of_a_longer_clip_the_loudest_window_is_kept():
    samples = np.random.default_rng(0).normal(size=50)
    windows = np.lib.stride_tricks.sliding_window_view(samples, 20)
    np.testing.assert_array_equal(fit_length(samples, 20), windows[np.argmax((windows**2).sum(axis=1))])


def test_clip_of_the_right_length_is_kept_as_it_is():
    np.testing.assert_array_equal(fit_length(np.arange(5.0), 5), np.arange(5.0))
