"""The demo set of pictures shows what its captions say, and keeps some pairs for the test."""

import itertools

import numpy as np

from zoo.data import demo_scenes
from zoo.data.demo_scenes import COLOURS, HELD_OUT, SHAPES


def pairs(caption):
    words = caption.split()
    return {(one, other) for one, other in itertools.pairwise(words) if one in COLOURS and other in SHAPES}


def test_pairs_that_are_held_out_are_in_every_test_scene_and_in_no_other():
    for _, captions, split in demo_scenes.load():
        assert len(captions) == 2
        for caption in captions:
            found = {kind for kind, held in HELD_OUT.items() if pairs(caption) & set(held)}
            assert found == {split} - {"train"}


def test_every_colour_and_shape_that_is_held_out_together_is_learnt_apart():
    learnt = {pair for _, captions, split in demo_scenes.load() if split == "train" for pair in pairs(captions[0])}
    assert {colour for colour, _ in learnt} == set(COLOURS) and {shape for _, shape in learnt} == set(SHAPES)
    assert len(learnt) == len(COLOURS) * len(SHAPES) - len(HELD_OUT["validation"]) - len(HELD_OUT["test"])


def test_things_are_where_the_caption_says():
    checked = 0
    for picture, (caption, _), _ in demo_scenes.load()[:200]:
        words = caption.split()
        if "of" not in words and "above" not in words:
            continue
        centres = []
        for colour in (words[1], words[-2]):
            near = np.abs(picture / np.linalg.norm(picture, axis=2, keepdims=True) - _direction(colour)).max(axis=2)
            inside = (near < 0.12) & (picture.max(axis=2) > 120)
            centres.append(np.argwhere(inside).mean(axis=0) if inside.any() else None)
        alike = abs(_direction(words[1]) - _direction(words[-2])).max() < 0.24  # white and grey differ in brightness
        if alike or any(centre is None for centre in centres):
            continue
        axis = 0 if "above" in words else 1
        assert centres[0][axis] < centres[1][axis]
        checked += 1
    assert checked > 80


def _direction(colour):
    return np.array(COLOURS[colour]) / np.linalg.norm(COLOURS[colour])


def test_it_is_the_same_each_time():
    one, other = demo_scenes.load(), demo_scenes.load()
    assert all(np.array_equal(a[0], b[0]) and a[1:] == b[1:] for a, b in zip(one, other, strict=True))
    assert one[0][0].shape == (demo_scenes.SIZE, demo_scenes.SIZE, 3)
