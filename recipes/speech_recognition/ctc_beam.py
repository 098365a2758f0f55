"""The likeliest texts of a CTC network's output, found by a search that sums over alignments."""

import math

import numpy as np

from zoo.errors import SettingError
from zoo.recipes.speech_recognition.ngram import END

_NEVER = -math.inf
_UNLIKELY = 1e-4  # a label less probable than this in a frame extends no text there


def beam_search(probabilities, labels, *, width=16, language=None, weight=0.5, bonus=0.0, lexicon=()):
    """Return the likeliest texts of one utterance, best first, as [(text, score)].

    Greedy decoding takes the likeliest alignment; a text has many, and their sum decides. Texts that begin alike are
    kept once, with the probability of ending in a blank and in their last label apart, since only after a blank can the
    same label come again.

        score(text) = log sum_alignments prod_t p[t, label] + weight log P(text) + bonus tokens(text)

    Args:
        probabilities: (frames, labels), each frame's sum is 1.
        labels: the blank, then characters; or phones.
        width: texts kept after each frame.
        language: an `NGram` of characters or words, or None.
        weight: of the language model's logarithms.
        bonus: for each token of the language model, which alone prefers short texts.
        lexicon: the only words allowed, or empty for any.

    Raises:
        SettingError: a width below 1, or labels that do not fit the probabilities.

    Reference:
        Graves and Jaitly, "Towards end-to-end speech recognition with recurrent neural networks", 2014; Hannun et al.,
        "First-pass large vocabulary continuous speech recognition using bi-directional recurrent DNNs", 2014,
        https://arxiv.org/abs/1408.2873
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if width < 1 or probabilities.ndim != 2 or probabilities.shape[1] != len(labels):
        raise SettingError(
            f"width is {width!r}, the probabilities are {probabilities.shape} for {len(labels)} labels; expected a"
            " width of 1 or more and (frames, labels)."
        )
    prior = _Prior(labels, language, weight, bonus, lexicon)
    beam = {(): (0.0, _NEVER)}  # text -> log probability of all alignments that end in a blank, in the last label
    with np.errstate(divide="ignore"):
        logs = np.log(probabilities)
    for frame, log in zip(probabilities, logs.tolist(), strict=True):
        likely = [int(label) for label in np.flatnonzero(frame > _UNLIKELY) if label]
        after = {}
        for text, (blank, label) in beam.items():
            _add(after, text, 0, _sum(blank, label) + log[0])
            if text:
                _add(after, text, 1, label + log[text[-1]])
            for one in likely:
                before = blank if text and one == text[-1] else _sum(blank, label)
                if before > _NEVER and prior.of(longer := (*text, one)) > _NEVER:
                    _add(after, longer, 1, before + log[one])
        ranked = sorted(after, key=lambda text: -(_sum(*after[text]) + prior.of(text)))
        beam = {text: tuple(after[text]) for text in ranked[:width]}
    scores = {text: _sum(*ends) + prior.of(text) + prior.end(text) for text, ends in beam.items()}
    return [(prior.spell(text), scores[text]) for text in sorted(scores, key=lambda text: -scores[text])]


class _Prior:
    """What is known of texts without having heard them: the language model, and the words that there are."""

    def __init__(self, labels, language, weight, bonus, lexicon):
        self.labels, self.language, self.weight, self.bonus = labels, language, weight, bonus
        self.lexicon = set(lexicon)
        self.beginnings = {word[:length] for word in self.lexicon for length in range(len(word) + 1)}
        self.between = " " if max(map(len, labels)) > 1 else ""
        self._known = {(): 0.0}

    def spell(self, text):
        return self.between.join(self.labels[one] for one in text)

    def of(self, text):
        """Return what the tokens of a text that are complete add to its score, -inf where a word cannot be."""
        if text not in self._known:
            self._known[text] = self.of(text[:-1]) + self._last(text)
        return self._known[text]

    def _last(self, text):
        label = self.labels[text[-1]]
        *before, word = self.spell(text[:-1]).split(" ")
        if self.lexicon and (word not in self.lexicon if label == " " else word + label not in self.beginnings):
            return _NEVER
        if self.language is None:
            return 0.0
        if not self.language.words:
            return self._score(self._history(text[:-1]), label)
        return self._score(tuple(before), word) if label == " " else 0.0

    def end(self, text):
        """Return what the end adds: the last word, and that nothing follows."""
        *before, word = self.spell(text).split(" ")
        if self.lexicon and word not in self.lexicon and text:
            return _NEVER
        if self.language is None:
            return 0.0
        if not self.language.words:
            return self.weight * self.language.log_probability(self._history(text), END)
        last = self._score(tuple(before), word) if word else 0.0
        history = (*before, word) if word else tuple(before)
        return last + self.weight * self.language.log_probability(history, END)

    def _history(self, text):
        return tuple(self.labels[one] for one in text)

    def _score(self, history, token):
        return self.weight * self.language.log_probability(history, token) + self.bonus


def _sum(one, other):
    """Return log(exp(one) + exp(other))."""
    low, high = sorted((one, other))
    return high if low == _NEVER else high + math.log1p(math.exp(low - high))


def _add(after, text, end, log):
    ends = after.setdefault(text, [_NEVER, _NEVER])
    ends[end] = _sum(ends[end], log)
