"""The named real data sets: where they are, how to know that they are intact, and under which licence."""

import hashlib
import http.client
import os
import re
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from zoo.errors import DataError

CACHE_VARIABLE = "RECURRENT_ZOO_CACHE"
_CHUNK = 1 << 20  # bytes
_TIMEOUT = 30.0  # seconds without a byte
_BY_HAND = "or unpack the data set yourself and give its folder as `data`."


@dataclass(frozen=True)
class Dataset:
    """One archive on the network."""

    name: str
    address: str
    sha256: str  # of the archive
    size: int  # bytes, of the archive
    unpacked: int  # bytes, at most
    licence: str
    what: str


# Sizes and sha256 as others recorded them. speech_commands: torchaudio's speechcommands.py and TensorFlow Datasets'
# url_checksums agree; imdb: the latter, and others. fsdd: a published audit of the tag v1.0.10; a test counts its
# 21,128,848 bytes of sound again.
CATALOGUE = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="fsdd",
            address="https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.zip",
            sha256="c680098f5d2355ba7cc4bd8b0ca9e0a24c00ebe3b4c552208889a4d28d4fbc2b",
            size=16_419_872,
            unpacked=100_000_000,
            licence="CC BY-SA 4.0",
            what="Free Spoken Digits: 3,000 recordings of zero to nine by six speakers, 8 kHz",
        ),
        Dataset(
            name="speech_commands",
            address="https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
            sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
            size=2_428_923_189,
            unpacked=6_000_000_000,
            licence="CC BY 4.0",
            what="Speech Commands v2: 105,829 recordings of 35 words by 2,618 speakers, 16 kHz",
        ),
        Dataset(
            name="imdb",
            address="https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
            sha256="c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
            size=84_125_825,
            unpacked=1_000_000_000,
            licence="none given, for research; cite Maas et al., ACL 2011",
            what="Large Movie Review Dataset: 50,000 labelled reviews and as many without",
        ),
    )
}


def fetch(name, cache=None):
    """Fetch a data set once; from then on it is there without a network.

    An interrupted download goes on where it stopped, the archive's sha256 is checked before it is opened, and the
    folder appears under its name only when it is complete.

    Args:
        name: str, a key of `CATALOGUE`.
        cache: str or Path (default: the environment variable RECURRENT_ZOO_CACHE, or ~/.cache/recurrent-zoo).

    Returns:
        Path of the folder.

    Raises:
        DataError: the name is unknown, the network or the cache cannot be used, or the archive is not the one expected.
    """
    if name not in CATALOGUE:
        raise DataError(f"{name!r} is not a known data set, expected one of {', '.join(CATALOGUE)}.")
    dataset = CATALOGUE[name]
    cache = Path(cache or os.environ.get(CACHE_VARIABLE) or "~/.cache/recurrent-zoo").expanduser()
    folder = cache / f"{name}-{dataset.sha256[:8]}"
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        archive = cache / f"{folder.name}.part"
        _download(dataset, archive)
        _check_sha256(dataset, archive)
        _unpack(dataset, archive, folder)
        archive.unlink()
    except OSError as error:
        raise DataError(
            f"{cache}: cannot be written ({error.strerror or error}), expected a folder for data sets: free some space,"
            f" or name another folder in the environment variable {CACHE_VARIABLE}."
        ) from error
    return folder


def _download(dataset, archive):
    """Bring `archive` to its full size, from the byte where an earlier attempt stopped."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    have = archive.stat().st_size if archive.exists() else 0
    if have >= dataset.size:
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    try:
        with _open(dataset.address, have) as response, Progress(*columns, transient=True) as progress:
            have = have if _continues(response, have) else 0
            bar = progress.add_task(f"fetching {dataset.name}", total=dataset.size, completed=have)
            with open(archive, "r+b" if have else "wb") as file:
                file.seek(have)
                while have <= dataset.size and (chunk := response.read(_CHUNK)):
                    file.write(chunk)
                    have += len(chunk)
                    progress.update(bar, completed=have)
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _not_fetched(dataset, getattr(error, "reason", None) or error) from error
    if have < dataset.size:
        raise _not_fetched(dataset, f"the connection ended after {have:,} of {dataset.size:,} bytes")


def _open(address, have):
    """Ask for the archive from byte `have` on."""
    request = urllib.request.Request(address, headers={"User-Agent": "recurrent-zoo"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    return urllib.request.urlopen(request, timeout=_TIMEOUT)


def _continues(response, have):
    """True where the server goes on at byte `have`; many send the whole archive again instead."""
    sent = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return response.status == http.client.PARTIAL_CONTENT and sent is not None and int(sent.group(1)) == have


def _not_fetched(dataset, reason):
    return DataError(
        f"{dataset.name}: could not fetch {dataset.address} ({reason}), expected {dataset.size:,} bytes: check the"
        f" network and run this again to continue, {_BY_HAND}"
    )


def _check_sha256(dataset, archive):
    with open(archive, "rb") as file:
        received = hashlib.file_digest(file, "sha256").hexdigest()
    if received != dataset.sha256:
        archive.unlink()  # or the next attempt would go on from the same wrong bytes
        raise DataError(
            f"{dataset.name}: {dataset.address} sent an archive of sha256 {received}, expected {dataset.sha256}:"
            f" run this again, {_BY_HAND}"
        )


def _unpack(dataset, archive, folder):
    """Unpack beside `folder` and rename at the end; a single folder at the archive's top becomes `folder` itself."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as temporary:
        unpacked = Path(temporary, "unpacked")
        unpack = _unzip if zipfile.is_zipfile(archive) else _untar
        try:
            unpack(archive, unpacked, dataset.unpacked)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise DataError(
                f"{dataset.name}: the archive from {dataset.address} cannot be unpacked ({error}), expected files"
                f" that stay in its folder: run this again, {_BY_HAND}"
            ) from error
        found = list(unpacked.iterdir())
        os.replace(found[0] if len(found) == 1 and found[0].is_dir() else unpacked, folder)


def _untar(archive, folder, limit):
    total = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            total += member.size
            if total > limit:
                raise tarfile.ReadError(f"more than {limit:,} bytes")
            tar.extract(member, folder, filter="data")


def _unzip(archive, folder, limit):
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        if sum(member.file_size for member in members) > limit:
            raise zipfile.BadZipFile(f"more than {limit:,} bytes")
        for member in members:
            path = PurePosixPath(member.filename.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
                raise zipfile.BadZipFile(f"{member.filename!r} lies outside the folder")
        file.extractall(folder)
