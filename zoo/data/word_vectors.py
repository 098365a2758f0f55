"""What a network may know of words before it is trained: vectors from a file or from the training texts themselves."""

from pathlib import Path

import numpy as np

from zoo.errors import DataError

_WINDOW = 5  # words to either side that a word is seen with
_SMOOTHING = 0.75  # power of a word's frequency as a neighbour, by which rare ones count less (Levy et al.)
_RARE = 1.0  # added to each count of a word in a class


def read_vectors(path, tokens):
    """Read the vectors of some words from a file of GloVe or fastText: a word and its numbers in each line.

    The file is read line by line, as such files are large; fastText's first line, two whole numbers, is passed over.

    Args:
        path: str or Path.
        tokens: list of str.

    Returns:
        (vectors, found): float32 (tokens, width), zeros for words that the file lacks, and bool (tokens,).

    Raises:
        DataError: the file cannot be read, a line is not a word and as many numbers as the first has, or the file has
            none of the words.
    """
    path, places = Path(path).expanduser(), {token: index for index, token in enumerate(tokens)}
    vectors, found, width = None, np.zeros(len(tokens), bool), 0
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, 1):
                fields = line.rstrip("\n").rstrip(" ").split(" ")
                if number == 1 and len(fields) == 2:
                    continue
                if vectors is None:
                    width = len(fields) - 1
                    vectors = np.zeros((len(tokens), width), np.float32)
                if len(fields) != width + 1 or not width:
                    raise DataError(
                        f"{path}, row {number}: a word and {len(fields) - 1} numbers, expected {width or 'some'}: give"
                        " a text file of GloVe or fastText."
                    )
                place = places.get(fields[0])
                if place is not None:
                    vectors[place] = _numbers(fields[1:], path, number)
                    found[place] = True
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}), expected a text file of vectors in UTF-8.") from error
    if not found.any():
        raise DataError(
            f"{path}: has none of the {len(tokens)} words of the texts, expected vectors of their language."
        )
    return vectors, found


def learn_vectors(ids, size, width):
    """Return float32 (size, width): vectors of tokens by the company that they keep in some texts.

    Of two tokens it counts how often they stand near each other, near ones more, against how often they would by
    chance, and keeps the strongest directions of that matrix:

        M[a, b] = max(0, log p(a, b) / (p(a) q(b))), q ~ p^0.75;   M ~ U S V;   vectors = U sqrt(S), of deviation 1

    Args:
        ids: list of lists of int, the texts; id 0 is padding.
        size: int, tokens in the vocabulary.
        width: int.

    Raises:
        DataError: the vocabulary has no more than `width` tokens.

    Reference:
        O. Levy, Y. Goldberg, I. Dagan, "Improving distributional similarity with lessons learned from word embeddings",
        TACL 2015, https://aclanthology.org/Q15-1016
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import svds

    if size <= width:
        raise DataError(f"vectors of {width} numbers cannot be learnt of {size} words: choose a smaller width.")
    first, second, weight = [], [], []
    for text in map(np.asarray, ids):
        for distance in range(1, min(_WINDOW, len(text) - 1) + 1):
            first += [text[distance:], text[:-distance]]
            second += [text[:-distance], text[distance:]]
            weight += [np.full(2 * (len(text) - distance), 1 / distance)]
    pairs = (np.concatenate(first), np.concatenate(second)) if first else (np.zeros(0, int), np.zeros(0, int))
    counts = coo_matrix((np.concatenate([*weight, np.zeros(0)]), pairs), shape=(size, size)).tocsr().tocoo()
    often = np.asarray(counts.sum(axis=1)).ravel()
    neighbours = often**_SMOOTHING
    expected = often[counts.row] * (neighbours / neighbours.sum())[counts.col]
    counts.data = np.maximum(0.0, np.log(counts.data / expected))
    left, strengths, _ = svds(counts.tocsr(), k=width, v0=np.ones(size))  # v0: the same vectors each time
    vectors = left * np.sqrt(strengths)
    return (vectors / vectors.std()).astype(np.float32)


def log_odds(ids, labels, size, classes):
    """Return float32 (size, classes): how much each token speaks for each class, as naive Bayes counts it.

        r[w, c] = log p(w | c) - log p(w | not c),   p from the texts that have w at all, one added to each count

    Args:
        ids: list of lists of int, the texts.
        labels: int (texts,).
        size: int, tokens in the vocabulary.
        classes: int.

    Reference:
        S. Wang, C. Manning, "Baselines and bigrams", ACL 2012, https://aclanthology.org/P12-2018
    """
    having = np.zeros((classes, size))
    for text, label in zip(ids, labels, strict=True):
        having[label, np.unique(text)] += 1
    others = having.sum(axis=0) - having + _RARE
    having += _RARE
    odds = np.log(having / having.sum(axis=1, keepdims=True)) - np.log(others / others.sum(axis=1, keepdims=True))
    odds[:, :2] = 0  # padding and the unknown word
    return odds.T.astype(np.float32)


def _numbers(fields, path, number):
    try:
        values = np.array(fields, np.float32)
    except ValueError:
        values = np.array([np.nan])
    if not np.isfinite(values).all():
        raise DataError(f"{path}, row {number}: has what is no finite number, expected a word and its numbers.")
    return values
