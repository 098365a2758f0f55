"""How spoken sentences and their texts are laid out: each function here lists the utterances of one layout."""

import csv
import io
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.data.keyword_layouts import SPLITS, SUFFIXES
from zoo.errors import DataError

MANIFESTS = ("manifest.jsonl", "manifest.csv")
PATH_NAMES = ("path", "audio_filepath", "file")  # of a manifest's column; the second is NeMo's
AN4_RATE = 100.0  # frames of features a second
_AN4_LINE = re.compile(r"(?:<s> )?(.*?)(?: </s>)? \(([\w-]+)\)", re.IGNORECASE)
_AN4_SUFFIXES = (".wav", ".flac", ".sph")
_LIBRISPEECH_SPLITS = {"train": "train", "dev": "validation", "test": "test"}


@dataclass(frozen=True)
class Utterance:
    """One recording, or its features, and what is known of it before it is read."""

    where: str  # the file and line or row that errors name
    text: str
    speaker: str  # "" where the layout names none
    split: str  # "" to be decided by a hash of the speaker or name
    path: Path | None = None
    sound: np.ndarray | None = None  # where there is no path: (samples,) or (frames, features)


def find_layout(folder):
    """Return the function that lists the utterances of a folder.

    Raises:
        DataError: the folder has none of the layouts.
    """
    if any((folder / name).is_file() for name in MANIFESTS):
        return own_folder
    if (folder / "an4_train.npz").is_file():
        return an4_features
    if (_an4_etc(folder) / "an4_train.transcription").is_file():
        return an4_recordings
    if next(folder.rglob("*.trans.txt"), None) is not None:
        return librispeech
    raise DataError(
        f"{folder}: no transcripts, expected {' or '.join(MANIFESTS)} with the columns path and text, AN4's"
        " etc/an4_train.transcription, or LibriSpeech's *.trans.txt: write a manifest, or check the path."
    )


def own_folder(folder):
    """List what `manifest.jsonl` or `manifest.csv` names: path and text, if there are such columns speaker and split.

    Paths are relative to the manifest.
    """
    path = next(folder / name for name in MANIFESTS if (folder / name).is_file())
    rows = _json_rows(path) if path.suffix == ".jsonl" else _csv_rows(path)
    return [_from_row(path, number, row) for number, row in rows]


def an4_recordings(folder):
    """List AN4 as it is published: `etc/an4_{train,test}.{fileids,transcription}`, recordings below `wav/`."""
    etc, utterances = _an4_etc(folder), []
    for split, file in (("", "an4_train"), ("test", "an4_test")):
        texts = _an4_texts(etc / f"{file}.transcription")
        ids = read_text(etc / f"{file}.fileids").split()
        if len(ids) != len(texts):
            raise DataError(
                f"{etc / file}.fileids: {len(ids)} names and {len(texts)} transcripts, expected as many: fetch the"
                " data set again."
            )
        for (where, text, name), identity in zip(texts, ids, strict=True):
            if Path(identity).name != name:
                raise DataError(f"{where}: the transcript of {name!r}, expected that of {identity}: fetch it again.")
            recordings = [folder / "wav" / f"{identity}{suffix}" for suffix in _AN4_SUFFIXES]
            path = next((path for path in recordings if path.is_file()), recordings[0])
            utterances.append(Utterance(where, text, identity.split("/")[-2], split, path=path))
    return utterances


def an4_features(folder):
    """List AN4 as arrays: `an4_{train,test}.npz` with all frames joined in `features`, and lengths, texts, speakers."""
    utterances = []
    for split, path in (("", folder / "an4_train.npz"), ("test", folder / "an4_test.npz")):
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                features, lengths = stored["features"], stored["lengths"]
                texts, speakers = stored["texts"].tolist(), stored["speakers"].tolist()
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{path}: cannot be read ({error}), expected features, lengths, texts, speakers: fetch it."
            ) from error
        if features.ndim != 2 or lengths.sum() != len(features) or not len(lengths) == len(texts) == len(speakers):
            raise DataError(
                f"{path}: the arrays do not fit each other, expected a length for each text: fetch it again."
            )
        parts = np.split(features.astype(np.float32), np.cumsum(lengths)[:-1])
        for row, (part, text, speaker) in enumerate(zip(parts, texts, speakers, strict=True)):
            utterances.append(Utterance(f"{path}: row {row}", text, speaker, split, sound=part))
    return utterances


def librispeech(folder):
    """List LibriSpeech: `{speaker}-{chapter}.trans.txt` with a name and a text on each line, recordings beside it.

    Sets named train-*, dev-* and test-* are the splits; where those are not all there, speakers are split by a hash.
    """
    utterances = []
    for path in sorted(folder.rglob("*.trans.txt")):
        sets = [part.partition("-")[0] for part in path.relative_to(folder).parts]
        split = next((_LIBRISPEECH_SPLITS[name] for name in sets if name in _LIBRISPEECH_SPLITS), "")
        for number, line in enumerate(read_text(path).splitlines(), 1):
            name, _, text = line.partition(" ")
            speaker, where = name.partition("-")[0], f"{path}: line {number}"
            utterances.append(Utterance(where, text, speaker, split, path=path.parent / f"{name}.flac"))
    if {utterance.split for utterance in utterances} != set(SPLITS):
        utterances = [Utterance(u.where, u.text, u.speaker, "", path=u.path) for u in utterances]
    return utterances


def read_text(path):
    """Return a text file's contents.

    Raises:
        DataError: it is missing, or not all of it is UTF-8; the message names the first such line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}, expected a text file: check the path.") from error
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}: line {number} is not UTF-8 (byte {line[error.start]:#04x}), expected one encoding throughout:"
                " save the file as UTF-8."
            ) from error
    return data.decode("utf-8-sig")  # without the mark that some editors put in front


def _an4_etc(folder):
    return folder / "etc" if (folder / "etc").is_dir() else folder


def _an4_texts(path):
    """Return [(where, text, name)] of the lines `<s> TEXT </s> (name)`."""
    texts = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        match = _AN4_LINE.fullmatch(line.strip())
        if match is None:
            raise DataError(f"{path}: line {number} is {line[:80]!r}, expected TEXT (name): fetch the data set again.")
        texts.append((f"{path}: line {number}", *match.groups()))
    return texts


def _json_rows(path):
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}: line {number} is not JSON ({error}): write one object on each line.") from error
        if not isinstance(row, dict):
            raise DataError(
                f"{path}: line {number} is {line[:80]!r}, expected an object with path and text: correct it."
            )
        yield number, row


def _csv_rows(path):
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num} is not CSV ({error}): correct it.") from error


def _from_row(manifest, number, row):
    where = f"{manifest}: line {number}"
    column = next((name for name in PATH_NAMES if name in row), "path")
    for name in (column, "text"):
        if not isinstance(row.get(name), str):
            has = ", ".join(str(key) for key in row)
            raise DataError(f"{where} has no {name}, only {has}, expected the columns path and text: add it.")
    for name in ("speaker", "split"):
        if not isinstance(row.get(name) or "", str):
            raise DataError(f"{where} has the {name} {row[name]!r}, expected a text: put it in quotes.")
    split = row.get("split") or ""
    if split not in ("", *SPLITS):
        raise DataError(f"{where} has the split {split!r}, expected one of {', '.join(SPLITS)}: rename it.")
    path = manifest.parent / row[column]
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{where} names {row[column]!r}, expected a sound file, {', '.join(SUFFIXES)}: convert it.")
    return Utterance(where, row["text"], row.get("speaker") or "", split, path=path)
