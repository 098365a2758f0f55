"""Spoken sentences with their texts, ready to train on: the demo set, public sets, and a user's own recordings."""

import hashlib
import itertools
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.data import demo_speech
from zoo.data import transcript_layouts as layouts
from zoo.data.audio import read_audio
from zoo.data.keyword_layouts import SPLITS
from zoo.errors import DataError, SettingError

ENGLISH = "'ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_FULL_SCALE = 32768  # of int16, as WAV files mean it: half the memory of float32, and exact for 16-bit recordings
_HELD_OUT = 0.1  # of the speakers, or of the names where there are none, for each split that the set does not give
_DEMO_PER_VOICE = {"train": 12, "validation": 10, "test": 10}
_DEMO_DIGITS = (2, 5)  # fewest and most in a sentence
_DEMO_PAUSE = (0.05, 0.25)  # seconds before, between and after the digits
_DEMO_LONGEST = 4.0  # seconds


@dataclass(frozen=True)
class Transcripts:
    """Utterances of any length with their texts, speakers and splits."""

    sounds: tuple[np.ndarray, ...]  # int16 (samples,) or float32 (frames, features)
    texts: tuple[str, ...]
    speakers: tuple[str, ...]  # "" where it is not known
    split: np.ndarray  # str (utterances,): 'train', 'validation' or 'test'
    files: tuple[str, ...]  # where each comes from
    rate: float  # of the sounds: samples or frames a second
    skipped: tuple[tuple[str, str], ...]  # (file and row, reason)

    @property
    def features(self):
        """How many features a frame has; 0 where the sounds are samples."""
        return 0 if self.sounds[0].ndim == 1 else self.sounds[0].shape[1]

    def select(self, split):
        """Return (sounds, texts) of one split: lists of float32 arrays, samples in [-1, 1] or features, and of strings.

        Raises:
            SettingError: there is no split of that name.
        """
        if split not in SPLITS:
            raise SettingError(f"split is {split!r}, expected one of {', '.join(SPLITS)}.")
        rows = np.flatnonzero(self.split == split)
        sounds = [self.sounds[row] for row in rows]
        if not self.features:
            sounds = [sound.astype(np.float32) / _FULL_SCALE for sound in sounds]
        return sounds, [self.texts[row] for row in rows]


def load_transcripts(data, *, sample_rate, seconds, alphabet=ENGLISH, pronounce=None, step=0.04, skip_bad=False):
    """Load recordings of whole sentences and what is said in them.

    What lies in a folder is recognised by its layout: `manifest.jsonl` or `manifest.csv` with the columns path and text
    (and, if known, speaker and split); AN4 as published or as arrays of features; LibriSpeech. Where the layout gives
    no split, a hash of the speaker decides, or of the name: nobody is heard in two splits, and what is added later
    moves no others. Texts are brought to the case of the alphabet, with single spaces.

    Args:
        data: 'demo' (synthetic: digits said one after the other, built in), or the path of a folder.
        sample_rate: int, Hz, of the result; arrays of features keep the rate of their layout.
        seconds: float, the longest utterance that is accepted.
        alphabet: str, the characters of a text beside the space.
        pronounce: a `zoo.data.pronunciations.Pronunciations`, by which the texts become phones with spaces between
            them, or None.
        step: float, seconds of sound behind each output of the network, which can say one character or phone.
        skip_bad: bool, leave out utterances that cannot be used and list them in `skipped` (default: the first is an
            error).

    Returns:
        Transcripts.

    Raises:
        DataError: `data`, a file or a text cannot be used; the message names file and row and says what to do.
        SettingError: a number is not positive, or the alphabet is empty or has a character twice.

    Example:
        >>> transcripts = load_transcripts("demo", sample_rate=8000, seconds=4.0)
        >>> sounds, texts = transcripts.select("test")
        >>> sounds[0].ndim, texts[0].split()[0]
        (1, 'ZERO')
    """
    for name, value in (("sample_rate", sample_rate), ("seconds", seconds), ("step", step)):
        if not value > 0:
            raise SettingError(f"{name} is {value!r}, expected a positive number.")
    if not alphabet or " " in alphabet or len(set(alphabet)) < len(alphabet):
        raise SettingError(f"alphabet is {alphabet!r}, expected characters other than the space, each once.")
    utterances = _demo(sample_rate, seconds) if data == "demo" else _list(data)
    sounds, kept, skipped = [], [], []
    for utterance in utterances:
        try:
            text = _fit_text(utterance.text, alphabet, utterance.where)
            if pronounce is not None:
                text = pronounce(text, utterance.where)
            sound, rate = _read(utterance, sample_rate, seconds)
            _check_room(text if pronounce is None else text.split(), len(sound) / rate, step, utterance.where)
        except DataError as error:
            if not skip_bad:
                raise DataError(f"{str(error)[:-1]}, or set skip_bad=True to leave such utterances out.") from error
            skipped.append((utterance.where, str(error)))
        else:
            sounds.append(sound)
            kept.append((text, utterance))
    split = _splits([utterance for _, utterance in kept], data)
    _check_splits(split, data, len(skipped))
    return Transcripts(
        sounds=tuple(sounds),
        texts=tuple(text for text, _ in kept),
        speakers=tuple(utterance.speaker for _, utterance in kept),
        split=split,
        files=tuple(str(utterance.path or utterance.where) for _, utterance in kept),
        rate=rate,
        skipped=tuple(skipped),
    )


def _list(data):
    folder = Path(data).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"{data!s}: {'is a file' if folder.exists() else 'no such folder'}, expected a folder with transcripts, or"
            " demo: check the path."
        )
    utterances = layouts.find_layout(folder)(folder)
    if not utterances:
        raise DataError(f"{folder}: the transcripts list no recording, expected some: check the path.")
    return utterances


def _demo(sample_rate, seconds):
    """Sentences of digits, joined from the synthetic words of the demo set; a sentence has one voice.

    They are no longer than `seconds`, unless a digit alone is.
    """
    words, longest = {}, min(_DEMO_LONGEST, seconds) * sample_rate
    for clip in demo_speech.load(sample_rate):
        words.setdefault((clip.split, clip.voice), []).append(clip)
    random, utterances = np.random.default_rng(0), []
    for (split, voice), clips in words.items():
        for number in range(_DEMO_PER_VOICE[split]):
            chosen = [clips[i] for i in random.integers(len(clips), size=random.integers(*_DEMO_DIGITS, endpoint=True))]
            pauses = [
                np.zeros(round(sample_rate * s), np.float32) for s in random.uniform(*_DEMO_PAUSE, len(chosen) + 1)
            ]
            parts, said = [pauses[0]], []
            for clip, pause in zip(chosen, pauses[1:], strict=True):
                if not said or sum(map(len, parts)) + len(clip.samples) + len(pause) <= longest:
                    parts += [clip.samples, pause]
                    said.append(clip.label)
            where = f"demo/{voice}_{number}"
            utterances.append(layouts.Utterance(where, " ".join(said), voice, split, sound=np.concatenate(parts)))
    return utterances


def _read(utterance, sample_rate, seconds):
    """Return the sound, int16 samples or float32 features, and its rate."""
    if utterance.path is not None:
        return _to_pcm(read_audio(utterance.path, sample_rate, longest=seconds)), sample_rate
    if utterance.sound.ndim == 1:
        sound, rate = _to_pcm(utterance.sound), sample_rate
    else:
        sound, rate = utterance.sound, layouts.AN4_RATE
    if not len(sound) or not np.isfinite(sound).all():
        raise DataError(f"{utterance.where}: its features are none, NaN or infinite, expected numbers: fetch it again.")
    if len(sound) / rate > seconds:
        raise DataError(
            f"{utterance.where}: lasts {len(sound) / rate:.2f} s, expected at most {seconds:g} s: raise seconds."
        )
    return sound, rate


def _fit_text(text, alphabet, where):
    """Return the text in the case of the alphabet with single spaces, checked."""
    text = " ".join(unicodedata.normalize("NFC", text).split())
    if alphabet == alphabet.upper():
        text = text.upper()
    elif alphabet == alphabet.lower():
        text = text.lower()
    if not text:
        raise DataError(f"{where}: the text is empty, expected what is said: write it or remove the row.")
    unknown = sorted(set(text) - set(alphabet) - {" "})
    if unknown:
        raise DataError(
            f"{where}: the text {text[:60]!r} has {', '.join(map(repr, unknown))}, expected only {alphabet} and spaces:"
            " write it in these, or set alphabet."
        )
    return text


def _check_room(said, seconds, step, where):
    """CTC says one character (or phone) a step, and needs a blank between two that are alike."""
    needed = len(said) + sum(one == next for one, next in itertools.pairwise(said))
    steps, kind = int(seconds / step), "characters" if isinstance(said, str) else "phones"
    if needed > steps:
        raise DataError(
            f"{where}: {len(said)} {kind} in {seconds:.2f} s, expected at most one in {step:g} s, alike ones"
            f" twice as far apart ({steps} steps, {needed} needed): check that text and recording belong together."
        )


def _splits(utterances, data):
    """The layout's splits; a hash of speaker or name gives the rest to those splits that the layout lacks."""
    given = {utterance.split for utterance in utterances}
    lacking = [split for split in ("test", "validation") if split not in given]
    keys = {_key(u) for u in utterances if not u.split}
    share = {key: int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64 for key in keys}
    ordered, decided, start = sorted(keys, key=share.get), {}, 0
    for number, split in enumerate(lacking):
        low, high = number * _HELD_OUT, (number + 1) * _HELD_OUT
        stop = start + max(1, sum(low <= value < high for value in share.values()))
        decided |= dict.fromkeys(ordered[start:stop], split)
        start = stop
    return np.array([u.split or decided.get(_key(u), "train") for u in utterances], dtype="<U10")


def _key(utterance):
    return utterance.speaker or Path(utterance.path or utterance.where).name


def _check_splits(split, data, skipped):
    for name in SPLITS:
        if not (split == name).any():
            raise DataError(
                f"{data!s}: no usable utterance is left for the {name} split ({skipped} were skipped), expected at"
                " least one: add recordings or speakers."
            )


def _to_pcm(samples):
    return np.clip(np.rint(samples * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
