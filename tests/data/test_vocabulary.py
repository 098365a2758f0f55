"""The device's tokenizer against Hugging Face's own, on texts of all kinds."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.texts import load_texts
from zoo.data.vocabulary import KINDS, learn_vocabulary, peer
from zoo.errors import DataError
from zoo.recipes.sentiment import device

TEXTS = [
    *load_texts("demo").select("train")[0],
    "Größe ΣΊΣΥΦΟΣ naïve straße 電影 很好 , i̇stanbul it wasn\u2019t , we'll see . Don't !",
]


def learn(texts, kind, size=0):
    special = (device.PADDING, device.UNKNOWN)
    front = {"pattern": device.PATTERN, "continues": device.CONTINUES, "longest": device.LONGEST_WORD}
    return learn_vocabulary(texts, kind=kind, size=size, special=special, **front)


def both(stored):
    return device.Vocabulary(stored), peer(stored, pattern=device.PATTERN, longest=device.LONGEST_WORD)


LEARNT = {(kind, size): both(learn(TEXTS, kind, size)) for kind, size in (("words", 0), ("words", 60), ("pieces", 200))}
CASES = pytest.mark.parametrize("case", LEARNT, ids=lambda case: f"{case[0]}-{case[1]}")
WORDS = sorted({word for text in TEXTS for word in text.split()})
PIECES = st.one_of(
    st.text(max_size=8),
    st.sampled_from([*WORDS, *map(str.upper, WORDS)]),
    st.sampled_from(
        ["n't", "N'T", "'s", "\u2019", "##", "[UNK]", "[PAD]", "\x85", "\u3000", "İ", "K", "Σ", "a" * 100, "a" * 101]
    ),
)


@CASES
@given(parts=st.lists(PIECES, max_size=12), between=st.sampled_from(["", " "]))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_the_ids_of_hugging_face_s_tokenizer(case, parts, between):
    ours, theirs = LEARNT[case]
    text = between.join(parts)
    assert ours.encode(text) == theirs.encode(text).ids


def test_every_character_gives_the_ids_of_hugging_face_s_tokenizer():
    """Alone, and within a word and a negation, where one that is cut wrongly shifts the rest."""
    ours, theirs = LEARNT["pieces", 200]
    for start in range(0, 0x20000, 0x800):  # the planes that have capitals, marks and spaces
        if not 0xD800 <= start <= 0xDFFF:
            text = "".join(f"{chr(code)} ba{chr(code)}d " for code in range(start, start + 0x800))
            assert ours.encode(text) == theirs.encode(text).ids


def test_where_capitals_are_not_in_the_texts_they_are_still_cut_alike():
    ours, theirs = both(learn(["電影 很好", "不 好"], "words"))
    for text in ("DON'T", "電影N'T", "IT'S"):
        assert ours.encode(text) == theirs.encode(text).ids


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It WASN'T good!", ["it", "was", "n't", "good", "!"]),
        ("it wo n't", ["it", "wo", "n't"]),
        ("it\u2019s", ["it", "'s"]),
        ("isn'ty", ["isn", "'", "ty"]),
        ("電影 好", ["電", "影", "好"]),
        ("a\u00a0b…c", ["a", "b", "…", "c"]),
    ],
)
def test_words_are_cut_as_the_treebank_does(text, expected):
    tokens = [device.PADDING, device.UNKNOWN, *expected]
    small = json.loads(learn(["a b"], "words"))["small"]
    vocabulary = device.Vocabulary(json.dumps({"tokens": list(dict.fromkeys(tokens)), "small": small}).encode())
    assert [vocabulary.tokens[i] for i in vocabulary.encode(text)] == expected


def test_a_vocabulary_keeps_the_most_frequent_words():
    tokens = json.loads(learn(["b a b c b a"] * 2, "words", 4))["tokens"]
    assert tokens == [device.PADDING, device.UNKNOWN, "b", "a"]


def test_pieces_tell_a_rare_word_by_its_parts():
    vocabulary = device.Vocabulary(learn(["singing ringing sing ring walking walk"] * 3, "pieces", 40))
    ids = vocabulary.encode("walkinging")
    assert 1 not in ids and len(ids) > 1
    assert "".join(vocabulary.tokens[i].removeprefix(device.CONTINUES) for i in ids) == "walkinging"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["", "  ", "x x x"])
def test_a_vocabulary_of_one_word_is_refused(kind, text):
    with pytest.raises(DataError, match="different words, expected two or more"):
        learn([text], kind)


@pytest.mark.parametrize(
    "spoil",
    [
        b"",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        b'{"tokens": 3, "small": {}}',
        b'{"tokens": ["[PAD]", "[UNK]", 3], "small": {}}',
        b'{"tokens": ["[UNK]", "[PAD]"], "small": {}}',
        b'{"tokens": ["[PAD]", "[UNK]", "a", "a"], "small": {}}',
        b'{"tokens": ["[PAD]", "[UNK]", "a"], "small": {"AB": "a"}}',
        b'{"tokens": ["[PAD]", "[UNK]", "a"], "small": {"A": 1}}',
        b'{"tokens": ["[PAD]", "[UNK]", "a"], "small": []}',
    ],
    ids=range(11),
)
def test_a_damaged_vocabulary_is_refused(spoil):
    with pytest.raises(device.DataError, match=r"vocabulary.json .* export the bundle again"):
        device.Vocabulary(spoil)


@pytest.mark.parametrize(("keep", "expected"), [("start", [1, 2, 3]), ("end", [3, 4, 5])])
def test_the_kept_end_of_a_long_text_is_a_choice(keep, expected):
    np.testing.assert_array_equal(device.fit([1, 2, 3, 4, 5], 3, keep), expected)
    np.testing.assert_array_equal(device.fit([7], 3, keep), [7, 0, 0])
