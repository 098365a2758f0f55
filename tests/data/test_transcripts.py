"""Sentences with their texts: every layout, every split, and everything that can be wrong with them."""

import json

import numpy as np
import pytest
import soundfile

from zoo.data import demo_speech
from zoo.data.transcripts import load_transcripts
from zoo.errors import DataError, SettingError

RATE = 8000


def load(folder, **options):
    return load_transcripts(folder, **{"sample_rate": RATE, "seconds": 4.0} | options)


def record(path, seconds=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(str(path))).uniform(-0.5, 0.5, round(RATE * seconds))
    soundfile.write(path, noise, RATE, "PCM_16")


def write_manifest(folder, rows, name="manifest.jsonl"):
    for row in rows:
        if not (folder / row["path"]).exists():
            record(folder / row["path"])
    if name.endswith("jsonl"):
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    else:
        text = "\n".join([",".join(rows[0]), *[",".join(f'"{value}"' for value in row.values()) for row in rows]])
    (folder / name).write_text(text + "\n", encoding="utf-8")


@pytest.fixture
def rows():
    return [{"path": f"clips/{i}.wav", "text": f"hello number {'abc'[i % 3]}"} for i in range(30)]


@pytest.fixture
def own(tmp_path, rows):
    write_manifest(tmp_path, rows)
    return tmp_path


# the demo set


def test_the_demo_says_digits_and_no_voice_is_in_two_splits():
    transcripts = load("demo")
    words = {clip.label.upper() for clip in demo_speech.load()}
    assert set(" ".join(transcripts.texts).split()) == words
    where = {}
    for speaker, split in zip(transcripts.speakers, transcripts.split.tolist(), strict=True):
        where.setdefault(speaker, set()).add(split)
    assert len(where) == 52 and all(len(splits) == 1 for splits in where.values())


@pytest.mark.parametrize("seconds", [4.0, 2.0])
def test_the_demos_texts_are_what_is_heard_and_last_no_longer_than_is_asked(seconds):
    clips = [clip for clip in demo_speech.load() if clip.split == "test"]
    transcripts = load("demo", seconds=seconds)
    assert seconds - 0.1 < max(map(len, transcripts.sounds)) / RATE <= seconds
    sounds, texts = transcripts.select("test")
    for sound, text in zip(sounds[::7], texts[::7], strict=True):
        at = 0
        for word in text.lower().split():  # the words' own samples, in their order
            takes = [clip.samples for clip in clips if clip.label == word]
            found = [at + p for take in takes for p in _find(sound[at:], take)]
            assert found, text
            at = min(found)


def test_a_digit_of_the_demo_that_is_too_long_is_refused_by_name():
    with pytest.raises(DataError, match=r"demo/.*: lasts 0\.\d+ s, expected at most 0\.5 s: raise seconds, or"):
        load("demo", seconds=0.5)


def _find(sound, part):
    probe = np.argsort(-np.abs(part))[:20]  # its loudest samples, at 16 bits
    starts = np.arange(len(sound) - len(part) + 1)
    near = np.all(np.abs(sound[starts[:, None] + probe] - part[probe]) < 1e-4, axis=1)
    return [int(start) + len(part) for start in starts[near]]


# a folder of one's own


@pytest.mark.parametrize("name", ["manifest.jsonl", "manifest.csv"])
def test_a_manifest_names_recordings_and_texts(tmp_path, rows, name):
    write_manifest(tmp_path, rows, name)
    transcripts = load(tmp_path)
    assert transcripts.texts == tuple(row["text"].upper() for row in rows)
    assert transcripts.files == tuple(str(tmp_path / row["path"]) for row in rows)
    expected, _ = soundfile.read(tmp_path / rows[3]["path"], dtype="int16")
    np.testing.assert_array_equal(transcripts.sounds[3], expected)
    assert (transcripts.rate, transcripts.features) == (RATE, 0)


def test_select_gives_floats_and_texts_of_one_split(own):
    transcripts = load(own)
    sounds, texts = transcripts.select("train")
    rows = np.flatnonzero(transcripts.split == "train")
    assert texts == [transcripts.texts[row] for row in rows]
    np.testing.assert_array_equal(sounds[0], transcripts.sounds[rows[0]] / np.float32(32768))
    with pytest.raises(SettingError, match="split is 'dev', expected one of train, validation, test"):
        transcripts.select("dev")


def test_splits_and_speakers_of_the_manifest_stand(tmp_path, rows):
    for index, row in enumerate(rows):
        row |= {"speaker": f"s{index // 3}", "split": ("train", "validation", "test")[index % 3]}
    write_manifest(tmp_path, rows)
    transcripts = load(tmp_path)
    assert transcripts.split.tolist() == [row["split"] for row in rows]
    assert transcripts.speakers == tuple(row["speaker"] for row in rows)


def test_speakers_without_a_split_are_in_one_alone(tmp_path, rows):
    for index, row in enumerate(rows):
        row["speaker"] = f"s{index // 3}"
    write_manifest(tmp_path, rows)
    transcripts = load(tmp_path)
    pairs = set(zip(transcripts.speakers, transcripts.split.tolist(), strict=True))
    assert len(pairs) == 10 and {split for _, split in pairs} == {"train", "validation", "test"}


def test_new_recordings_move_no_others_between_splits(own, rows):
    before = load(own)
    write_manifest(own, rows + [{"path": f"clips/new {i}.wav", "text": "hi"} for i in range(30)])
    after = load(own)
    np.testing.assert_array_equal(after.split[:30], before.split)


def test_texts_take_the_case_of_the_alphabet_and_single_spaces(tmp_path, rows):
    rows[0]["text"] = "  Hello   Number\ta "
    write_manifest(tmp_path, rows)
    assert load(tmp_path).texts[0] == "HELLO NUMBER A"
    assert load(tmp_path, alphabet="abcdefghijklmnopqrstuvwxyz").texts[0] == "hello number a"


def test_a_letter_composed_of_two_marks_is_one(tmp_path, rows):
    rows[0]["text"] = "cafe\u0301"
    write_manifest(tmp_path, rows)
    assert load(tmp_path, alphabet="abcdefghijklmnopqrstuvwxyz\u00e9").texts[0] == "caf\u00e9"


# AN4


def write_an4(folder, name="an4-{}-b"):
    for split, speakers in (("train", "abcdefgh"), ("test", "xy")):
        top = "an4_clstk" if split == "train" else "an4test_clstk"
        ids = [f"{top}/{speaker}/{name.format(speaker)}" for speaker in speakers]
        for identity in ids:
            record(folder / "wav" / f"{identity}.wav")
        lines = [f"<s> GO {one.split('/')[1]} </s> ({one.split('/')[-1]})" for one in ids]
        (folder / "etc").mkdir(exist_ok=True)
        (folder / "etc" / f"an4_{split}.fileids").write_text("\n".join(ids) + "\n")
        (folder / "etc" / f"an4_{split}.transcription").write_text("\n".join(lines) + "\n")


def test_an4_is_read_as_it_is_published(tmp_path):
    write_an4(tmp_path)
    transcripts = load(tmp_path)
    assert transcripts.texts == tuple(f"GO {speaker.upper()}" for speaker in "abcdefghxy")
    assert [s for s, split in zip(transcripts.speakers, transcripts.split, strict=True) if split == "test"] == [
        "x",
        "y",
    ]
    assert transcripts.files[0].endswith("wav/an4_clstk/a/an4-a-b.wav")
    assert "validation" in transcripts.split


def test_an4_whose_lists_disagree_is_named(tmp_path):
    write_an4(tmp_path)
    path = tmp_path / "etc" / "an4_train.transcription"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[1], lines[0], *lines[2:]]))
    with pytest.raises(
        DataError, match=r"transcription: line 1: the transcript of 'an4-b-b', expected that of .*a/an4"
    ):
        load(tmp_path)
    path.write_text("\n".join(lines[1:]))
    with pytest.raises(DataError, match="8 names and 7 transcripts"):
        load(tmp_path)
    path.write_text("GO HOME\n")
    with pytest.raises(DataError, match=r"line 1 is 'GO HOME', expected TEXT \(name\)"):
        load(tmp_path)


def write_features(folder, split, lengths, texts=None):
    features = np.random.default_rng(0).normal(size=(sum(lengths), 13)).astype(np.float32)
    texts = texts or [f"ROW {chr(65 + i)}" for i in range(len(lengths))]
    speakers = [f"{split}{i}" for i in range(len(texts))]
    np.savez(folder / f"an4_{split}.npz", features=features, lengths=lengths, texts=texts, speakers=speakers)
    return features


def test_an4_features_are_cut_at_their_lengths(tmp_path):
    features = write_features(tmp_path, "train", [100, 60, 80])
    write_features(tmp_path, "test", [70])
    transcripts = load(tmp_path)
    np.testing.assert_array_equal(transcripts.sounds[1], features[100:160])
    assert (transcripts.rate, transcripts.features) == (100.0, 13)
    assert transcripts.texts == ("ROW A", "ROW B", "ROW C", "ROW A")
    assert transcripts.split[3] == "test" and set(transcripts.split[:3]) == {"train", "validation"}


def test_damaged_features_are_named(tmp_path):
    write_features(tmp_path, "train", [100, 60, 80])
    write_features(tmp_path, "test", [70], texts=["ONE", "TWO"])
    with pytest.raises(DataError, match=r"an4_test\.npz: the arrays do not fit"):
        load(tmp_path)
    (tmp_path / "an4_test.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(DataError, match=r"an4_test\.npz: cannot be read"):
        load(tmp_path)
    np.savez(tmp_path / "an4_test.npz", features=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match=r"an4_test\.npz: cannot be read"):  # nothing is unpickled
        load(tmp_path)
    features = write_features(tmp_path, "test", [70])
    features[3] = np.nan
    np.savez(tmp_path / "an4_test.npz", features=features, lengths=[70], texts=["A"], speakers=["s"])
    with pytest.raises(DataError, match=r"an4_test\.npz: row 0: its features are none, NaN or infinite"):
        load(tmp_path)


# LibriSpeech


def write_librispeech(folder, sets):
    for name, speakers in sets.items():
        for speaker in speakers:
            chapter = folder / name / speaker / "7"
            for index in range(2):
                record(chapter / f"{speaker}-7-000{index}.flac")
            lines = [f"{speaker}-7-000{index} SPEAKER SAYS {'AB'[index]}" for index in range(2)]
            (chapter / f"{speaker}-7.trans.txt").write_text("\n".join(lines) + "\n")


def test_librispeechs_sets_are_the_splits(tmp_path):
    write_librispeech(tmp_path, {"train-clean-100": ["19", "26"], "dev-clean": ["84"], "test-other": ["61"]})
    transcripts = load(tmp_path)
    assert transcripts.texts[:2] == ("SPEAKER SAYS A", "SPEAKER SAYS B")
    found = dict(zip(transcripts.speakers, transcripts.split.tolist(), strict=True))
    assert found == {"84": "validation", "61": "test", "19": "train", "26": "train"}


def test_one_set_of_librispeech_is_split_by_speakers(tmp_path):
    write_librispeech(tmp_path, {"dev-clean": [str(speaker) for speaker in range(20)]})
    transcripts = load(tmp_path)
    assert set(transcripts.split) == {"train", "validation", "test"}
    assert len(set(zip(transcripts.speakers, transcripts.split.tolist(), strict=True))) == 20


# what can be wrong


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"text": "  "}, r"manifest\.jsonl: line 5: the text is empty"),
        (
            {"text": "call 911!"},
            r"line 5: the text 'CALL 911!' has '!', '1', '9', expected only 'ABC.*, or set alphabet",
        ),
        ({"text": "much too long " * 9}, r"line 5: 125 characters in 1\.00 s, .*\(25 steps, 134 needed\)"),
        ({"text": "AAAAAAAAAAAAAAA"}, r"line 5: 15 characters in .*\(25 steps, 29 needed\)"),
        ({"path": "notes.txt"}, r"line 5 names 'notes\.txt', expected a sound file"),
        ({"path": "empty.wav"}, r"empty\.wav: the file has zero bytes"),
        ({"path": "gone.wav"}, r"gone\.wav: no such file"),
        ({"text": 7}, r"line 5 has no text, only path, text, expected the columns path and text"),
        ({"split": "dev"}, r"line 5 has the split 'dev', expected one of train, validation, test"),
        ({"speaker": 7}, r"line 5 has the speaker 7, expected a text"),
    ],
)
def test_a_bad_row_is_named(own, rows, change, says):
    (own / "empty.wav").touch()
    rows[4] |= change
    text = "\n".join(json.dumps(row) for row in rows)
    (own / "manifest.jsonl").write_text(text)
    with pytest.raises(DataError, match=says):
        load(own)


def test_bad_utterances_are_left_out_and_reported_when_asked(own, rows):
    rows[0]["text"], rows[1]["path"] = "", "gone.wav"
    (own / "manifest.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(DataError, match=r"line 1: the text is empty.*, or set skip_bad=True"):
        load(own)
    transcripts = load(own, skip_bad=True)
    assert len(transcripts.sounds) == len(transcripts.texts) == len(transcripts.split) == 28
    (one, why), (two, why_too) = transcripts.skipped
    assert one.endswith("line 1") and "text is empty" in why and two.endswith("line 2") and "no such file" in why_too


def test_a_line_in_another_encoding_is_named(own):
    path = own / "manifest.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[7] = '{"path": "clips/7.wav", "text": "caf\u00e9"}'.encode("latin-1")
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(DataError, match=r"line 8 is not UTF-8 \(byte 0xe9\), expected one encoding throughout"):
        load(own)


def test_the_mark_that_some_editors_put_in_front_is_no_character(tmp_path, rows):
    write_manifest(tmp_path, rows, "manifest.csv")
    path = tmp_path / "manifest.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(load(tmp_path).texts) == 30


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"path": "a.wav"', "line 1 is not JSON"),
        ('["a.wav", "hello"]', "line 1 is .* expected an object with path and text"),
        ("", "the transcripts list no recording"),
    ],
)
def test_a_manifest_that_is_none_is_named(tmp_path, text, says):
    (tmp_path / "manifest.jsonl").write_text(text)
    with pytest.raises(DataError, match=says):
        load(tmp_path)


def test_a_csv_without_the_columns_is_named(tmp_path):
    (tmp_path / "manifest.csv").write_text("sound,words\na.wav,hello\n")
    with pytest.raises(DataError, match=r"line 2 has no path, only sound, words"):
        load(tmp_path)


def test_an_utterance_longer_than_allowed_is_named(own, rows):
    record(own / rows[2]["path"], seconds=4.5)
    with pytest.raises(DataError, match=r"2\.wav: lasts 4\.5 s, expected at most 4 s"):
        load(own)


def test_a_split_that_is_left_empty_is_an_error(tmp_path, rows):
    write_manifest(tmp_path, [row | {"split": "train"} for row in rows])
    with pytest.raises(DataError, match="no usable utterance is left for the validation split"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("where", "says"),
    [("gone", "no such folder"), ("file", "is a file"), ("empty", r"no transcripts, expected manifest\.jsonl or")],
)
def test_a_folder_without_transcripts_is_named(tmp_path, where, says):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=says):
        load(tmp_path / where)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seconds": 0}, "seconds is 0, expected a positive number"),
        ({"alphabet": ""}, "alphabet is '', expected characters"),
        ({"alphabet": "AA"}, "alphabet is 'AA'"),
        ({"alphabet": "A "}, "alphabet is 'A '"),
    ],
)
def test_wrong_options_are_named(options, says):
    with pytest.raises(SettingError, match=says):
        load("demo", **options)


@pytest.mark.real
def test_an4_has_the_utterances_that_its_readme_counts(real_data):
    transcripts = load(real_data / "an4", seconds=6.5)
    assert (transcripts.split == "test").sum() == 130 and (transcripts.split != "test").sum() == 948
    speakers = np.array(transcripts.speakers)
    assert len(set(speakers[transcripts.split == "test"])) == 10
    assert not set(speakers[transcripts.split == "train"]) & set(speakers[transcripts.split != "train"])
    assert set("".join(transcripts.texts)) <= set(" ABCDEFGHIJKLMNOPQRSTUVWXYZ")
