"""Fetching a data set: once, resumed, checked, and nothing half-written, against a server of our own."""

import hashlib
import http.server
import io
import re
import tarfile
import threading
import zipfile

import pytest

from zoo.data import catalogue
from zoo.data.catalogue import CATALOGUE, Dataset, fetch
from zoo.errors import DataError

CONTENT = bytes(range(256)) * 4000  # one megabyte, so that a transfer can be cut in its middle


def tar_of(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=0) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Serves one archive; can break off, ignore ranges, or answer with an error."""

    def __init__(self, archive):
        super().__init__(("127.0.0.1", 0), Handler)
        self.archive = archive
        self.break_off_at = None  # bytes
        self.ranges = True
        self.status = 200
        self.asked = []  # the Range of each request

    def handle_error(self, request, client_address):
        """Say nothing of a client that hangs up, as one does that sees a wrong answer."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        if server.status != 200:
            self.send_error(server.status)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted).group(1)) if wanted and server.ranges else 0
        body = server.archive[start:]
        self.send_response(206 if wanted and server.ranges else 200)
        if wanted and server.ranges:
            self.send_header("Content-Range", f"bytes {start}-{len(server.archive) - 1}/{len(server.archive)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if server.break_off_at is None else server.archive[start : server.break_off_at])

    def log_message(self, *_):
        pass


@pytest.fixture
def publish(monkeypatch):
    """Put an archive on a server and into the catalogue as 'toy'; returns the server."""
    servers = []

    def start(archive, **changes):
        server = Server(archive)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        entry = {
            "name": "toy",
            "address": f"http://127.0.0.1:{server.server_port}/toy",
            "sha256": hashlib.sha256(archive).hexdigest(),
            "size": len(archive),
            "unpacked": 10_000_000,
            "licence": "none",
            "what": "a toy",
        }
        monkeypatch.setitem(CATALOGUE, "toy", Dataset(**{**entry, **changes}))
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("archive_of", [tar_of, zip_of])
def test_archive_is_fetched_once_and_unpacked(publish, tmp_path, archive_of):
    server = publish(archive_of({"a/one.bin": CONTENT, "two.txt": b"two"}))
    folder = fetch("toy", tmp_path)
    assert (folder / "a" / "one.bin").read_bytes() == CONTENT
    assert (folder / "two.txt").read_bytes() == b"two"
    assert fetch("toy", tmp_path) == folder
    assert len(server.asked) == 1
    assert list(tmp_path.iterdir()) == [folder]  # neither the archive nor a temporary folder is left


def test_single_folder_at_the_top_of_an_archive_is_the_data_set(publish, tmp_path):
    publish(zip_of({"toy-1.0/recordings/1.wav": b"sound", "toy-1.0/README.md": b"read"}))
    assert sorted(path.name for path in fetch("toy", tmp_path).iterdir()) == ["README.md", "recordings"]


def test_interrupted_download_goes_on_where_it_stopped(publish, tmp_path):
    server = publish(tar_of({"one.bin": CONTENT}))
    server.break_off_at = 300_000
    with pytest.raises(DataError, match=r"the connection ended after 300,000 of .* run this again to continue"):
        fetch("toy", tmp_path)
    (part,) = tmp_path.iterdir()
    assert part.read_bytes() == server.archive[:300_000]
    server.break_off_at = None
    assert (fetch("toy", tmp_path) / "one.bin").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"]


def test_server_without_ranges_sends_everything_again(publish, tmp_path):
    server = publish(tar_of({"one.bin": CONTENT}))
    server.break_off_at = 300_000
    with pytest.raises(DataError):
        fetch("toy", tmp_path)
    server.break_off_at, server.ranges = None, False
    assert (fetch("toy", tmp_path) / "one.bin").read_bytes() == CONTENT


def test_download_that_was_complete_is_not_asked_for_again(publish, tmp_path):
    server = publish(tar_of({"one.bin": CONTENT}))
    dataset = CATALOGUE["toy"]
    (tmp_path / f"toy-{dataset.sha256[:8]}.part").write_bytes(server.archive)
    assert (fetch("toy", tmp_path) / "one.bin").read_bytes() == CONTENT
    assert server.asked == []


def test_other_content_is_refused_and_not_kept(publish, tmp_path):
    server = publish(tar_of({"one.bin": CONTENT}), sha256="0" * 64)
    with pytest.raises(DataError, match=f"sha256 {hashlib.sha256(server.archive).hexdigest()}, expected {'0' * 64}"):
        fetch("toy", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_server_that_sends_more_than_expected_is_cut_off(publish, tmp_path):
    publish(tar_of({"one.bin": CONTENT * 8}), size=1000)
    with pytest.raises(DataError, match="sha256"):
        fetch("toy", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("archive_of", [tar_of, zip_of])
@pytest.mark.parametrize("name", ["../escaped.txt", "a/../../escaped.txt"])
def test_archive_that_climbs_out_of_its_folder_is_refused(publish, tmp_path, archive_of, name):
    publish(archive_of({"harmless.txt": b"1", name: b"2"}))
    cache = tmp_path / "cache"
    with pytest.raises(DataError, match="cannot be unpacked"):
        fetch("toy", cache)
    assert not list(tmp_path.rglob("escaped.txt"))
    assert [path.suffix for path in cache.iterdir()] == [".part"]


def test_link_out_of_the_folder_is_refused(publish, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
    publish(buffer.getvalue())
    with pytest.raises(DataError, match="cannot be unpacked"):
        fetch("toy", tmp_path)


@pytest.mark.parametrize("archive_of", [tar_of, zip_of])
def test_archive_that_swells_beyond_its_bound_is_refused(publish, tmp_path, archive_of):
    publish(archive_of({"one.bin": CONTENT}), unpacked=len(CONTENT) - 1)
    with pytest.raises(DataError, match="more than 1,023,999 bytes"):
        fetch("toy", tmp_path)


def test_what_is_no_archive_is_refused(publish, tmp_path):
    publish(b"<html>moved</html>" * 1000)
    with pytest.raises(DataError, match="cannot be unpacked"):
        fetch("toy", tmp_path)


def test_without_a_network_the_address_and_the_way_out_are_said(publish, tmp_path):
    server = publish(tar_of({"one.bin": CONTENT}))
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError) as caught:
        fetch("toy", tmp_path)
    message = str(caught.value)
    assert CATALOGUE["toy"].address in message and "give its folder as `data`" in message
    assert list(tmp_path.iterdir()) == []


def test_error_of_the_server_is_said(publish, tmp_path):
    publish(tar_of({"one.bin": CONTENT})).status = 404
    with pytest.raises(DataError, match="Not Found"):
        fetch("toy", tmp_path)


def test_unknown_name_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(
        DataError, match=r"'fsd' is not a known data set, expected one of fsdd, speech_commands, imdb\."
    ):
        fetch("fsd", tmp_path)


def test_cache_that_cannot_be_written_is_named(publish, tmp_path):
    publish(tar_of({"one.bin": CONTENT}))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="RECURRENT_ZOO_CACHE"):
        fetch("toy", tmp_path / "file" / "cache")


def test_cache_is_named_by_the_environment(publish, tmp_path, monkeypatch):
    publish(tar_of({"one.bin": CONTENT}))
    monkeypatch.setenv(catalogue.CACHE_VARIABLE, str(tmp_path / "elsewhere"))
    assert fetch("toy").parent == tmp_path / "elsewhere"


def test_every_entry_says_all_that_a_user_must_know():
    for name, dataset in CATALOGUE.items():
        assert dataset.name == name
        assert dataset.address.startswith("https://")
        assert re.fullmatch("[0-9a-f]{64}", dataset.sha256)
        assert 0 < dataset.size < dataset.unpacked
        assert dataset.licence and dataset.what
