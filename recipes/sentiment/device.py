"""What a device does around a sentiment model: a text to token ids, its output to labels. NumPy and plain Python alone.

The vocabulary itself says how capitals become small letters: no table of Unicode, which differs from one Python to the
next, has a say, and the same text gives the same ids everywhere.
"""

import json
import re
from pathlib import Path

import numpy as np

if __package__:
    from zoo.errors import DataError
    from zoo.recipes.device.labels import answer, show
else:  # in a bundle
    from contents import DataError
    from labels import answer, show  # noqa: F401

VOCABULARY = "vocabulary.json"
PADDING, UNKNOWN = "[PAD]", "[UNK]"  # ids 0 and 1; a bracket is a token of its own, so no text has such a word
CONTINUES = "##"  # in front of a piece that does not begin its word
LONGEST_WORD = 100  # characters; a longer one is unknown: to try all pieces of it takes the square of its length
LONGEST_TEXT = 1 << 20  # bytes
LONGEST = 10_000  # tokens

_SPACES = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_MARKS = (
    r"!-/:-@\[-`{-~"  # of ASCII
    "\xa1-\xbf\xd7\xf7\u2010-\u2027\u2030-\u205e\u3001-\u303f\uff01-\uff0f\uff1a-\uff20"  # and beyond
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # kana and Chinese characters, written without spaces
)
_LETTER = f"[^{_SPACES}{_MARKS}]"
# "wasn't" is "was" and "n't", "it's" is "it" and "'s", as in the treebank whose cut the public sets have.
PATTERN = f"n't(?!{_LETTER})|'(?:s|m|d|re|ve|ll)(?!{_LETTER})|{_LETTER}+?(?=n't(?!{_LETTER}))|{_LETTER}+|[{_MARKS}]"
_TOKEN = re.compile(PATTERN)


class Vocabulary:
    """What turns a text into ids.

    A word that is not among the tokens is cut into the longest pieces that are, from its start on, or is unknown as a
    whole where that fails; a vocabulary of whole words has no pieces.

    Args:
        data: bytes of `vocabulary.json`: {"tokens": [...], "small": {a character: what it becomes}}.

    Raises:
        DataError: the file is damaged.
    """

    def __init__(self, data):
        try:
            stored = json.loads(data.decode())
            self.tokens, small = stored["tokens"], stored["small"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DataError(f"{VOCABULARY} is not a vocabulary; export the bundle again") from None
        if (
            not isinstance(self.tokens, list)
            or not isinstance(small, dict)
            or not all(isinstance(each, str) for each in [*self.tokens, *small.values()])
            or self.tokens[:2] != [PADDING, UNKNOWN]
            or len(set(self.tokens)) < len(self.tokens)
            or any(len(character) != 1 for character in small)
        ):
            raise DataError(f"{VOCABULARY} has tokens or small letters wrong; export the bundle again")
        self._ids = {token: index for index, token in enumerate(self.tokens)}
        self._small = str.maketrans(small)
        self._has_pieces = any(token.startswith(CONTINUES) for token in self.tokens)

    def encode(self, text):
        """Return the ids of a text's tokens, a list of int."""
        ids = []
        for word in _TOKEN.findall(text.translate(self._small)):
            whole = self._ids.get(word)
            if len(word) > LONGEST_WORD:
                ids.append(1)
            elif whole is not None or not self._has_pieces:
                ids.append(1 if whole is None else whole)
            else:
                ids += self._pieces(word)
        return ids

    def _pieces(self, word):
        ids, start = [], 0
        while start < len(word):
            for stop in range(len(word), start, -1):
                piece = self._ids.get(word[start:stop] if start == 0 else CONTINUES + word[start:stop])
                if piece is not None:
                    break
            else:
                return [1]
            ids.append(piece)
            start = stop
        return ids


def fit(ids, length, keep):
    """Return int32 (length,): ids padded with 0 at the end, or of more than fit the "start" or the "end"."""
    if len(ids) > length:
        ids = ids[:length] if keep == "start" else ids[-length:]
    return np.array(list(ids) + [0] * (length - len(ids)), np.int32)


def read(path, card):
    """Return the model's input from a file that holds one text: {"tokens": (1, length)}.

    Args:
        path: a file in UTF-8.
        card: the bundle's card with its `assets`, and with `settings` of the recipe: length (tokens) and keep.

    Raises:
        DataError: the file is missing, empty, not UTF-8 or over a MiB; the vocabulary or the card's settings are not
            those of a sentiment model.
    """
    length, keep = card["settings"].get("length"), card["settings"].get("keep")
    if type(length) is not int or not 0 < length <= LONGEST or keep not in ("start", "end"):
        raise DataError("the card's length or keep is not that of a sentiment model; export the bundle again")
    if VOCABULARY not in card.get("assets", {}):
        raise DataError(f"the bundle has no {VOCABULARY}; export it again")
    ids = Vocabulary(card["assets"][VOCABULARY]).encode(_read_text(Path(path)))
    if not ids:
        raise DataError(f"{path} holds no word; expected a text")
    return {"tokens": fit(ids, length, keep)[None]}


def _read_text(path):
    if not path.is_file():  # a pipe would be waited for
        raise DataError(f"there is no file {path}; expected a text file")
    if path.stat().st_size > LONGEST_TEXT:
        raise DataError(f"{path} has {path.stat().st_size} bytes; expected a text of at most {LONGEST_TEXT}")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
