"""The beam search and its language model, against sums over every alignment and every text."""

import itertools
import math

import numpy as np
import pytest

from zoo.errors import SettingError
from zoo.recipes.speech_recognition.ctc_beam import beam_search
from zoo.recipes.speech_recognition.ngram import END, NGram

LABELS = ("", " ", "A", "B")


def outputs(frames, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(len(LABELS)), frames)


def sums_over_alignments(probabilities, labels=LABELS):
    """Text -> probability, by walking through all alignments one by one."""
    found = {}
    for alignment in itertools.product(range(len(labels)), repeat=len(probabilities)):
        text = "".join(labels[one] for one, _ in itertools.groupby(alignment))
        product = math.prod(frame[one] for frame, one in zip(probabilities, alignment, strict=True))
        found[text] = found.get(text, 0.0) + product
    return found


@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_gives_the_sum_over_all_alignments(seed):
    probabilities = outputs(5, seed)
    expected = sums_over_alignments(probabilities)
    found = dict(beam_search(probabilities, LABELS, width=10_000))
    assert sum(expected.values()) == pytest.approx(1)
    for text, probability in expected.items():
        if probability > 1e-3:
            assert math.exp(found[text]) == pytest.approx(probability, rel=1e-2)  # labels below 1e-4 are left out
    assert max(found, key=found.get) == max(expected, key=expected.get)


def test_the_best_text_need_not_be_the_best_alignment():
    probabilities = np.array([[0.6, 0.0, 0.4, 0.0]] * 2)  # greedy: two blanks, 0.36; A: 0.64 in three alignments
    (best, score), *_ = beam_search(probabilities, LABELS)
    assert best == "A" and math.exp(score) == pytest.approx(0.64)


def test_the_same_label_comes_again_only_after_a_blank():
    again = np.array([[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    assert beam_search(again, LABELS)[0][0] == "AA"
    assert beam_search(again[[0, 2]], LABELS)[0][0] == "A"


@pytest.mark.parametrize("words", [False, True], ids=["characters", "words"])
def test_a_language_model_multiplies_the_sums(words):
    language = NGram(["AB A", "B AB", "A", "AB"], 2, words=words)
    weight, bonus, probabilities = 0.7, 0.3, outputs(4, seed=3)
    expected = {}
    for text, probability in sums_over_alignments(probabilities).items():
        tokens = text.split(" ") if words else tuple(text)
        tokens = tuple(tokens[:-1] if words and not tokens[-1] else tokens)
        log = language.log_probability(tokens, END)
        log += sum(language.log_probability(tokens[:at], token) for at, token in enumerate(tokens))
        expected[text] = probability * math.exp(weight * log + bonus * len(tokens))
    found = dict(beam_search(probabilities, LABELS, width=10_000, language=language, weight=weight, bonus=bonus))
    for text, score in expected.items():
        if score > 1e-4:
            assert math.exp(found[text]) == pytest.approx(score, rel=2e-2), text  # labels below 1e-4 are left out
    assert max(found, key=found.get) == max(expected, key=expected.get)


def test_a_lexicon_lets_only_its_words_through():
    probabilities = outputs(6, seed=1)
    found = [text for text, score in beam_search(probabilities, LABELS, width=10_000, lexicon=["AB", "B"])]
    allowed = {text for text in sums_over_alignments(probabilities) if set(text.split(" ")) <= {"AB", "B"}}
    scores = dict(beam_search(probabilities, LABELS, width=10_000, lexicon=["AB", "B"]))
    assert {text for text in found if scores[text] > -math.inf and text} == allowed
    best = max(allowed | {""}, key=sums_over_alignments(probabilities).get)
    assert found[0] == best


def test_a_narrow_beam_keeps_the_best():
    probabilities = outputs(6, seed=2)
    probabilities[:, 2] += 3
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    narrow = beam_search(probabilities, LABELS, width=3)
    assert len(narrow) == 3 and narrow[0][0] == beam_search(probabilities, LABELS, width=10_000)[0][0]


def test_phones_are_spelt_with_spaces():
    labels = ("", "AH", "B")
    assert beam_search(np.eye(3)[[1, 0, 2]], labels)[0][0] == "AH B"


def test_what_does_not_fit_is_refused():
    with pytest.raises(SettingError, match=r"\(3, 4\) for 3 labels"):
        beam_search(outputs(3), LABELS[:3])
    with pytest.raises(SettingError, match="width is 0"):
        beam_search(outputs(3), LABELS, width=0)


# the language model


@pytest.mark.parametrize("history", [(), ("A",), ("A", "B"), ("Q", "A"), ("Q",)])
def test_probabilities_after_any_history_sum_to_one(history):
    language = NGram(["AB", "ABB", "BA"], 3)
    seen = ["A", "B", END]
    unknown = math.exp(language.log_probability(history, "anything"))
    assert sum(math.exp(language.log_probability(history, token)) for token in seen) + unknown == pytest.approx(1)


def test_witten_bell_by_hand():
    language = NGram(["A B", "A C", "A B"], 2, words=True)
    # nine tokens of four kinds: A 3, B 2, C 1, end 3; uniform over those and the unknown is 1/5
    after_nothing = {"A": (3 + 4 / 5) / 13, "B": (2 + 4 / 5) / 13}
    assert math.exp(language.log_probability((), "A")) == pytest.approx(after_nothing["A"])
    # after A: B twice, C once: three successors of two kinds
    expected = (2 + 2 * after_nothing["B"]) / 5
    assert math.exp(language.log_probability(("A",), "B")) == pytest.approx(expected)
    assert language.log_probability(("C", "A"), "B") == language.log_probability(("A",), "B")  # order 2 forgets C


def test_a_model_of_nothing_is_refused():
    with pytest.raises(SettingError, match="there are 0 texts"):
        NGram([], 2)
    with pytest.raises(SettingError, match="order is 0"):
        NGram(["A"], 0)
