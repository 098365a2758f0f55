"""Pronouncing dictionaries."""

import pytest

from zoo.data.pronunciations import Pronunciations
from zoo.data.transcripts import load_transcripts
from zoo.errors import DataError

DIGITS = {
    **{"ZERO": "Z IH R OW", "ONE": "W AH N", "TWO": "T UW", "THREE": "TH R IY", "FOUR": "F AO R", "FIVE": "F AY V"},
    **{"SIX": "S IH K S", "SEVEN": "S EH V AH N", "EIGHT": "EY T", "NINE": "N AY N"},
}


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_the_first_pronunciation_counts_without_stress(tmp_path):
    path = write(tmp_path / "d", ";;; a remark\nA  AH0\nA(2)  EY1\n\nhello  HH AH0 L OW1\n")
    pronounce = Pronunciations(path)
    assert pronounce("A hello", "here") == "AH HH AH L OW"
    assert pronounce.phones == ("AH", "HH", "L", "OW")


@pytest.mark.parametrize(
    ("text", "says"), [("A\n", "line 1 is 'A', expected a word and its phones"), ("A 1\n", "line 1"), ("", "no words")]
)
def test_what_is_no_dictionary_is_named(tmp_path, text, says):
    with pytest.raises(DataError, match=says):
        Pronunciations(write(tmp_path / "d", text))
    with pytest.raises(DataError, match=r"gone: No such file"):
        Pronunciations(tmp_path / "gone")


def test_texts_become_phones_and_a_word_that_is_missing_is_named(tmp_path):
    path = write(tmp_path / "d", "\n".join(f"{word} {phones}" for word, phones in DIGITS.items()))
    options = {"sample_rate": 8000, "seconds": 4.0}
    written = load_transcripts("demo", **options).texts
    spoken = load_transcripts("demo", **options, pronounce=Pronunciations(path)).texts
    assert spoken == tuple(" ".join(DIGITS[word] for word in text.split()) for text in written)
    path = write(tmp_path / "d", "ZERO Z IH R OW\n")
    with pytest.raises(DataError, match=r"demo/.*: the dictionary .* has no '\w+', expected every word"):
        load_transcripts("demo", **options, pronounce=Pronunciations(path))


def test_phones_need_room_too(tmp_path):
    path = write(tmp_path / "d", "\n".join(f"{word} {'AH EH ' * 15}" for word in DIGITS))
    with pytest.raises(DataError, match=r"\d+ phones in .* s, expected at most one in 0\.04 s"):
        load_transcripts("demo", sample_rate=8000, seconds=4.0, pronounce=Pronunciations(path))
