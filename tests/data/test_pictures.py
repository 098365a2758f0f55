"""Pictures come as arrays of one size, and what cannot be used is named."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from zoo.data import pictures
from zoo.data.pictures import check_picture, read_picture
from zoo.errors import DataError

HALVES = np.zeros((20, 40, 3), np.uint8)  # red on the left, blue on the right
HALVES[:, :20, 0] = HALVES[:, 20:, 2] = 200


def saved(path, picture=HALVES, **options):
    Image.fromarray(picture).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.webp", "a.JPEG"])
def test_a_picture_is_stretched_to_a_square(tmp_path, name):
    found = read_picture(saved(tmp_path / name, quality=95), 16)
    assert found.shape == (16, 16, 3) and found.dtype == np.uint8
    # a lossy format mixes colours where they meet, and by a few of 255 elsewhere
    np.testing.assert_allclose(found[:, :6].reshape(-1, 3).mean(axis=0), [200, 0, 0], atol=8)
    np.testing.assert_allclose(found[:, -6:].reshape(-1, 3).mean(axis=0), [0, 0, 200], atol=8)


def test_a_camera_on_its_side_is_turned_back(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: show it turned by 90 degrees clockwise
    found = read_picture(saved(tmp_path / "a.png", exif=exif), 16)
    assert found[0, 0, 0] == 200 and found[0, -1, 0] == 200  # red is above
    assert found[-1, 0, 2] == 200 and found[-1, -1, 2] == 200


def test_modes_become_three_colours(tmp_path):
    grey = saved(tmp_path / "grey.png", np.full((8, 8), 77, np.uint8))
    assert np.array_equal(read_picture(grey, 8), np.full((8, 8, 3), 77))
    clear = saved(tmp_path / "clear.png", np.zeros((8, 8, 4), np.uint8))
    assert np.array_equal(read_picture(clear, 8), np.full((8, 8, 3), 255))  # what is transparent is white
    palette = tmp_path / "palette.png"
    Image.fromarray(HALVES).quantize(2).save(palette)
    assert read_picture(palette, 16)[0, 0, 0] > 150
    deep = tmp_path / "deep.png"
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(deep)
    with pytest.raises(DataError, match=r"deep.png has the mode I.*8 bits a colour"):
        read_picture(deep, 8)


def test_a_picture_of_forty_megapixels_is_refused_before_it_is_decoded(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 8000, 5000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    for read in (check_picture, lambda path: read_picture(path, 8)):
        with pytest.raises(DataError, match=r"bomb.png has 8000 x 5000 pixels; expected at most 32000000"):
            read(tmp_path / "bomb.png")


def test_files_that_are_no_pictures_are_named(tmp_path, monkeypatch):
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(DataError, match=r"text.jpg is no picture; expected JPEG"):
        check_picture(tmp_path / "text.jpg")
    with pytest.raises(DataError, match=r"there is no file .*none.jpg"):
        check_picture(tmp_path / "none.jpg")
    with pytest.raises(DataError, match="there is no file"):
        read_picture(tmp_path, 8)
    gif = saved(tmp_path / "moving.gif")  # a format that is not on the list, though Pillow knows it
    with pytest.raises(DataError, match=r"moving.gif is no picture"):
        read_picture(gif, 8)
    monkeypatch.setattr(pictures, "MOST_BYTES", 10)
    with pytest.raises(DataError, match=r"expected a picture of at most 10"):
        check_picture(gif)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.webp"])
def test_damage_anywhere_is_an_error_that_names_the_file_or_another_picture(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    whole = saved(tmp_path / name, noise).read_bytes()
    random, refused = np.random.default_rng(1), 0
    for trial in range(60):
        spoilt = bytearray(whole[: random.integers(1, len(whole))] if trial % 2 else whole)
        for place in random.integers(0, len(spoilt), 5):
            spoilt[place] ^= random.integers(1, 256)
        (tmp_path / name).write_bytes(spoilt)
        try:
            assert read_picture(tmp_path / name, 8).shape == (8, 8, 3)
        except DataError as error:
            assert name in str(error)
            refused += 1
    assert refused > 20
