"""What feeds training: batches of like length, and features kept on disk."""

import csv
import time

import keras
import numpy as np
import pytest

from zoo import train
from zoo.errors import DataError, SettingError
from zoo.train.history_file import HistoryFile


def made(**options):
    random = np.random.default_rng(0)
    sequences = [np.full((int(n), 2), i + 1, "float32") for i, n in enumerate(random.integers(3, 200, 101))]
    settings = {"batch_size": 8, "seed": 4, "padding": -1.0} | options
    return sequences, train.BucketBatches(sequences, np.arange(101), **settings)


def test_every_sequence_is_whole_in_a_batch_with_its_target_and_padding_behind():
    sequences, batches = made()
    seen, steps = set(), []
    for x, y in (batches[index] for index in range(len(batches))):
        assert len(x) == 8 and x.shape[1] in batches.lengths
        for row, target in zip(x, y, strict=True):
            own = sequences[target]
            np.testing.assert_array_equal(row[: len(own)], own)
            assert (row[len(own) :] == -1).all()
            steps.append((len(own), len(row)))
        seen |= set(y)
    assert seen == set(range(101))
    assert batches.padding_share == pytest.approx(1 - np.sum(steps, axis=0)[0] / np.sum(steps, axis=0)[1])


def test_like_lengths_take_less_padding_than_one_length():
    assert made()[1].padding_share < 0.5 * made(buckets=1)[1].padding_share


def test_the_order_is_a_function_of_seed_and_epoch():
    (_, one), (_, two) = made(), made()
    first = one[0][1].tolist()
    one.begin(1)
    one.begin(3)
    two.begin(3)
    np.testing.assert_array_equal(one[2][0], two[2][0])
    one.begin(0)
    assert one[0][1].tolist() == first != two[0][1].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_the_first_two_batches_differ_in_length(seed):
    _, batches = made(seed=seed)
    assert batches[0][0].shape != batches[1][0].shape


def test_what_cannot_be_batched_is_refused():
    with pytest.raises(DataError, match="received 0 sequences"):
        train.BucketBatches([], np.zeros(0), batch_size=1, seed=0)
    with pytest.raises(DataError, match="1 sequences and 2 targets"):
        train.BucketBatches([np.zeros(3)], np.zeros(2), batch_size=1, seed=0)


@pytest.mark.parametrize("name", ["buckets", "batch_size", "seed"])
@pytest.mark.parametrize("value", [-1, 2.5, "4", True, None])
def test_numbers_that_are_not_whole_are_refused_by_name(name, value):
    with pytest.raises(SettingError, match=f"{name} is {value!r}; expected a whole number"):
        made(**{name: value})
    if name != "buckets":
        with pytest.raises(SettingError, match=f"{name} is {value!r}; expected a whole number"):
            train.ArrayBatches(np.zeros((4, 2)), **{"batch_size": 2, "seed": 0, name: value})


@pytest.mark.parametrize(
    ("arrays", "shapes"),
    [
        ((), "none"),
        ((np.zeros((4, 2)), np.zeros(3)), r"\(4, 2\), \(3,\)"),
        ((np.zeros((4, 2)), {"a": np.zeros(4), "b": np.zeros(())}), r"\(4, 2\), \(4,\), \(\)"),
        ((np.zeros((2, 2)), [1.0, 2.0]), r"\(2, 2\), None, None"),
    ],
)
def test_arrays_of_unequal_rows_are_refused(arrays, shapes):
    with pytest.raises(SettingError, match=f"received arrays of the shapes {shapes}; expected"):
        train.ArrayBatches(*arrays, batch_size=2, seed=0)


class Slow(train.EpochBatches):
    padding_share = 0.25

    def __init__(self):
        super().__init__(0)
        self.clock = 0.0
        self.begin(0)

    def arrange(self, random):
        pass

    def __len__(self):
        return 3

    def __getitem__(self, index):
        self.clock += 2.0
        return np.ones((2, 1), "float32"), np.ones((2, 1), "float32")


def test_the_history_says_what_making_batches_took_and_the_share_of_padding(tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    batches = Slow()
    monkeypatch.setattr(time, "perf_counter", lambda: batches.clock)
    callbacks = train.together(batches, HistoryFile(tmp_path / "history.csv"))
    model.fit(batches, epochs=3, callbacks=callbacks, shuffle=False, verbose=0)
    rows = list(csv.DictReader((tmp_path / "history.csv").read_text().splitlines()))
    assert [row["padding_share"] for row in rows] == ["0.25"] * 3
    assert [row["input_seconds"] for row in rows] == ["6.0"] * 3  # each of its own epoch alone


def test_whole_numbers_of_numpy_are_as_good_as_pythons():
    (_, one), (_, two) = made(), made(batch_size=np.int64(8), seed=np.uint8(4), buckets=np.int32(6))
    np.testing.assert_array_equal(one[0][0], two[0][0])
    assert [type(value) for value in (two.batch_size, two.seed)] == [int, int]
    with pytest.raises(SettingError, match="keep is 0; expected a whole number"):
        train.Resume("folder", keep=0)


def test_features_are_computed_once_for_each_key(tmp_path):
    calls = []

    def compute():
        calls.append(True)
        return {"a": np.arange(len(calls) * 3), "b": np.array(["x"])}

    one = train.kept(tmp_path / "cache", {"mels": 32, "data": np.arange(4)}, compute)
    again = train.kept(tmp_path / "cache", {"mels": 32, "data": np.arange(4)}, compute)
    assert len(calls) == 1 and sorted(again) == ["a", "b"]
    np.testing.assert_array_equal(one["a"], again["a"])
    train.kept(tmp_path / "cache", {"mels": 33, "data": np.arange(4)}, compute)
    train.kept(tmp_path / "cache", {"mels": 32, "data": np.arange(5)}, compute)
    assert len(calls) == 3 and len(list((tmp_path / "cache").iterdir())) == 3


def test_a_damaged_file_is_computed_again(tmp_path):
    for damage in (b"", b"PK nonsense"):
        train.kept(tmp_path, "key", lambda: {"a": np.arange(3)})
        (path,) = tmp_path.iterdir()
        path.write_bytes(damage)
        assert train.kept(tmp_path, "key", lambda: {"a": np.arange(5)})["a"].tolist() == list(range(5))
        assert [one.name for one in tmp_path.iterdir()] == [path.name]
