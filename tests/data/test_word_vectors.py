"""Vectors of words from files and from texts."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB

from zoo.data.word_vectors import learn_vectors, log_odds, read_vectors
from zoo.errors import DataError

TOKENS = ["[PAD]", "[UNK]", "good", "bad", "rare"]


@pytest.mark.parametrize("head", ["", "3 2\n"], ids=["GloVe", "fastText"])
def test_the_words_of_a_file_are_found(head, tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text(head + "bad -1 0.5\nother 9 9 \ngood 1 2e-1\n")
    vectors, found = read_vectors(path, TOKENS)
    np.testing.assert_allclose(vectors, [[0, 0], [0, 0], [1, 0.2], [-1, 0.5], [0, 0]])
    assert found.tolist() == [False, False, True, True, False]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"good 1 2\nbad 1\n", "row 2: a word and 1 numbers, expected 2"),
        (b"good\n", "row 1: a word and 0 numbers, expected some"),
        (b"good 1 two\n", "row 1: has what is no finite number"),
        (b"good 1 nan\n", "row 1: has what is no finite number"),
        (b"gut 1 2\n", "has none of the 5 words"),
        (b"caf\xe9 1 2\n", "cannot be read"),
        (b"\x80\x04 pickle", "cannot be read"),
    ],
)
def test_a_file_that_is_no_list_of_vectors_is_explained(data, sentence, tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_bytes(data)
    with pytest.raises(DataError, match=sentence) as error:
        read_vectors(path, TOKENS)
    assert str(path) in str(error.value)
    with pytest.raises(DataError, match="cannot be read"):
        read_vectors(tmp_path / "nowhere.txt", TOKENS)


def test_learnt_vectors_factor_the_matrix_of_surprise():
    random = np.random.default_rng(0)
    texts = [random.integers(2, 9, size=12).tolist() for _ in range(40)] + [[3]]
    counts = np.zeros((9, 9))
    for text in texts:
        for place, token in enumerate(text):
            for other in range(max(0, place - 5), min(len(text), place + 6)):
                if other != place:
                    counts[token, text[other]] += 1 / abs(place - other)
    often = counts.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        surprise = np.log(counts / np.outer(often, often**0.75 / (often**0.75).sum()))
    surprise = np.where(counts > 0, np.maximum(surprise, 0), 0)
    left, strengths, _ = np.linalg.svd(surprise)
    expected = left[:, :4] * np.sqrt(strengths[:4])
    vectors = learn_vectors(texts, 9, 4)
    # Of vectors the products count, up to the scale: signs and order of the directions are free. float32.
    products, wanted = vectors @ vectors.T, expected @ expected.T
    np.testing.assert_allclose(products / np.trace(products), wanted / np.trace(wanted), atol=1e-6)
    assert vectors.std() == pytest.approx(1)


def test_vectors_wider_than_the_vocabulary_are_refused():
    with pytest.raises(DataError, match="cannot be learnt of 5 words"):
        learn_vectors([[2, 3, 4]], 5, 5)


def test_log_odds_are_those_of_naive_bayes():
    texts, labels = ["good good fun", "good film", "bad film", "bad bad dull", "dull"], np.array([1, 1, 0, 0, 0])
    counter = CountVectorizer(binary=True)
    bayes = MultinomialNB().fit(counter.fit_transform(texts), labels)
    ids = [[2 + counter.vocabulary_[word] for word in text.split()] for text in texts]
    # scikit-learn knows of no padding and unknown word, whose two ones are in the sums here
    seen = [
        sum(np.unique(text).size for text, label in zip(ids, labels, strict=True) if label == c) + 5 for c in (0, 1)
    ]
    shift = np.log(seen[1] / (seen[1] + 2)) - np.log(seen[0] / (seen[0] + 2))
    odds = log_odds(ids, labels, 7, 2)
    expected = bayes.feature_log_prob_[1] - bayes.feature_log_prob_[0] + shift
    np.testing.assert_allclose(odds[2:, 1], expected, atol=1e-6)
    np.testing.assert_allclose(odds[:, 0], -odds[:, 1], atol=1e-6)
    assert (odds[:2] == 0).all()
