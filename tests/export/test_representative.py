"""Representative data: every shape that it may come in, and a sentence for each mistake."""

import numpy as np
import pytest
import tensorflow as tf

from zoo.errors import DataError
from zoo.export.representative import read_representative

ONE = [tf.TensorSpec([1, 4, 3], "float32", name="x")]
TWO = [*ONE, tf.TensorSpec([1, 2], "int32", name="n")]


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(5, 4, 3))


def test_an_array_a_dict_and_examples_are_the_same(x):
    for data in (x, x.tolist(), {"x": x}, list(x), iter(x), ({"x": one} for one in x), tf.constant(x)):
        (got,) = read_representative(data, ONE).values()
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, x, rtol=1e-6)


def test_a_model_of_several_inputs_takes_dicts(x):
    n = np.arange(10).reshape(5, 2)
    for data in ({"n": n, "x": x}, [{"x": a, "n": b} for a, b in zip(x, n, strict=True)]):
        got = read_representative(data, TWO)
        assert list(got) == ["x", "n"]
        assert got["n"].dtype == np.int32


def test_whole_sequences_are_taken_where_the_file_takes_chunks():
    longer = np.random.default_rng(0).normal(size=(2, 12, 3))
    assert read_representative(longer, ONE, open_time=True)["x"].shape == (2, 12, 3)
    with pytest.raises(DataError, match=r"has shape \(2, 12, 3\); expected \(examples, 4, 3\)"):
        read_representative(longer, ONE)
    with pytest.raises(DataError, match="expected"):
        read_representative(longer[:, :3], ONE, open_time=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:0], "is empty"),
        (lambda x: [], "is empty"),
        (lambda x: x[..., :2], r"shape \(5, 4, 2\); expected \(examples, 4, 3\)"),
        (lambda x: x[0], r"shape \(4, 3\)"),
        (lambda x: [x[0], x[1, :2]], "have different shapes"),
        (lambda x: np.full_like(x, 0.5), "is 0.5 everywhere"),
        (lambda x: np.where(np.arange(60).reshape(x.shape) == 17, np.nan, x), r"is nan at \[1, 1, 2\]"),
        (lambda x: np.where(np.arange(60).reshape(x.shape) == 0, 1e39, x), r"is 1e\+39 at \[0, 0, 0\]"),
        (lambda x: np.where(np.arange(60).reshape(x.shape) == 0, -1e38, x), "expected numbers of at most 1e.19"),
        (lambda x: x * 1e-40, "expected numbers of at least 1e-19"),
        (lambda x: x.astype(str), "expected numbers"),
        (lambda x: {"y": x}, "the inputs y; the model has x"),
        (lambda x: [{"y": one} for one in x], "example 0 of representative_data is for the inputs y"),
        (lambda x: 3, "is a int; expected an array"),
    ],
)
def test_what_shows_no_ranges_is_refused_in_one_sentence(x, change, message):
    with pytest.raises(DataError, match=message) as caught:
        read_representative(change(x), ONE)
    assert "\n" not in str(caught.value)


def test_inputs_must_have_as_many_examples_as_each_other(x):
    with pytest.raises(DataError, match="as many for each input"):
        read_representative({"x": x, "n": np.arange(8).reshape(4, 2)}, TWO)
    with pytest.raises(DataError, match="give a dict of arrays"):
        read_representative(x, TWO)
