"""The built-in demo set: synthetic, small, balanced, with whole voices held out."""

import itertools
import json
import shutil
import subprocess
from collections import Counter

import numpy as np
import pytest
import soundfile

from zoo.data import demo_speech, make_demo_speech
from zoo.data.keywords import load_keywords


@pytest.fixture(scope="module")
def clips():
    return demo_speech.load()


def test_the_speech_takes_at_most_two_megabytes():
    files = [demo_speech.SPEECH, demo_speech.INDEX, demo_speech.SPEECH.with_name("seven.wav")]
    assert sum(path.stat().st_size for path in files) <= 2_000_000


def test_demo_set_calls_itself_synthetic():
    assert "synthetic" in json.loads(demo_speech.INDEX.read_text())["what"]
    assert "synthetic" in demo_speech.__doc__ and "synthetic" in demo_speech.load.__doc__


def test_index_covers_the_whole_sound_without_gap_or_overlap(clips):
    frames = soundfile.info(demo_speech.SPEECH).frames
    total = sum(len(clip.samples) for clip in clips)
    entries = json.loads(demo_speech.INDEX.read_text())["clips"]
    assert all(before["stop"] == after["start"] for before, after in itertools.pairwise(entries))
    assert 0 <= frames - total < 505  # IMA ADPCM fills its last block: 4 bytes of header and 504 samples of 4 bits


def test_every_voice_says_every_digit_equally_often(clips):
    counts = Counter((clip.voice, clip.label) for clip in clips)
    assert len(counts) == 10 * len({clip.voice for clip in clips})
    assert set(counts.values()) == {make_demo_speech.TAKES}


def test_no_voice_or_variant_is_in_two_splits(clips):
    splits = {}
    for clip in clips:
        splits.setdefault(clip.voice.split("+")[1], set()).add(clip.split)
    assert all(len(where) == 1 for where in splits.values())
    assert set.union(*splits.values()) == {"train", "validation", "test"}


def test_every_clip_is_one_audible_word(clips):
    for clip in clips:
        assert 0.1 < len(clip.samples) / demo_speech.SAMPLE_RATE < 1.0, clip.name
        assert 0.3 < np.abs(clip.samples).max() < 0.7, clip.name  # made at 0.5; the codec's 4 bits err at the peaks


def test_example_is_a_sixteen_bit_word_of_a_test_voice(clips):
    info = soundfile.info(demo_speech.EXAMPLE)
    assert (info.samplerate, info.channels, info.subtype) == (8000, 1, "PCM_16")
    example, _ = soundfile.read(demo_speech.EXAMPLE)
    first = next(clip for clip in clips if clip.split == "test" and clip.label == "seven")
    error = np.sqrt(np.mean((first.samples - example) ** 2) / np.mean(example**2))
    assert error < 0.15  # 16 dB: what 4-bit ADPCM leaves of speech at the least


def test_clips_follow_the_rate_asked_for(clips):
    doubled = demo_speech.load(2 * demo_speech.SAMPLE_RATE)
    assert all(abs(len(b.samples) - 2 * len(a.samples)) <= 1 for a, b in zip(clips, doubled, strict=True))


def test_nearest_mean_spectrum_tells_held_out_voices_apart():
    """A classifier of ten lines does far better than chance, so labels and sounds belong together."""
    keywords = load_keywords("demo", sample_rate=8000, seconds=1.0)

    def features(samples):  # (clips, 8000) -> log power in 25 stretches of 25 bands of 80 Hz, the clip's mean removed
        power = np.abs(np.fft.rfft(samples.reshape(len(samples), 25, 320)))[:, :, 1:151] ** 2
        bands = np.log(power.reshape(len(samples), 25, 25, 6).mean(axis=3) + 1e-3)
        return (bands - bands.mean(axis=(1, 2), keepdims=True)).reshape(len(samples), -1)

    train, labels = keywords.select("train")
    test, expected = keywords.select("test")
    seen = features(train)
    means = np.stack([seen[labels == digit].mean(axis=0) for digit in range(10)])
    distance = ((features(test)[:, None] - means) ** 2).sum(axis=2)
    assert np.mean(distance.argmin(axis=1) == expected) > 0.5


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_script_makes_the_same_bytes_again(tmp_path, monkeypatch):
    version = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True, check=True).stdout.split()[3]
    made_by = json.loads(demo_speech.INDEX.read_text())["made_by"]
    if made_by != f"espeak-ng {version}":
        pytest.skip(f"the demo set was made by {made_by}, here is {version}")
    names = ("SPEECH", "INDEX", "EXAMPLE")
    for name in names:
        monkeypatch.setattr(make_demo_speech, name, tmp_path / getattr(demo_speech, name).name)
    make_demo_speech.main()
    for name in names:
        stored = getattr(demo_speech, name)
        assert (tmp_path / stored.name).read_bytes() == stored.read_bytes()
