"""Clips come as evenly spaced frames, from folders, moving pictures and films, and what cannot be used is named."""

import sys

import numpy as np
import pytest
from PIL import Image

from zoo.data import clips, demo_movements
from zoo.data.clips import check_clip, read_clip
from zoo.data.demo_scenes import HELD_OUT as PAIRS
from zoo.errors import DataError

GREYS = [10, 60, 110, 160, 210]
FRAMES = np.stack([np.full((16, 24, 3), grey, np.uint8) for grey in GREYS])


def levels(clip):
    return clip.reshape(len(clip), -1).mean(axis=1)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "clip"
    made.mkdir()
    for number, frame in enumerate(FRAMES):
        Image.fromarray(frame).save(made / f"{number:03}.png")
    (made / "notes.txt").write_text("not a frame")
    return made


def test_a_folder_of_frames_gives_evenly_spaced_ones(folder):
    assert read_clip(folder, 8, 3).shape == (3, 8, 8, 3)
    assert levels(read_clip(folder, 8, 3)).tolist() == [10, 110, 210]
    assert levels(read_clip(folder, 8, 9)).tolist() == [
        10,
        10,
        60,
        110,
        110,
        110,
        160,
        210,
        210,
    ]  # NumPy rounds to even


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_a_moving_picture_gives_the_same(tmp_path, name):
    first, *rest = [Image.fromarray(frame) for frame in FRAMES]
    first.save(tmp_path / name, save_all=True, append_images=rest, lossless=True)
    check_clip(tmp_path / name)
    np.testing.assert_allclose(levels(read_clip(tmp_path / name, 8, 3)), [10, 110, 210], atol=1)  # GIF has a palette


def test_a_film_gives_the_same(tmp_path):
    imageio = pytest.importorskip("imageio.v3")
    pytest.importorskip("av")
    frames = np.repeat(np.kron(FRAMES, np.ones((1, 4, 4, 1), np.uint8)), 30, axis=0)  # 150: more than are kept at once
    imageio.imwrite(tmp_path / "a.mp4", frames, plugin="pyav", codec="mpeg4", fps=25)
    np.testing.assert_allclose(levels(read_clip(tmp_path / "a.mp4", 8, 3)), [10, 110, 210], atol=12)  # a lossy format
    (tmp_path / "b.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:300])
    with pytest.raises(DataError, match=r"b.mp4 is a damaged clip"):
        read_clip(tmp_path / "b.mp4", 8, 3)


def test_a_film_without_a_reader_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "imageio.v3", None)
    with pytest.raises(DataError, match=r'pip install "imageio\[pyav\]"'):
        read_clip(tmp_path / "a.mp4", 8, 3)


def test_what_is_no_clip_is_named(tmp_path, folder, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "a.gif").write_text("hello")
    for name, sentence in (
        ("empty", "empty holds no picture"),
        ("none", "there is no file or folder .*none"),
        ("a.txt", "a.txt ends in .txt; expected one of .gif"),
    ):
        for read in (check_clip, lambda path: read_clip(path, 8, 2)):
            with pytest.raises(DataError, match=sentence):
                read(tmp_path / name)
    with pytest.raises(DataError, match=r"a.gif is a damaged clip"):
        read_clip(tmp_path / "a.gif", 8, 2)
    (folder / "000.png").write_bytes(b"spoilt")
    with pytest.raises(DataError, match=r"000.png is no picture"):
        check_clip(folder)
    monkeypatch.setattr(clips, "MOST_BYTES", 3)
    with pytest.raises(DataError, match=r"a.gif has 5 bytes; expected at most 3"):
        check_clip(tmp_path / "a.gif")


def test_the_demo_set_moves_as_its_captions_say_and_keeps_some_for_the_test(monkeypatch):
    monkeypatch.setattr(demo_movements, "_COUNTS", {"train": 40, "validation": 40, "test": 40})
    for clip, (caption,), split in demo_movements.load():
        words = caption.split()
        ways = [word for word in words if word in demo_movements.WAYS]
        of = {
            kind
            for kind in PAIRS
            if (words[1], words[2]) in PAIRS[kind] or tuple(ways) in demo_movements.HELD_OUT[kind]
        }
        assert of == {split} - {"train"}
        assert clip.shape == (demo_movements.FRAMES, demo_movements.SIZE, demo_movements.SIZE, 3)
        bright = clip.max(axis=3) > 92  # the ground is at most 70, grey at least 104, the noise 6
        centres = np.array([np.argwhere(frame).mean(axis=0) for frame in bright])
        for way, move in zip(ways, (centres[1] - centres[0], centres[-1] - centres[-2])[-len(ways) :], strict=True):
            np.testing.assert_allclose(
                move, 3.5 * np.array(demo_movements.WAYS[way]), atol=1
            )  # a pixel, as edges are blurred; a step is three and a half
