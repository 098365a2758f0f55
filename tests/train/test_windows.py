"""Every step of every sequence comes once, in its order, in one row; the rest is marked as padding."""

import numpy as np
import pytest

from zoo.errors import DataError
from zoo.train.windows import Windows


def numbered(lengths):
    """Sequences whose steps say where they are from: (sequence, step)."""
    return [np.stack([np.full(n, i), np.arange(n)], axis=1).astype("float32") for i, n in enumerate(lengths)]


def drawn():
    random = np.random.default_rng(0)
    return [
        (random.integers(1, 20, random.integers(1, 9)), int(random.integers(1, 8)), int(random.integers(1, 5)))
        for _ in range(20)
    ]


@pytest.mark.parametrize(("lengths", "steps", "streams"), drawn())
def test_each_step_comes_once_after_the_one_before_it(lengths, steps, streams):
    x = numbered(lengths)
    windows = Windows(x, [each[:, 1] for each in x], steps=steps, streams=streams)
    seen, last = [], [None] * streams
    for number in range(len(windows)):
        inputs, y = windows[number]
        assert inputs["x"].shape == (streams, steps, 2) and y.shape == (streams, steps)
        mask = inputs.get("mask", np.ones((streams, steps), bool))
        for row in range(streams):
            for step in inputs["x"][row, mask[row]].astype(int).tolist():
                begins = step[1] == 0
                assert begins or last[row] == [step[0], step[1] - 1]
                last[row] = step
                seen.append(tuple(step))
            if mask[row].any():
                assert inputs["starts"][row] == (inputs["x"][row, 0, 1] == 0)
            assert not np.any(np.diff(mask[row].astype(int)) > 0)  # padding only at the end
        np.testing.assert_array_equal(y[mask], inputs["x"][mask][:, 1])
    assert sorted(seen) == [(i, t) for i, n in enumerate(lengths) for t in range(n)]


def test_streams_take_the_next_sequence_where_one_ends_first():
    windows = Windows(numbered([10, 4, 6]), steps=2, streams=2)
    assert len(windows) == 5 and not windows.padded  # 5 windows beside 2 + 3
    assert [windows.place(number, 1) for number in range(5)] == [(1, 0), (1, 2), (2, 0), (2, 2), (2, 4)]


def test_joined_batches_are_the_sequences():
    x = numbered([7, 3, 5, 1])
    windows = Windows(x, steps=3, streams=3)
    joined = windows.join(np.concatenate([windows[number][0]["x"] for number in range(len(windows))]))
    for one, other in zip(joined, x, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_memory_map_stays_one(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((2, 9, 1), "float32"))
    windows = Windows(np.load(tmp_path / "x.npy", mmap_mode="r"), steps=4, streams=2)
    assert all(isinstance(each, np.memmap) for each in windows.arrays["x"])


FINE = [np.zeros((5, 2)), np.zeros((3, 2))]


@pytest.mark.parametrize(
    ("x", "more", "said"),
    [
        ([], {}, "x is empty"),
        (5, {}, "x is not made of arrays"),
        ([[[1.0], [1.0, 2.0]]], {}, "x is not made of arrays"),
        (np.array([np.zeros((2, 1)), np.zeros((3, 1))], object)[None], {}, "list of arrays"),
        ([np.zeros((0, 2))], {}, "at least one step"),
        ([np.zeros((5, 2)), np.zeros((3, 1))], {}, r"x\[1\] has steps of shape \(1,\), x\[0\] of \(2,\)"),
        ([np.full((5000, 1), 1.0), np.where(np.arange(5000) == 4321, np.nan, 0)[:, None]], {}, r"x\[1\].*step 4321"),
        (FINE, {"y": [np.zeros(5)]}, "y has 1 sequences and x 2"),
        (FINE, {"y": [np.zeros(5), np.zeros(4)]}, r"y\[1\] has 4 steps and x\[1\] 3"),
        (FINE, {"y": [np.zeros(5), np.array([0, np.inf, 0])]}, r"y\[1\] has a NaN or infinity at step 1"),
        (FINE, {"sample_weight": [np.ones((5, 1)), np.ones((3, 1))]}, r"expected the shape \(time,\)"),
    ],
)
def test_data_that_does_not_fit_is_named(x, more, said):
    with pytest.raises(DataError, match=said):
        Windows(x, steps=2, streams=2, **more)
