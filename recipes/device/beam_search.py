"""The likeliest sentences of a decoder that gives one word a step, for several pictures at once. NumPy alone."""

from dataclasses import dataclass

import numpy as np

PADDING, START, END, UNKNOWN = range(4)  # the first of every vocabulary of captions
SPECIAL = ("", "[start]", "[end]", "[unknown]")
_NEVER = -1e30  # logarithm of a probability
_SMALLEST = 1e-20  # probability whose logarithm is taken


@dataclass(frozen=True)
class Sentence:
    """A sentence that was found."""

    words: tuple[int, ...]  # without start and end
    score: float  # logarithm of its probability, by length
    attention: np.ndarray  # (words, places)


def beam_search(step, states, *, beam, length, penalty):
    """Return for each picture up to `beam` sentences, the best first.

    At each step the `beam` likeliest beginnings go on; one that ends is kept with the score

        log p(words) / (number of words and the end) ** penalty

    Unknown words are never said.

    Args:
        step: function of words int32 (rows,), the pictures that they are of, int (rows,), and states {name: (rows,
            size)}, that returns probabilities (rows, vocabulary), attention (rows, places) and the next states.
        states: {name: (pictures, size)} before the first word.
        beam: int, beginnings of each picture; 1 for greedy decoding.
        length: int, the most words of a sentence.
        penalty: float, 0 for the likeliest sentence, which is short, 1 for the likeliest words on the mean.
    """
    pictures = len(next(iter(states.values())))
    live = [[((START,), 0.0, ())] for _ in range(pictures)]  # (words, logarithm, attention of each step)
    done = [[] for _ in range(pictures)]
    for _ in range(length + 1):
        of = np.array([picture for picture, ones in enumerate(live) for _ in ones], int)
        if not len(of):
            break
        said = [one for ones in live for one in ones]
        words = np.array([one[0][-1] for one in said], np.int32)
        probabilities, attention, states = step(words, of, states)
        scores = np.log(np.maximum(probabilities, _SMALLEST)).astype(np.float64)
        scores[:, [PADDING, START, UNKNOWN]] = _NEVER
        if len(said[0][0]) > length:  # time to end
            scores[:, [place for place in range(scores.shape[1]) if place != END]] = _NEVER
        live, chosen = [[] for _ in range(pictures)], []
        for picture in dict.fromkeys(of.tolist()):
            rows = np.flatnonzero(of == picture)
            totals = scores[rows] + np.array([said[row][1] for row in rows])[:, None]
            for place in _largest(totals.ravel(), 2 * beam):
                row, word = rows[place // totals.shape[1]], place % totals.shape[1]
                total = totals[place // totals.shape[1], word]
                if total <= _NEVER or len(live[picture]) == beam:
                    break
                before, _, seen = said[row]
                if word == END:
                    if len(before) > 1:  # nothing said is no sentence
                        done[picture].append(_sentence(before, total, seen, penalty))
                else:
                    live[picture].append(((*before, word), total, (*seen, attention[row])))
                    chosen.append(row)
            best = sorted((one.score for one in done[picture]), reverse=True)[:beam]
            hope = max((total for _, total, _ in live[picture]), default=_NEVER) / (length + 1) ** penalty
            if len(best) == beam and best[-1] >= hope:  # none that goes on can come before them
                chosen = chosen[: len(chosen) - len(live[picture])]
                live[picture] = []
        states = {name: value[chosen] for name, value in states.items()}
    return [sorted(found, key=lambda one: -one.score)[:beam] for found in done]


def _largest(values, count):
    """Return the places of the largest values, in order."""
    count = min(count, len(values))
    places = np.sort(np.argpartition(-values, count - 1)[:count])
    return places[np.argsort(-values[places], kind="stable")].tolist()


def _sentence(words, total, attention, penalty):
    return Sentence(words[1:], float(total / len(words) ** penalty), np.array(attention))
