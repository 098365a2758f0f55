"""How folders of spoken words are laid out: each function here lists the clips of one layout."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.errors import DataError

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE, NOISE = "_unknown_", "_silence_", "_background_noise_"
SPLITS = ("train", "validation", "test")
_FSDD_NAME = re.compile(r"(\d)_(.+)_(\d+)\.wav", re.IGNORECASE)
_SPEAKER_NAME = re.compile(r"(.+)_nohash_\d+\.\w+", re.IGNORECASE)


@dataclass(frozen=True)
class Clip:
    """One file and what is known of it before it is read."""

    path: Path
    label: str
    speaker: str  # "" where the layout names none
    split: str


def is_fsdd(folder):
    """True where the files are named `{digit}_{speaker}_{index}.wav`, in the folder or in its `recordings`."""
    return any(_FSDD_NAME.fullmatch(path.name) for path in sound_files(_recordings(folder)))


def is_speech_commands(folder):
    """True where the official lists of Speech Commands lie in the folder."""
    return all((folder / name).is_file() for name in ("validation_list.txt", "testing_list.txt"))


def fsdd(folder):
    """List Free Spoken Digits; index 0 to 4 is the official test, 5 to 9 is taken for validation.

    Returns:
        (clips, names): the clips, and (file, reason) of sound files whose name does not fit the layout.
    """
    clips, misnamed = [], []
    for path in sound_files(_recordings(folder)):
        name = _FSDD_NAME.fullmatch(path.name)
        if name is None:
            misnamed.append((path, f"{path}: the name does not fit {{digit}}_{{speaker}}_{{index}}.wav: rename it."))
            continue
        digit, speaker, index = name.groups()
        split = "test" if int(index) < 5 else "validation" if int(index) < 10 else "train"
        clips.append(Clip(path, DIGITS[int(digit)], speaker, split))
    return clips, misnamed


def speech_commands(folder, seed):
    """List the 12-label setting of Speech Commands, all but the silence, by the official lists.

    `_unknown_` is drawn from the words that are no keyword, for each split as many as an average keyword has there.
    """
    listed = {
        name: split
        for split, file in (("validation", "validation_list.txt"), ("test", "testing_list.txt"))
        for name in (folder / file).read_text(encoding="utf-8").split()
    }
    words = {}
    for path in _label_folders(folder):
        words[path.name] = [
            Clip(
                file,
                path.name if path.name in COMMANDS else UNKNOWN,
                _speaker(file.name),
                listed.get(f"{path.name}/{file.name}", "train"),
            )
            for file in sound_files(path)
        ]
    missing = [word for word in COMMANDS if not words.get(word)]
    if missing:
        raise DataError(
            f"{folder}: no recordings of {', '.join(missing)}, expected a folder for each of the ten keywords:"
            " fetch the data set again, or remove its two lists if these are recordings of your own."
        )
    keywords = [clip for word in COMMANDS for clip in words[word]]
    others = [clip for word, clips in sorted(words.items()) if word not in COMMANDS for clip in clips]
    random = np.random.default_rng(seed)
    for split in SPLITS:
        wanted = round(sum(clip.split == split for clip in keywords) / len(COMMANDS))
        choice = [clip for clip in others if clip.split == split]
        chosen = random.permutation(len(choice))[:wanted]
        keywords += [choice[index] for index in sorted(chosen)]
    return keywords


def own_folder(folder):
    """List a folder with one sub-folder per label, split about 80/10/10 by a hash of each file's name.

    The hash decides for each name alone, so files that are added later move no others. Files named
    `{speaker}_nohash_{n}` go by their speaker: nobody is heard in two splits.
    """
    clips = []
    for label in _label_folders(folder):
        files = sound_files(label, deep=True)
        if not files:
            raise DataError(
                f"{label}: a label without sound files, expected some of {', '.join(SUFFIXES)}: add recordings or"
                " remove the folder."
            )
        clips += [(file, label.name, _speaker(file.name)) for file in files]
    if not clips:
        raise DataError(
            f"{folder}: no sub-folders with sound files, expected one sub-folder per label: give its parent?"
        )
    splits = _split_by_hash({speaker or file.name for file, _, speaker in clips}, folder)
    return [Clip(file, label, speaker, splits[speaker or file.name]) for file, label, speaker in clips]


def _split_by_hash(keys, folder):
    """Name -> split: the lowest tenth of the hash range tests, the next validates; neither is left empty."""
    if len(keys) < len(SPLITS):
        raise DataError(
            f"{folder}: {len(keys)} different recordings or speakers cannot fill train, validation and test: add more."
        )
    share = {key: int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64 for key in keys}
    ordered = sorted(keys, key=share.get)
    test = max(1, sum(value < 0.1 for value in share.values()))
    validation = max(1, sum(0.1 <= value < 0.2 for value in share.values()))
    return {
        key: "test" if rank < test else "validation" if rank < test + validation else "train"
        for rank, key in enumerate(ordered)
    }


def _recordings(folder):
    return folder / "recordings" if (folder / "recordings").is_dir() else folder


def _speaker(name):
    match = _SPEAKER_NAME.fullmatch(name)
    return match.group(1) if match else ""


def _label_folders(folder):
    """Visible sub-folders by name; `_background_noise_` is no label, `__MACOSX` is what a zip leaves behind."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith(".") and path.name not in (NOISE, "__MACOSX")
    )


def sound_files(folder, *, deep=False):
    """List the visible sound files, by name; `deep` looks into visible sub-folders as well."""
    found = folder.rglob("*") if deep else folder.iterdir()
    return sorted(
        path
        for path in found
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
