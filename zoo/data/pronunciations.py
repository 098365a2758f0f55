"""Pronouncing dictionaries: from words to phones."""

import re
from pathlib import Path

from zoo.data.transcript_layouts import read_text
from zoo.errors import DataError

_VARIANT = re.compile(r"\(\d+\)$")  # of CMU's format: A(2) is another pronunciation of A


class Pronunciations:
    """The first pronunciation of each word of a dictionary in CMU's format: a word and its phones on each line.

    Lines that begin with `;;;` are remarks, and stress marks (the digits of `AH0`) are left out.

    Args:
        path: of the dictionary.

    Attributes:
        phones: all phones, sorted.

    Raises:
        DataError: it is missing, not UTF-8, has a word without phones, or no words.
    """

    def __init__(self, path):
        path = Path(path).expanduser()
        self.path, self._words = path, {}
        for number, line in enumerate(read_text(path).splitlines(), 1):
            if not line.strip() or line.startswith(";;;"):
                continue
            word, *phones = line.split()
            phones = [phone.rstrip("012") for phone in phones]
            if not phones or not all(phones):
                raise DataError(f"{path}: line {number} is {line[:80]!r}, expected a word and its phones: correct it.")
            self._words.setdefault(_VARIANT.sub("", word).upper(), phones)
        if not self._words:
            raise DataError(f"{path}: no words, expected a word and its phones on each line: check the path.")
        self.phones = tuple(sorted({phone for phones in self._words.values() for phone in phones}))

    def __call__(self, text, where):
        """Return the phones of a text, with spaces between them.

        Raises:
            DataError: a word is not in the dictionary; the message begins with `where`.
        """
        unknown = [word for word in text.upper().split() if word not in self._words]
        if unknown:
            raise DataError(
                f"{where}: the dictionary {self.path} has no {unknown[0]!r}, expected every word of the texts: add it."
            )
        return " ".join(phone for word in text.upper().split() for phone in self._words[word])
