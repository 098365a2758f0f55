"""How likely texts are, counted from examples: n-grams of characters or of words."""

import math
from collections import Counter, defaultdict

from zoo.errors import SettingError

END = None  # what follows the last token of a text


class NGram:
    """An interpolated n-gram model with Witten and Bell's smoothing.

    A history that was seen with many different successors gives more of its probability to the shorter history; one
    that was never seen gives all. The shortest is uniform over the tokens, the end, and one for all that is unknown.

        P(w | h) = (count(h w) + kinds(h) P(w | h without its first)) / (count(h) + kinds(h))

    Args:
        texts: of which the tokens are counted.
        order: tokens counted together: 3 looks at two to foresee the third.
        words: whether the tokens are words, else characters.

    Raises:
        SettingError: no texts, or an order below 1.

    Example:
        >>> language = NGram(["GO HOME", "GO ON"], order=2, words=True)
        >>> round(math.exp(language.log_probability(("GO",), "HOME")), 3)
        0.34

    Reference:
        Witten and Bell, "The zero-frequency problem", 1991, https://doi.org/10.1109/18.87000
    """

    def __init__(self, texts, order, *, words=False):
        if not texts or order < 1:
            raise SettingError(f"order is {order!r} and there are {len(texts)} texts, expected 1 or more of each.")
        self.order, self.words = order, words
        self._counts = defaultdict(Counter)  # history -> successors
        for text in texts:
            tokens = (*self.tokens(text), END)
            for at, token in enumerate(tokens):
                for length in range(min(at, order - 1) + 1):
                    self._counts[tokens[at - length : at]][token] += 1
        self._totals = {history: sum(successors.values()) for history, successors in self._counts.items()}
        self._uniform = 1 / (len(self._counts[()]) + 1)

    def tokens(self, text):
        """Return the tokens of a text."""
        return tuple(text.split()) if self.words else tuple(text)

    def log_probability(self, history, token):
        """Return the natural logarithm of how likely `token` (or `END`) is after a tuple of tokens."""
        history = history[max(0, len(history) - self.order + 1) :]
        probability = self._uniform
        for length in range(len(history) + 1):
            context = history[len(history) - length :]
            if context in self._totals:
                successors, kinds = self._counts[context], len(self._counts[context])
                probability = (successors[token] + kinds * probability) / (self._totals[context] + kinds)
        return math.log(probability)
