"""Beam search finds what trying all sentences finds, for several pictures at once."""

import itertools

import numpy as np
import pytest

from zoo.recipes.device.beam_search import END, START, UNKNOWN, beam_search

WORDS = 6  # four of them: padding, start, end, unknown
LENGTH = 3


def model(seed):
    """Return (step, states, chances): a decoder whose state is all that was said, and its chances for a history."""
    weights = np.random.default_rng(seed).normal(0, 1.5, (2, WORDS, WORDS))

    def chances(picture, history):
        logits = weights[picture, history[-1]] + 0.5 * np.bincount(history, minlength=WORDS) * (1 + picture)
        return np.exp(logits) / np.exp(logits).sum()

    def step(words, of, states):
        said = [
            [int(word) for word in row if word >= 0] + [word] for row, word in zip(states["said"], words, strict=True)
        ]
        after = np.array([[*history, *[-1] * WORDS][:WORDS] for history in said])
        values = np.array([chances(picture, history) for picture, history in zip(of, said, strict=True)])
        return values, after + 10.0 * of[:, None], {"said": after}

    return step, {"said": -np.ones((2, WORDS), int)}, chances


def all_sentences(chances, picture, penalty):
    """Return {words: score} of every sentence."""
    found = {}
    for length in range(1, LENGTH + 1):
        for words in itertools.product(range(UNKNOWN + 1, WORDS), repeat=length):
            history, total = [START], 0.0
            for word in (*words, END):
                total += np.log(chances(picture, history)[word])
                history.append(word)
            found[words] = total / (length + 1) ** penalty
    return found


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_the_best_of_all_sentences(penalty, seed):
    step, states, chances = model(seed)
    found = beam_search(step, states, beam=20, length=LENGTH, penalty=penalty)
    for picture, sentences in enumerate(found):
        expected = sorted(all_sentences(chances, picture, penalty).items(), key=lambda one: -one[1])
        assert [one.words for one in sentences] == [words for words, _ in expected[: len(sentences)]]
        assert len(sentences) == 14  # 2 + 4 + 8: all that there are
        np.testing.assert_allclose([one.score for one in sentences], [score for _, score in expected])


def test_a_beam_of_one_takes_the_likeliest_word_each_time():
    step, states, chances = model(7)
    for picture, (sentence, *_) in enumerate(beam_search(step, states, beam=1, length=LENGTH, penalty=0.7)):
        history = [START]
        while len(history) <= LENGTH:
            said = chances(picture, history)
            said[[0, 1, UNKNOWN]] = 0
            if len(history) == 1:
                said[END] = 0
            if said.argmax() == END:
                break
            history.append(int(said.argmax()))
        assert sentence.words == tuple(history[1:])


def test_attention_is_that_of_the_steps_that_said_the_words():
    step, states, _ = model(1)
    for picture, sentences in enumerate(beam_search(step, states, beam=3, length=LENGTH, penalty=0.7)):
        for one in sentences:
            assert one.attention.shape == (len(one.words), WORDS)
            for place, seen in enumerate(one.attention):
                history = [START, *one.words][: place + 1]
                np.testing.assert_array_equal(seen, np.array([*history, *[-1] * WORDS][:WORDS]) + 10 * picture)


def test_sentences_are_no_longer_than_they_may_be_and_never_unknown():
    def step(words, of, states):
        chances = np.full((len(words), WORDS), 1e-6)
        chances[:, UNKNOWN], chances[:, 4] = 0.6, 0.4
        return chances, np.zeros((len(words), 1)), states

    (sentence, *_) = beam_search(step, {"s": np.zeros((1, 1))}, beam=2, length=5, penalty=1.0)[0]
    assert sentence.words == (4,) * 5
