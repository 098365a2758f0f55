"""Spoken words, ready to train on: the demo set, public sets by name or path, and a user's own recordings."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zoo.data import catalogue, demo_speech
from zoo.data import keyword_layouts as layouts
from zoo.data.audio import fit_length, read_audio
from zoo.data.keyword_layouts import SPLITS
from zoo.errors import DataError, SettingError

NAMED = ("demo", "fsdd", "speech_commands")
_FULL_SCALE = 32768  # of int16, as WAV files mean it: half the memory of float32, and exact for 16-bit recordings
_LONGEST_NOISE = 600.0  # seconds: background noise comes in long takes, unlike clips
_NOISE_SHARES = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}  # of each take, in time


@dataclass(frozen=True)
class Keywords:
    """Clips of one length with their labels, speakers and splits."""

    pcm: np.ndarray  # int16 (clips, length); see `samples` and `select` for floats
    labels: np.ndarray  # int32 (clips,), indices into label_names
    label_names: tuple[str, ...]
    speakers: tuple[str, ...]  # one per clip, "" where it is not known
    split: np.ndarray  # str (clips,): 'train', 'validation' or 'test'
    files: tuple[str, ...]  # where each clip comes from
    skipped: tuple[tuple[str, str], ...]  # (file, reason)

    @property
    def samples(self):
        """All clips as float32 (clips, length) in [-1, 1]; made anew at each use, at twice the memory of `pcm`."""
        return _to_float(self.pcm, range(len(self.pcm)))

    def select(self, split):
        """Return the clips of one split.

        Args:
            split: 'train', 'validation' or 'test'.

        Returns:
            (samples, labels): float32 (clips, length) in [-1, 1] and int32 (clips,).

        Raises:
            SettingError: there is no split of that name.
        """
        _check_split(split, SPLITS)
        rows = np.flatnonzero(self.split == split)
        return _to_float(self.pcm, rows), self.labels[rows]

    def hold_out(self, speaker, *, split="test"):
        """Give one split to one speaker; what the others had there goes to training.

        Args:
            speaker: str, one of `speakers`.
            split: 'test' or 'validation' (default: 'test').

        Returns:
            Keywords of the same clips.

        Raises:
            DataError: no recording is by that speaker, or too little is left to train and validate on.
            SettingError: there is no split of that name.

        Example:
            >>> keywords = load_keywords("demo", sample_rate=8000, seconds=1.0).hold_out("en-us+m1")
            >>> samples, labels = keywords.select("test")
            >>> len(samples)
            20
        """
        _check_split(split, ("validation", "test"))
        known = sorted(set(self.speakers) - {""})
        if speaker not in known:
            raise DataError(
                f"no recording is by the speaker {speaker!r}, expected one of"
                f" {', '.join(known) or 'the speakers that the file names tell, and they tell none'}."
            )
        held_out = np.array([name == speaker for name in self.speakers])
        others = np.where(self.split == split, "train", self.split)
        if split == "test" and not (others[~held_out] == "validation").any():
            others = np.where(self.split == "test", "validation", others)  # the speaker was all that validation had
        held = replace(self, split=np.where(held_out, split, others))
        _check_splits(held)
        return held


def load_keywords(data, *, sample_rate, seconds, test_speaker=None, skip_bad=False, seed=0):
    """Load recordings of single words as arrays of one length.

    What lies in a folder is recognised by its layout. Free Spoken Digits: `{digit}_{speaker}_{index}.wav`, in the
    folder or in its `recordings`. Speech Commands: a folder with the two official lists; ten keywords, `_unknown_` and
    `_silence_`, which is cut from the background noise. Anything else is a folder of one sub-folder per label, split by
    a hash of the file name. A shorter clip is put in the middle of silence, of a longer one the loudest window is kept.

    With a test speaker, validation is a part of the remaining speakers' recordings: sets have few voices, and training
    needs them all. Those voices are known, so validation tells when training has converged, not how well a new voice is
    understood; to choose between settings, give it a voice of its own by `hold_out(speaker, split="validation")`.

    Args:
        data: 'demo' (synthetic speech, built in), 'fsdd' or 'speech_commands' (fetched once, see `zoo.data.catalogue`),
            or the path of a folder.
        sample_rate: int, Hz, of the result.
        seconds: float, length of every clip.
        test_speaker: str, the speaker whose recordings are the test split and appear nowhere else (default: the set's
            own split).
        skip_bad: bool, leave out files that cannot be used and list them in `skipped` (default: the first is an error).
        seed: int, for the choice of unknown words and pieces of noise.

    Returns:
        Keywords.

    Raises:
        DataError: `data`, a file or `test_speaker` cannot be used; the message names it and says what to do.
        SettingError: sample_rate or seconds is not positive.

    Example:
        >>> keywords = load_keywords("demo", sample_rate=8000, seconds=1.0)
        >>> samples, labels = keywords.select("train")
        >>> samples.shape[1], keywords.label_names[labels.max()]
        (8000, 'nine')
    """
    for name, value in (("sample_rate", sample_rate), ("seconds", seconds)):
        if not value > 0:
            raise SettingError(f"{name} is {value!r}, expected a positive number.")
    length = round(sample_rate * seconds)
    if data == "demo":
        keywords = _load_demo(sample_rate, length)
    else:
        keywords = _load_folder(_find(data), sample_rate, length, skip_bad, seed)
    _check_splits(keywords)
    return keywords if test_speaker is None else keywords.hold_out(test_speaker)


def _load_demo(sample_rate, length):
    clips = demo_speech.load(sample_rate)
    names = layouts.DIGITS
    return Keywords(
        pcm=np.stack([_to_pcm(fit_length(clip.samples, length)) for clip in clips]),
        labels=np.array([names.index(clip.label) for clip in clips], dtype=np.int32),
        label_names=names,
        speakers=tuple(clip.voice for clip in clips),
        split=np.array([clip.split for clip in clips]),
        files=tuple(clip.name for clip in clips),
        skipped=(),
    )


def _find(data):
    """The folder that is meant by a name or a path."""
    if data in NAMED:
        return catalogue.fetch(data)
    folder = Path(data).expanduser()
    if folder.is_dir():
        return folder
    raise DataError(
        f"{data!s}: {'is a file' if folder.exists() else 'no such folder'}, expected a folder of recordings or one of"
        f" {', '.join(NAMED)}: check the path."
    )


def _load_folder(folder, sample_rate, length, skip_bad, seed):
    if not any(folder.iterdir()):
        raise DataError(
            f"{folder}: the folder is empty, expected one sub-folder of recordings per label: check the path."
        )
    skipped = []
    if layouts.is_speech_commands(folder):
        clips, names = layouts.speech_commands(folder, seed), (*layouts.COMMANDS, layouts.UNKNOWN)
    elif layouts.is_fsdd(folder):
        clips, misnamed = layouts.fsdd(folder)
        names = tuple(digit for digit in layouts.DIGITS if any(clip.label == digit for clip in clips))
        for path, reason in misnamed:
            _skip(path, reason, skip_bad, skipped)
    else:
        clips = layouts.own_folder(folder)
        names = tuple(sorted({clip.label for clip in clips}))
    if len(names) < 2:
        raise DataError(
            f"{folder}: recordings of {names[0]!r} only, expected two labels or more: add a label to tell it from."
        )
    keywords = _read(clips, names, sample_rate, length, skip_bad, skipped)
    if layouts.is_speech_commands(folder):
        keywords = _add_silence(keywords, folder / layouts.NOISE, sample_rate, seed)
    return keywords


def _read(clips, names, sample_rate, length, skip_bad, skipped):
    pcm = np.empty((len(clips), length), dtype=np.int16)
    kept = []
    for clip in clips:
        try:
            pcm[len(kept)] = _to_pcm(fit_length(read_audio(clip.path, sample_rate), length))
            kept.append(clip)
        except DataError as error:
            _skip(clip.path, str(error), skip_bad, skipped)
    return Keywords(
        pcm=pcm[: len(kept)],
        labels=np.array([names.index(clip.label) for clip in kept], dtype=np.int32),
        label_names=names,
        speakers=tuple(clip.speaker for clip in kept),
        split=np.array([clip.split for clip in kept], dtype="<U10"),
        files=tuple(str(clip.path) for clip in kept),
        skipped=tuple(skipped),
    )


def _add_silence(keywords, folder, sample_rate, seed):
    """Append `_silence_`, for each split as many clips as an average keyword has there."""
    files = layouts.sound_files(folder) if folder.is_dir() else []
    if not files:
        raise DataError(
            f"{folder}: no background noise to cut {layouts.SILENCE} from, expected the data set's own: fetch it again."
        )
    noises = [read_audio(path, sample_rate, longest=_LONGEST_NOISE) for path in files]
    random = np.random.default_rng(seed)
    pcm, split, cut_from = [keywords.pcm], list(keywords.split), []
    for name in SPLITS:
        keyword = (keywords.split == name) & (keywords.labels < len(layouts.COMMANDS))
        for _ in range(round(keyword.sum() / len(layouts.COMMANDS))):
            which = random.integers(len(noises))
            pcm.append(_to_pcm(_cut_noise(noises[which], name, keywords.pcm.shape[1], random, files[which]))[None])
            split.append(name)
            cut_from.append(str(files[which]))
    silence = np.full(len(cut_from), len(keywords.label_names), dtype=np.int32)
    return replace(
        keywords,
        pcm=np.concatenate(pcm),
        labels=np.concatenate([keywords.labels, silence]),
        label_names=(*keywords.label_names, layouts.SILENCE),
        speakers=(*keywords.speakers, *[""] * len(cut_from)),
        split=np.array(split),
        files=(*keywords.files, *cut_from),
    )


def _cut_noise(noise, split, length, random, path):
    """A piece at random volume from the split's own stretch of the take, so that no noise is heard in two splits."""
    start, stop = (round(len(noise) * share) for share in _NOISE_SHARES[split])
    if stop - start < length:
        raise DataError(
            f"{path}: lasts {len(noise)} samples, too short for three splits of {length}: use a longer take of noise."
        )
    at = random.integers(start, stop - length + 1)
    return noise[at : at + length] * random.uniform()


def _check_split(split, expected):
    if split not in expected:
        raise SettingError(f"split is {split!r}, expected one of {', '.join(expected)}.")


def _check_splits(keywords):
    """Every label must be heard in training, and there must be something to validate and to test."""
    for index, name in enumerate(keywords.label_names):
        if not ((keywords.labels == index) & (keywords.split == "train")).any():
            raise DataError(
                f"label {name!r} has no usable recording in the train split ({len(keywords.skipped)} files were"
                " skipped), expected at least one: add recordings of it or remove it."
            )
    for split in SPLITS:
        if not (keywords.split == split).any():
            raise DataError(
                f"no usable recording is left for the {split} split, expected at least one: add recordings."
            )


def _skip(path, reason, skip_bad, skipped):
    if not skip_bad:
        raise DataError(f"{reason[:-1]}, or set skip_bad=True to leave such files out.")
    skipped.append((str(path), reason))


def _to_pcm(samples):
    return np.clip(np.rint(samples * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)


def _to_float(pcm, rows):
    """Row by row, so that a large set is never held in a third copy."""
    samples = np.empty((len(rows), pcm.shape[1]), dtype=np.float32)
    for row, clip in zip(samples, rows, strict=True):
        np.divide(pcm[clip], _FULL_SCALE, out=row)
    return samples
