"""What a device does around a speech recogniser: reading sound, and text from probabilities."""

import itertools

import numpy as np
import pytest
import soundfile

from zoo.data.audio import read_audio
from zoo.errors import DataError
from zoo.recipes.speech_recognition import device

LABELS = ["", " ", "A", "B"]
CARD = {"settings": {"sample_rate": 8000, "seconds": 1.1}, "labels": LABELS}


def probabilities(path):
    """Of one utterance whose best label in each frame is that of `path`."""
    return {"probabilities": np.eye(len(LABELS), dtype="float32")[None, path] * 0.9}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ([0, 2, 2, 0, 3, 0], "AB"),
        ([2, 0, 2, 2, 3, 3], "AAB"),
        ([1, 2, 1, 0, 1, 3, 1], "A B"),  # spaces at the ends and doubled ones are none
        ([0, 0, 0], ""),
    ],
)
def test_repeats_and_blanks_are_left_out(path, text):
    assert device.answer(probabilities(path), CARD) == text
    right = "".join(LABELS[one] for one, _ in itertools.groupby(path))  # by the definition: first repeats, then blanks
    assert device.answer(probabilities(path), CARD).split() == right.split()


def test_phones_are_written_with_spaces():
    assert device.answer(probabilities([2, 0, 3]), {"labels": ["", "AH", "B", "K"]}) == "B K"


def test_nothing_heard_is_shown_as_such():
    assert device.show("") == "(nothing)" and device.show("GO") == "GO"


def test_outputs_for_other_labels_are_refused():
    with pytest.raises(DataError, match=r"gives \(1, 2, 4\) for 2 labels"):
        device.answer(probabilities([1, 2]), {"labels": ["", "A"]})


@pytest.mark.parametrize("rate", [8000, 44100])
def test_a_wav_is_followed_by_silence_up_to_the_models_length(tmp_path, rate):
    time = np.arange(round(0.5 * rate)) / rate
    soundfile.write(tmp_path / "tone.wav", 0.5 * np.sin(2 * np.pi * 440 * time), rate)
    (samples,) = device.read(tmp_path / "tone.wav", CARD).values()
    assert samples.shape == (1, 9600)  # 1.1 s and up to a whole number of chunks of 0.2 s
    expected = read_audio(tmp_path / "tone.wav", 8000)
    np.testing.assert_allclose(samples[0, 50:3950], expected[50:3950], atol=2e-3)  # the resamplers' filters differ
    assert not samples[0, 4000:].any()


def test_features_are_read_from_an_array(tmp_path):
    features = np.random.default_rng(0).normal(size=(50, 13)).astype("float32")
    np.save(tmp_path / "said.npy", features)
    (read,) = device.read(tmp_path / "said.npy", CARD).values()
    assert read.shape == (1, 120, 13)
    np.testing.assert_array_equal(read[0, :50], features)
    assert not read[0, 50:].any()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("long.wav", np.zeros(12000), r"long\.wav lasts 1\.5 s; the model hears 1\.2 s at most"),
        ("long.npy", np.ones((130, 13)), r"long\.npy lasts 1\.3 s"),
        ("flat.npy", np.ones(130), r"flat\.npy holds \(130,\) float64; expected finite floats \(frames, features\)"),
        ("nan.npy", np.full((9, 13), np.nan), r"nan\.npy holds"),
        ("objects.npy", np.array([{}], dtype=object), r"objects\.npy is no array of features"),
        ("text.npy", b"hello", r"text\.npy is no array of features"),
        ("text.wav", b"hello", r"text\.wav is not a WAV file"),
        ("gone.wav", None, r"there is no file .*gone\.wav"),
        ("gone.npy", None, r"gone\.npy is no array of features"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, says):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None and name.endswith(".npy"):
        np.save(path, content, allow_pickle=True)
    elif content is not None:
        soundfile.write(path, content, 8000)
    with pytest.raises(DataError, match=says):
        device.read(path, CARD)


@pytest.mark.parametrize("value", [0, "8000", True, None, 1e9])
def test_a_card_of_something_else_is_refused(tmp_path, value):
    soundfile.write(tmp_path / "a.wav", np.zeros(800), 8000)
    with pytest.raises(DataError, match="the card's sample_rate is"):
        device.read(tmp_path / "a.wav", {"settings": {"sample_rate": value, "seconds": 1.0}})
