"""Pictures or clips with captions, ready to train on: the demo sets, public sets by path, and a user's own."""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.data import caption_layouts as layouts
from zoo.data.keyword_layouts import SPLITS
from zoo.data.pictures import check_picture, read_picture
from zoo.errors import DataError, SettingError

_HELD_OUT = 0.1  # of the pictures, for each split that the set does not give
_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")


@dataclass(frozen=True)
class Captions:
    """Pictures with their captions and splits."""

    pictures: tuple  # a path each, or uint8 (height, width, 3)
    captions: tuple[tuple[tuple[str, ...], ...], ...]  # the words of each caption of each picture
    split: np.ndarray  # str (pictures,): 'train', 'validation' or 'test'
    skipped: tuple[tuple[str, str], ...]  # (file or row, reason)

    def select(self, split):
        """Return (pictures, captions) of one split, two lists.

        Raises:
            SettingError: there is no split of that name.
        """
        if split not in SPLITS:
            raise SettingError(f"split is {split!r}, expected one of {', '.join(SPLITS)}.")
        rows = np.flatnonzero(self.split == split)
        return [self.pictures[row] for row in rows], [self.captions[row] for row in rows]


def words_of(caption):
    """Return the words of a caption in small letters, without marks: a tuple of str."""
    return tuple(_WORD.findall(unicodedata.normalize("NFC", caption).lower()))


def load_captions(data, *, demo, check=check_picture, decode=None, skip_bad=False):
    """Load pictures with their captions.

    What lies in a folder is recognised by its layout: `captions.csv` (or .tsv, .jsonl) with the columns image and
    caption, and split if it is known; Flickr8k's token file with its lists; COCO's captions. A split that the layout
    does not give is a tenth of the training pictures, by a hash of their names. Of a picture only the head is read
    here, unless `skip_bad` asks for the whole.

    Args:
        data: 'demo' (synthetic, drawn on the fly), or the path of a folder.
        demo: function that returns [(picture, captions, split)] of the demo set.
        check: function of a path that raises DataError where the head of the file shows that it cannot be used.
        decode: function of a path that raises DataError where the file cannot be read (default: as a picture).
        skip_bad: bool, leave out pictures and captions that cannot be used and list them in `skipped` (default: the
            first is an error).

    Returns:
        Captions.

    Raises:
        DataError: `data`, a file or a row cannot be used; the message names it and says what to do.
    """
    if data == "demo":
        drawn = demo()
        captions = tuple(tuple(words_of(caption) for caption in one) for _, one, _ in drawn)
        return Captions(tuple(p for p, _, _ in drawn), captions, np.array([split for _, _, split in drawn]), ())
    folder = Path(data).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"{data!s}: {'is a file' if folder.exists() else 'no such folder'}, expected a folder with captions, or"
            " demo: check the path."
        )
    skipped, found, splits = [], {}, {}

    def use(where, function, *arguments):
        """Return what a function returns, or None where a file or row is skipped."""
        try:
            return function(*arguments)
        except DataError as error:
            if not skip_bad:
                raise DataError(f"{where}: {error}, or set skip_bad=True to leave such out.") from error
            skipped.append((where, str(error)))
            return None

    for row in layouts.find_layout(folder)(folder):
        words = use(row.where, _words, row.caption)
        if words is not None:
            found.setdefault(row.path, []).append(words)
            if splits.setdefault(row.path, row.split) != row.split:
                raise DataError(f"{row.where} puts {row.path.name} into a second split, expected one: correct it.")
    test = (decode or _decode) if skip_bad else check
    usable = [path for path in found if use(str(path), lambda path: test(path) or True, path)]
    split = _splits(usable, splits)
    for name in SPLITS:
        if not (split == name).any():
            raise DataError(
                f"{data!s}: no usable picture is left for the {name} split ({len(skipped)} rows or files were skipped),"
                " expected at least one: add pictures."
            )
    return Captions(tuple(usable), tuple(tuple(found[path]) for path in usable), split, tuple(skipped))


def _words(caption):
    words = words_of(caption)
    if not words:
        raise DataError("the caption holds no word, expected a sentence: write it or remove the row")
    return words


def _decode(path):
    read_picture(path, 8)


def _splits(paths, given):
    lacking = [split for split in ("test", "validation") if split not in {given[path] for path in paths}]
    decided = []
    for path in paths:
        share = int.from_bytes(hashlib.sha256(path.name.encode()).digest()[:8]) / 2**64
        place = int(share / _HELD_OUT)
        free = given[path] in ("", "train")
        decided.append(lacking[place] if free and place < len(lacking) else given[path] or "train")
    return np.array(decided, dtype="<U10")
