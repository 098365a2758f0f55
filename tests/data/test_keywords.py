"""Folders of spoken words: what is recognised, how it is split, and what is said of a folder that cannot be used."""

import shutil
from collections import Counter

import numpy as np
import pytest
import soundfile

from zoo.data import catalogue
from zoo.data.keyword_layouts import COMMANDS, DIGITS
from zoo.data.keywords import load_keywords
from zoo.errors import DataError, SettingError

RATE = 8000
FSDD_SPEAKERS = ("anna", "bo_b", "cid")
OTHER_WORDS = ("bed", "cat", "dog")


def load(data, **options):
    return load_keywords(data, **{"sample_rate": RATE, "seconds": 0.25, **options})


def record(path, seconds=0.1, rate=RATE):
    """Write a clip whose samples depend on its name, so that two files are never alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(list(str(path).encode())).uniform(-0.5, 0.5, round(rate * seconds))
    soundfile.write(path, noise, rate, subtype="PCM_16", format="WAV")


@pytest.fixture(scope="module")
def fsdd(tmp_path_factory):
    """Three speakers, one of them with an underscore, ten digits, twelve takes, in the layout of Free Spoken Digits."""
    folder = tmp_path_factory.mktemp("fsdd")
    for speaker in FSDD_SPEAKERS:
        for digit in range(10):
            for index in range(12):
                record(folder / "recordings" / f"{digit}_{speaker}_{index}.wav")
    return folder


@pytest.fixture
def own(tmp_path):
    """Two labels with thirty recordings each."""
    for label in ("no", "yes"):
        for index in range(30):
            record(tmp_path / "own" / label / f"take {index}.wav")
    return tmp_path / "own"


@pytest.fixture(scope="module")
def speech_commands(tmp_path_factory):
    """The layout of Speech Commands v2: ten keywords and three other words, six speakers, two of them in the lists."""
    folder = tmp_path_factory.mktemp("speech_commands")
    for word in (*COMMANDS, *OTHER_WORDS):
        for speaker in range(6):
            for take in range(2):
                record(folder / word / f"{speaker:08x}_nohash_{take}.wav")
    for take in range(2):
        record(folder / "_background_noise_" / f"noise {take}.wav", seconds=65)
    (folder / "_background_noise_" / "README.md").write_text("noise")
    for name, speaker in (("validation_list.txt", 4), ("testing_list.txt", 5)):
        lines = [f"{w}/{speaker:08x}_nohash_{take}.wav\n" for w in (*COMMANDS, *OTHER_WORDS) for take in range(2)]
        (folder / name).write_text("".join(lines))
    return folder


def splits_by_name(keywords):
    return {
        "/".join(file.split("/")[-2:]): split
        for file, split in zip(keywords.files, keywords.split.tolist(), strict=True)
    }


# Free Spoken Digits


def test_fsdd_is_recognised_by_its_file_names(fsdd):
    keywords = load(fsdd)
    assert keywords.label_names == DIGITS
    assert set(keywords.speakers) == set(FSDD_SPEAKERS)
    for file, label, speaker in zip(keywords.files, keywords.labels, keywords.speakers, strict=True):
        assert file.split("/")[-1].startswith(f"{label}_{speaker}_")


def test_fsdd_recordings_may_be_given_directly(fsdd):
    whole, direct = load(fsdd), load(str(fsdd / "recordings"))
    np.testing.assert_array_equal(whole.pcm, direct.pcm)


def test_fsdd_test_split_is_index_0_to_4(fsdd):
    for name, split in splits_by_name(load(fsdd)).items():
        index = int(name.removesuffix(".wav").split("_")[-1])
        assert (split == "test") == (index < 5)
        assert (split == "validation") == (5 <= index < 10)


def test_held_out_speaker_is_the_whole_test_and_nowhere_else(fsdd):
    keywords = load(fsdd, test_speaker="bo_b")
    for speaker, split in zip(keywords.speakers, keywords.split, strict=True):
        assert (speaker == "bo_b") == (split == "test")
    assert Counter(keywords.split.tolist()) == {"train": 2 * 70, "validation": 2 * 50, "test": 120}


def test_validation_can_have_a_speaker_of_its_own(fsdd):
    keywords = load(fsdd, test_speaker="anna").hold_out("cid", split="validation")
    of = dict(zip(keywords.speakers, keywords.split.tolist(), strict=True))
    assert of == {"anna": "test", "bo_b": "train", "cid": "validation"}


def test_training_cannot_be_held_out(fsdd):
    with pytest.raises(SettingError, match="'train', expected one of validation, test"):
        load(fsdd).hold_out("anna", split="train")


def test_unknown_speaker_is_answered_with_the_known_ones(fsdd):
    with pytest.raises(DataError, match=r"'eve', expected one of anna, bo_b, cid\."):
        load(fsdd, test_speaker="eve")


def test_file_of_another_name_among_digits_is_named(fsdd, tmp_path):
    folder = shutil.copytree(fsdd, tmp_path / "copy")
    record(folder / "recordings" / "ten_anna_0.wav")
    with pytest.raises(DataError, match=r"ten_anna_0\.wav: the name does not fit"):
        load(folder)
    assert [file.split("/")[-1] for file, _ in load(folder, skip_bad=True).skipped] == ["ten_anna_0.wav"]


@pytest.mark.real
def test_free_spoken_digits_are_complete(real_data):
    folder = real_data / "fsdd"
    keywords = load(folder, seconds=1.0)
    assert Counter(zip(keywords.speakers, keywords.labels.tolist(), strict=True)) == {
        (speaker, digit): 50
        for speaker in ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
        for digit in range(10)
    }
    # the bytes that the audit counted from which the catalogue has its sha256
    assert sum(path.stat().st_size for path in (folder / "recordings").glob("*.wav")) == 21_128_848


# Speech Commands


def test_speech_commands_have_twelve_labels_and_the_official_lists(speech_commands):
    keywords = load(speech_commands)
    assert keywords.label_names == (*COMMANDS, "_unknown_", "_silence_")
    official = {"00000004": "validation", "00000005": "test"}
    for speaker, split in zip(keywords.speakers, keywords.split, strict=True):
        assert speaker == "" or split == official.get(speaker, "train")


def test_unknown_and_silence_are_as_many_as_an_average_keyword(speech_commands):
    keywords = load(speech_commands)
    for split, expected in (("train", 8), ("validation", 2), ("test", 2)):
        _, labels = keywords.select(split)
        assert Counter(labels.tolist()) == dict.fromkeys(range(12), expected)


def test_unknown_words_are_no_keywords_and_follow_the_seed(speech_commands):
    def unknown(seed):
        keywords = load(speech_commands, seed=seed)
        return [
            file.split("/")[-2:] for file, label in zip(keywords.files, keywords.labels, strict=True) if label == 10
        ]

    assert {word for word, _ in unknown(0)} <= set(OTHER_WORDS)
    assert unknown(0) == unknown(0) != unknown(1)


def test_silence_is_cut_from_noise_that_no_other_split_hears(speech_commands):
    keywords = load(speech_commands)
    noises = {
        str(path): soundfile.read(path)[0].astype(np.float32)
        for path in (speech_commands / "_background_noise_").glob("*.wav")
    }
    share = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}
    for clip, label, split, file in zip(keywords.samples, keywords.labels, keywords.split, keywords.files, strict=True):
        if label == 11 and clip.any():
            noise = noises[file]
            at = np.argmax(np.abs(np.correlate(noise, clip)))  # where the clip lies in the take, whatever its volume
            piece = noise[at : at + len(clip)]
            assert np.corrcoef(piece, clip)[0, 1] > 0.99
            low, high = share[split]
            assert low * len(noise) <= at and at + len(clip) <= high * len(noise)


def test_short_or_missing_noise_and_a_missing_keyword_are_named(speech_commands, tmp_path):
    folder = shutil.copytree(speech_commands, tmp_path / "copy")
    for path in (folder / "_background_noise_").glob("*.wav"):
        record(path, seconds=1.0)
    with pytest.raises(DataError, match=r"noise \d\.wav: lasts 8000 samples, too short"):
        load(folder)
    shutil.rmtree(folder / "_background_noise_")
    with pytest.raises(DataError, match="no background noise"):
        load(folder)
    shutil.rmtree(folder / "stop")
    with pytest.raises(DataError, match="no recordings of stop"):
        load(folder)


# a folder of one's own


def test_own_folder_has_one_label_per_sub_folder(own):
    keywords = load(own)
    assert keywords.label_names == ("no", "yes")
    for file, label in zip(keywords.files, keywords.labels, strict=True):
        assert file.split("/")[-2] == keywords.label_names[label]


def test_clip_is_the_recording_in_the_middle_of_silence(own):
    keywords = load(own)
    recording, _ = soundfile.read(keywords.files[7], dtype="float32")
    expected = np.zeros(2000, dtype=np.float32)
    expected[600:1400] = recording
    np.testing.assert_array_equal(keywords.samples[7], expected)  # 16-bit sound at its own rate is kept exactly


def test_select_gives_the_clips_of_one_split(own):
    keywords = load(own)
    chosen = keywords.split == "train"
    samples, labels = keywords.select("train")
    assert samples.dtype == np.float32 and labels.dtype == np.int32
    np.testing.assert_array_equal(samples, keywords.samples[chosen])
    np.testing.assert_array_equal(labels, keywords.labels[chosen])
    with pytest.raises(SettingError, match="'dev', expected one of train, validation, test"):
        keywords.select("dev")


def test_new_recordings_move_no_others_between_splits(own):
    before = splits_by_name(load(own))
    for index in range(30, 60):
        record(own / "yes" / f"take {index}.wav")
    after = splits_by_name(load(own))
    assert len(after) == len(before) + 30
    assert {name: after[name] for name in before} == before


def test_split_by_hash_is_about_80_10_10(tmp_path):
    for index in range(400):
        record(tmp_path / "ab"[index % 2] / f"{index}.wav", seconds=0.03)
    counts = Counter(load(tmp_path).split.tolist())
    for split, expected in (("train", 320), ("validation", 40), ("test", 40)):
        assert abs(counts[split] - expected) < 32  # four standard deviations of a draw of 400


def test_speaker_in_the_file_names_decides_the_split(tmp_path):
    for label in ("no", "yes"):
        for speaker in range(12):
            for take in range(3):
                record(tmp_path / label / f"person_{speaker}_nohash_{take}.wav")
    keywords = load(tmp_path)
    where = {}
    for speaker, split in zip(keywords.speakers, keywords.split.tolist(), strict=True):
        where.setdefault(speaker, set()).add(split)
    assert len(where) == 12 and all(len(splits) == 1 for splits in where.values())
    for speaker in where:
        held = load(tmp_path, test_speaker=speaker)
        assert {name for name, split in zip(held.speakers, held.split, strict=True) if split == "test"} == {speaker}


def test_folder_of_few_recordings_still_fills_every_split(tmp_path):
    for index in range(5):
        record(tmp_path / "ab"[index % 2] / f"{index}.wav")
        record(tmp_path / "ba"[index % 2] / f"{index}.wav")
    keywords = load(tmp_path)
    for split in ("train", "validation", "test"):
        assert set(keywords.select(split)[1]) == {0, 1}  # every name is recorded for both labels


def test_any_rate_and_stereo_are_taken(own):
    stereo = np.random.default_rng(0).uniform(-0.5, 0.5, (44100, 2))
    soundfile.write(own / "yes" / "loud.flac", stereo, 44100)
    keywords = load(own)
    assert keywords.pcm.shape == (61, 2000)


def test_hidden_files_and_other_files_are_no_recordings(own):
    for junk in (".DS_Store", "yes/.DS_Store", "yes/._take 1.wav", "notes.txt", "yes/notes.txt", ".git/no.wav"):
        (own / junk).parent.mkdir(exist_ok=True)
        (own / junk).write_text("junk")
    (own / "__MACOSX").mkdir()
    keywords = load(own)
    assert keywords.label_names == ("no", "yes") and len(keywords.files) == 60


def test_upper_case_suffix_and_deeper_folders_are_recordings(own):
    record(own / "yes" / "SESSION 2" / "LOUD.WAV")
    assert sum(file.endswith("yes/SESSION 2/LOUD.WAV") for file in load(own).files) == 1


def test_empty_label_folder_is_named(own):
    (own / "maybe").mkdir()
    (own / "maybe" / "notes.txt").write_text("none yet")
    with pytest.raises(DataError, match="maybe: a label without sound files"):
        load(own)


def test_one_label_only_is_refused(own):
    shutil.rmtree(own / "no")
    with pytest.raises(DataError, match="recordings of 'yes' only"):
        load(own)


def test_recordings_without_label_folders_are_refused(tmp_path):
    record(tmp_path / "hello.wav")
    with pytest.raises(DataError, match="no sub-folders with sound files"):
        load(tmp_path)


def test_too_few_recordings_for_three_splits_are_refused(tmp_path):
    record(tmp_path / "no" / "1.wav")
    record(tmp_path / "yes" / "2.wav")
    with pytest.raises(DataError, match="2 different recordings or speakers cannot fill"):
        load(tmp_path)


def test_empty_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="the folder is empty"):
        load(tmp_path)


def test_missing_folder_is_answered_with_the_known_names(tmp_path):
    with pytest.raises(DataError, match=r"gone: no such folder, .* demo, fsdd, speech_commands"):
        load(tmp_path / "gone")
    with pytest.raises(DataError, match=r"speech_comands: no such folder, .* demo, fsdd, speech_commands"):
        load("speech_comands")


def test_file_in_place_of_a_folder_is_named(own):
    with pytest.raises(DataError, match="is a file, expected a folder"):
        load(own / "yes" / "take 1.wav")


def test_one_bad_file_is_named_and_skipped_only_when_asked(own):
    (own / "yes" / "take 1.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"take 1\.wav: the file has zero bytes.*skip_bad=True") as caught:
        load(own)
    assert ". " not in str(caught.value)
    keywords = load(own, skip_bad=True)
    assert len(keywords.files) == len(keywords.pcm) == len(keywords.speakers) == 59
    ((file, reason),) = keywords.skipped
    assert file.endswith("take 1.wav") and "zero bytes" in reason


def test_label_of_bad_files_only_is_an_error_all_the_same(own):
    for path in (own / "yes").iterdir():
        path.write_bytes(b"not sound")
    with pytest.raises(DataError, match=r"label 'yes' has no usable recording .*30 files were skipped"):
        load(own, skip_bad=True)


@pytest.mark.parametrize("setting", ["sample_rate", "seconds"])
def test_rate_and_length_must_be_positive(own, setting):
    with pytest.raises(SettingError, match=f"{setting} is 0, expected a positive number"):
        load(own, **{setting: 0})


def test_speaker_cannot_be_held_out_where_file_names_tell_none(own):
    with pytest.raises(DataError, match="they tell none"):
        load(own, test_speaker="anna")


def test_named_set_is_fetched_through_the_catalogue(fsdd, monkeypatch):
    monkeypatch.setattr(catalogue, "fetch", lambda name: {"fsdd": fsdd}[name])
    assert len(load("fsdd").files) == 360


def test_demo_set_needs_no_folder():
    keywords = load("demo", seconds=1.0)
    assert keywords.label_names == DIGITS
    assert {file.split("/")[0] for file in keywords.files} == {"demo"}
    assert all(name.split("+")[0].startswith("en") for name in keywords.speakers)
