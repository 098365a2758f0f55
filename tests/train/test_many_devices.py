"""Training shared out: the weights of one device, every row once, and a run that outlives its workers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from zoo import recipes, train
from zoo.cli import main
from zoo.errors import DataError, SettingError
from zoo.train import many_devices, sharing
from zoo.train.cluster import free_port

SCRIPT = Path(__file__).with_name("shared_training.py")
CLOSE = (
    2e-6  # float32 sums in another order, 18 steps of Adam on weights of about 1; clipping before the sum gives 1e-2
)
# The last batch of an epoch, of 3 rows, is seen filled up to 4 by both.


def start(command, folder, *, worker=None, port=None, backend="tensorflow"):
    """Start a process, a worker of a cluster of two if it has a number; what it says goes to FOLDER/WORKER.log."""
    cluster = {"RANK": str(worker), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment |= cluster if worker is not None else {}
    with open(folder / f"{worker or 0}.log", "w") as log:
        return subprocess.Popen([str(part) for part in command], env=environment, stdout=log, stderr=log)


def finish(processes, folder, *, seconds=240):
    """Wait for processes; return their exit statuses and what each said."""
    try:
        statuses = [process.wait(seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return statuses, [(folder / f"{number}.log").read_text() for number in range(len(processes))]


def measured(folder, *, devices, backend):
    """Run the script; return what each worker measured."""
    workers, port = (range(2), free_port()) if devices == "cluster" else ([None], None)
    command = [sys.executable, SCRIPT, devices, folder]
    started = [start(command, folder, worker=worker, port=port, backend=backend) for worker in workers]
    statuses, said = finish(started, folder)
    assert not any(statuses), "\n".join(said)[-3000:]
    return [json.loads((folder / f"{number}.json").read_text()) for number in range(len(started))]


def check(found):
    for one in found:
        assert one["alone"] < CLOSE and one["loss"] < CLOSE
        assert one["resumed"] == 0 and one["resumed_at"] == [1, 2]


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_devices_give_the_weights_of_one(tmp_path, backend):
    check(measured(tmp_path, devices=2, backend=backend))


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_workers_give_the_weights_of_one(tmp_path, backend):
    check(measured(tmp_path, devices="cluster", backend=backend))


class Numbers(train.EpochBatches):
    def __init__(self, rows, size):
        super().__init__(0)
        self.numbers, self.size = np.arange(rows), size

    def arrange(self, random):
        pass

    def __len__(self):
        return -(-len(self.numbers) // self.size)

    def __getitem__(self, index):
        rows = self.numbers[index * self.size : (index + 1) * self.size]
        return {"a": rows, "b": rows[:, None]}, -rows, None


class Peers:
    """Stands for a cluster whose workers all give what this one does, or what is told."""

    def __init__(self, worker, workers, others=()):
        self.worker, self.workers, self.others = worker, workers, others

    def exchange(self, value):
        return [value, *self.others]


@pytest.fixture
def as_worker(request):
    """Return a function that makes this process one of several workers, each with some devices."""

    def become(worker, workers, *, devices=1, others=()):
        shared = sharing.Sharing()
        shared.devices, shared.cluster = devices * workers, Peers(worker, workers, others)
        before = sharing.current_sharing.set(shared)
        request.addfinalizer(lambda: sharing.current_sharing.reset(before))

    return become


@pytest.mark.parametrize(("workers", "devices"), [(2, 1), (3, 1), (2, 2)])
def test_each_row_of_a_batch_goes_to_one_worker_and_missing_ones_are_the_first_again(as_worker, workers, devices):
    batches, seen = Numbers(12 + 5, 12), []
    for worker in range(workers):
        as_worker(worker, workers, devices=devices)
        shared = train.share(batches)
        seen.append([shared[index] for index in range(len(shared))])
        assert shared.workers == batches.workers == 1  # Keras' threads, which would hand on the second batch first
    for index in range(2):
        rows = np.concatenate([each[index][1] for each in seen])
        assert (
            rows[: len(batches[index][1])].tolist() == batches[index][1].tolist()
        )  # in their order, so that masks fit
        filled = rows[len(batches[index][1]) :]
        assert filled.tolist() == batches[index][1][: -len(batches[index][1]) % (workers * devices)].tolist()
        for each in seen:
            (inputs, targets, weights) = each[index]
            assert len(targets) == len(rows) // workers and weights is None
            assert (inputs["a"] == -targets).all() and (inputs["b"][:, 0] == -targets).all()


def test_files_go_to_one_worker_each_and_an_epoch_is_that_of_the_worker_with_the_fewest(as_worker):
    files, mine = [f"{number}.csv" for number in range(7)], []
    for worker in range(3):
        as_worker(worker, 3, others=[[2, 4], [5, 4]])
        mine.append(train.share_files(files))
        own = train.share(Numbers(10, 4), whole=False)  # three batches, the last of two rows
        assert len(own) == 2 and own[0][1].tolist() == [0, -1, -2, -3]
    assert sorted(one for each in mine for one in each) == files and max(map(len, mine)) - min(map(len, mine)) == 1
    as_worker(0, 3, others=[[9, 4], [9, 4]])
    assert train.share(Numbers(10, 4), whole=False)[2][1].tolist() == [-8, -9, -8, -9]
    with pytest.raises(DataError, match="received 2 files for 3 workers"):
        train.share_files(files[:2])
    as_worker(0, 2, others=[[2, 3]])
    with pytest.raises(DataError, match="have 4, 3 rows, expected as many of each"):
        train.share(Numbers(10, 4), whole=False)


def test_without_sharing_batches_and_files_stay_as_they_are():
    batches = Numbers(3, 2)
    assert train.share(batches) is batches and train.share(batches, whole=False) is batches
    assert train.share_files(["a"]) == ["a"]
    with train.distributed(1) as alone:
        assert (alone.devices, alone.workers, alone.chief) == (1, 1, True)


@pytest.mark.parametrize("devices", [0, -1, 1.5, True, "two", None])
def test_a_number_of_devices_that_cannot_be_is_refused(devices):
    with pytest.raises(SettingError, match="expected 'all', 'cluster' or a number"), train.distributed(devices):
        pass


def test_running_statistics_become_the_mean_over_workers_and_frozen_weights_are_not_sent():
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.BatchNormalization()])
    model.layers[0].trainable = False
    model.layers[1].moving_mean.assign([1, 2, 3])
    said = []

    class Other(Peers):
        def exchange(self, value):
            said.append(value)
            other = [[5, 2, 0]] if len(said) == 2 else [*value[:-2], "another moving mean", value[-1]]
            return [value, other]

    shared = object.__new__(sharing.Workers)
    shared.cluster, kernel = Other(0, 2), model.layers[0].get_weights()[0]
    shared.settle(model)
    assert said[1] == [[1, 2, 3]]
    assert model.layers[1].moving_mean.numpy().tolist() == [3, 2, 1.5]
    np.testing.assert_array_equal(model.layers[0].get_weights()[0], kernel)


def test_more_devices_than_there_are_are_refused():
    import tensorflow as tf

    assert len(tf.config.list_logical_devices()) < 99  # from here on there can be no more
    with pytest.raises(SettingError, match="devices is 99, and this machine has"), train.distributed(99):
        pass


def test_a_backend_that_cannot_is_refused(monkeypatch):
    monkeypatch.setattr(many_devices.keras.backend, "backend", lambda: "torch")
    with pytest.raises(SettingError, match="on the backend 'torch', expected tensorflow or jax"), train.distributed(2):
        pass


def test_a_cluster_that_comes_too_late_says_so_and_the_others_hear(monkeypatch):
    cluster, ended = train.Cluster("127.0.0.1:1", 1, 0), []
    monkeypatch.setattr(cluster, "join", lambda: None)
    monkeypatch.setattr(cluster, "abandon", lambda: ended.append(True))
    monkeypatch.setattr(many_devices, "Workers", too_late)
    with pytest.raises(SettingError, match="has to come before all else that tensorflow computes: too late"):
        train.distributed(cluster).__enter__()
    assert ended


def too_late(cluster):
    raise RuntimeError("too late")


def test_windows_of_long_sequences_are_refused(as_worker):
    import keras

    model = keras.Sequential([keras.Input((None, 1)), keras.layers.SimpleRNN(2, return_sequences=True)])
    trainer = train.TruncatedBPTT(model, steps=2)
    trainer.compile("sgd", "mse")
    as_worker(0, 2)
    with pytest.raises(SettingError, match="TruncatedBPTT trains on one device"):
        trainer.fit(np.zeros((1, 4, 1)), np.zeros((1, 4, 2)))


def test_a_chief_that_does_not_answer_ends_the_command_in_time_and_writes_nothing(tmp_path, monkeypatch, capsys):
    port = free_port()
    cluster = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in cluster.items():
        monkeypatch.setenv(name, value)
    begun = time.monotonic()
    command = ["train", "forecasting", "--out", str(tmp_path / "run"), "--devices", "cluster", "--wait", "0.5"]
    assert main(command) == 1
    assert time.monotonic() - begun < 10
    assert f"worker 1 got no answer from the chief at 127.0.0.1:{port} within 0.5 s" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def command(folder, *options):
    small = ["--units", "4", "--epochs", "4", "--dropout", "0", "--checkpoint-every", "3"]
    zoo = [sys.executable, "-c", "import sys, zoo.cli; sys.exit(zoo.cli.main())"]
    return [*zoo, "train", "forecasting", *small, "--out", folder / "run", "--devices", "cluster", *options]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_workers_of_other_settings_stop_and_write_nothing(tmp_path, backend):
    port = free_port()
    started = [
        start(command(tmp_path, *more), tmp_path, worker=worker, port=port, backend=backend)
        for worker, more in enumerate([(), ("--seed", "3")])
    ]
    statuses, said = finish(started, tmp_path)
    assert all(statuses)
    for text in said:
        assert "worker 1 and the chief do not agree on settings: seed=3, the chief 0" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.log", "1.log"]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_run_whose_worker_was_killed_goes_on_to_the_weights_of_one_left_alone(tmp_path, backend, victim):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()

    def both(folder):
        port = free_port()
        return [start(command(folder), folder, worker=worker, port=port, backend=backend) for worker in range(2)]

    statuses, said = finish(both(whole), whole)
    assert statuses == [0, 0], said
    started = both(killed)
    while not any(killed.glob("run.unfinished/checkpoints/000000*.npz")):
        assert all(process.poll() is None for process in started)
        time.sleep(0.01)
    started[victim].send_signal(signal.SIGKILL)
    dead = time.monotonic()
    assert started[1 - victim].wait(30) == 1
    assert time.monotonic() - dead < 10
    _, said = finish(started, killed)
    assert f"{'worker 1' if victim else 'the chief'} has stopped, and so does worker {1 - victim}" in said[1 - victim]
    statuses, said = finish(both(killed), killed)
    assert statuses == [0, 0] and "going on from the last checkpoint" in said[0]
    expected = recipes.load(whole / "run")[1].get_weights()
    for one, other in zip(recipes.load(killed / "run")[1].get_weights(), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert sorted(path.name for path in killed.iterdir()) == ["0.log", "1.log", "run"]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", recipes.names())
def test_every_recipe_trains_on_two_devices(tmp_path, recipe):
    small = {"forecasting": [], "keyword_spotting": ["--network", "crnn"]}.get(recipe, [])
    zoo = [sys.executable, "-c", "import sys, zoo.cli; sys.exit(zoo.cli.main())"]
    options = ["--units", "8", "--epochs", "1", "--devices", "2", "--out", tmp_path / "run", *small]
    statuses, said = finish([start([*zoo, "train", recipe, *options], tmp_path)], tmp_path)
    assert statuses == [0], said
    assert recipes.load(tmp_path / "run")
