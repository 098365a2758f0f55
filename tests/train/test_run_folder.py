"""Runs that are killed and started again from a shell, and the folder in which they wait."""

import csv
import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import pytest

from zoo import recipes, train
from zoo.cli import main
from zoo.errors import DataError, SettingError
from zoo.train import run_folder, surroundings
from zoo.train.run_folder import RunFolder

TINY = {
    "forecasting": ["--units", "4", "--epochs", "4", "--checkpoint-every", "3"],
    "image_captioning": [
        *("--units", "8", "--width", "8", "--epochs", "2", "--checkpoint-every", "5", "--own-words", "0.2"),
    ],
    "video_captioning": ["--units", "8", "--width", "8", "--epochs", "2", "--checkpoint-every", "5"],
    "keyword_spotting": ["--network", "small", "--units", "4", "--epochs", "3", "--checkpoint-every", "5"],
    "sentiment": ["--units", "4", "--embedding", "8", "--epochs", "4", "--checkpoint-every", "5"],
    "speech_recognition": [
        *("--units", "8", "--layers", "1", "--channels", "8", "--epochs", "3", "--seconds", "3"),
        *("--checkpoint-every", "3"),
    ],
}


def killed(folder, recipe, kills, seed=0):
    """Run the script of kills; return (folder of the run that was left alone, folders of those that were killed)."""
    script = Path(__file__).with_name("killed_runs.py")
    command = [sys.executable, script, kills, seed, folder, "train", recipe, *TINY[recipe]]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count("killed with") == kills
    return folder / "whole", sorted(folder.glob("killed-*"))


def assert_equal_runs(whole, others):
    expected = recipes.load(whole)[1].weights
    for folder in others:
        for one, other in zip(expected, recipes.load(folder)[1].weights, strict=True):
            np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (one, other)), err_msg=one.path)
        for name in ("scores.json", "diagnosis.json"):
            assert (folder / name).read_text() == (whole / name).read_text()
        assert timeless(folder) == timeless(whole)
        assert sorted(path.name for path in folder.iterdir()) == [
            *("diagnosis.json", "history.csv", "model.keras", "recipe.json", "run.json", "scores.json")
        ]


def timeless(folder):
    """history.csv without what a clock says."""
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    assert all(float(row.pop("seconds")) > 0 and float(row.pop("batches_per_second")) > 0 for row in rows)
    assert all(0 <= float(row.pop("input_seconds")) < 60 for row in rows)
    return rows


def test_a_run_that_is_killed_three_times_ends_as_one_that_is_not(tmp_path, capsys):
    whole, others = killed(tmp_path, "forecasting", 3)
    assert_equal_runs(whole, others)
    assert [row["epoch"] for row in timeless(whole)] == ["1", "2", "3", "4"]
    history = json.loads((whole / "scores.json").read_text())["history"]
    assert [float(row["val_loss"]) for row in timeless(whole)] == history["val_loss"]
    sessions = [json.loads((folder / "run.json").read_text())["sessions"] for folder in others]
    assert sum(map(len, sessions)) == 3 + len(others) or sum(map(len, sessions)) == 3 + len(others) - 1
    assert all("finished" in each[-1] for each in sessions)
    assert main(["diagnose", str(whole)]) == 0
    found = json.loads((whole / "diagnosis.json").read_text())
    shown = capsys.readouterr().out
    assert "nothing found" in shown and found["findings"] == []
    assert f"after epoch {list(found['measured'])[-1]}" in shown and "|dLoss/dh[T - lag]|" in shown
    (whole / "diagnosis.json").write_text('{"findings": [{}], "measured": {}}')
    assert main(["diagnose", str(whole)]) == 1
    assert "diagnosis.json is damaged" in capsys.readouterr().err
    assert main(["diagnose", str(tmp_path)]) == 1
    assert "has no diagnosis.json" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("recipe", TINY)
def test_runs_of_every_recipe_that_are_killed_end_as_ones_that_are_not(tmp_path, recipe):
    """Five random moments each: more than twenty altogether."""
    assert_equal_runs(*killed(tmp_path, recipe, 5, seed=1))


def test_every_recipe_is_among_those_that_are_killed():
    assert set(TINY) == set(recipes.names())


@dataclass(frozen=True)
class Toy:
    units: int = 3
    seed: int = 5
    data: str = "one"
    name = "toy"

    def sources(self):
        return ({"values": np.arange(4), "text": self.data.partition("/")[2]},)


@pytest.fixture
def unfinished(tmp_path):
    """The final folder of a toy run that was interrupted after a checkpoint."""
    with RunFolder(tmp_path / "run", Toy()) as run:
        run.checkpoints.mkdir()
        (run.checkpoints / "000001-00000000-x.npz").write_bytes(b"")
    return run.final


def content(folder):
    return {path: path.read_bytes() for path in Path(folder).parent.rglob("*") if path.is_file()}


def test_an_interrupted_run_is_found_again_and_says_what_it_is(unfinished):
    with RunFolder(unfinished, Toy()) as run:
        assert run.resumable and not run.finished
    said = json.loads((run.path / "run.json").read_text())
    assert (said["recipe"], said["seed"], said["settings"]) == ("toy", 5, {"units": 3, "seed": 5, "data": "one"})
    assert said["versions"]["keras"] == keras.__version__ and said["versions"]["backend"] == keras.backend.backend()
    assert len(said["sessions"]) == 2 and said["hardware"]["cores"] >= 1 and said["hardware"]["devices"]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    assert said["git"] is None if not commit else said["git"]["commit"] == commit


@pytest.mark.parametrize(
    ("toy", "error", "says"),
    [
        (Toy(units=4), SettingError, r"units=3, received 4: go on as it was begun"),
        (Toy(seed=6, units=4), SettingError, r"units=3, received 4, seed=5, received 6"),
        (replace(Toy(), data="one/changed"), SettingError, r"data='one', received 'one/changed'"),
    ],
)
def test_a_run_of_other_settings_is_refused_and_left_as_it_is(unfinished, toy, error, says):
    before = content(unfinished)
    with pytest.raises(error, match=says), RunFolder(unfinished, toy):
        pass
    assert content(unfinished) == before


def test_data_that_changed_is_noticed(unfinished, monkeypatch):
    before = content(unfinished)
    monkeypatch.setattr(Toy, "sources", lambda self: ({"values": np.arange(5), "text": ""},))
    with pytest.raises(DataError, match="other data: what is read has changed since"), RunFolder(unfinished, Toy()):
        pass
    assert content(unfinished) == before


def test_another_version_is_noticed(unfinished, monkeypatch):
    monkeypatch.setattr(surroundings, "versions", lambda: {"keras": "2.0"})
    with pytest.raises(DataError, match=r"keras='.*', received '2.0'"), RunFolder(unfinished, Toy()):
        pass


def test_a_damaged_description_is_refused(unfinished):
    (unfinished.with_name("run.unfinished") / run_folder.DESCRIPTION).write_text("{")
    with pytest.raises(DataError, match=r"run\.json is damaged"), RunFolder(unfinished, Toy()):
        pass


def test_two_processes_do_not_train_into_one_folder(unfinished):
    again = RunFolder(unfinished, Toy())
    with (
        RunFolder(unfinished, Toy()),
        pytest.raises(SettingError, match="another process trains into"),
        again,
    ):
        pass
    with again:  # once the first is gone
        assert again.resumable


def test_a_folder_of_something_else_is_not_touched(tmp_path):
    (tmp_path / "run.unfinished").mkdir()
    (tmp_path / "run.unfinished" / "diary.txt").write_text("mine")
    with pytest.raises(SettingError, match="is no unfinished run"), RunFolder(tmp_path / "run", Toy()):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["run.unfinished", "diary.txt"]


def test_what_a_kill_leaves_before_the_description_is_written_is_no_hindrance(tmp_path):
    (tmp_path / "run.unfinished").mkdir()
    (tmp_path / "run.unfinished" / ".run.json.unfinished").write_text("{")
    with RunFolder(tmp_path / "run", Toy()) as run:
        assert not run.resumable


def test_a_run_that_fails_before_a_checkpoint_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), RunFolder(tmp_path / "deep" / "run", Toy()):
        raise ZeroDivisionError
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("tensorboard", [False, True])
def test_the_callbacks_of_a_run_write_history_and_checkpoints(tmp_path, tensorboard):
    if tensorboard:
        pytest.importorskip("tensorboard", reason="--tensorboard needs it")
    batches = train.ArrayBatches(np.ones((9, 2), "float32"), np.ones((9, 1), "float32"), batch_size=4, seed=0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    with RunFolder(tmp_path / "run", Toy()) as run:
        callbacks = train.together(batches, *run.callbacks(every=2, tensorboard=tensorboard))
        history = model.fit(batches, epochs=2, callbacks=callbacks, shuffle=False, verbose=0).history
    rows = timeless(run.path)
    assert [float(row["loss"]) for row in rows] == history["loss"]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx([0.01, 0.01])
    assert all(file.stat().st_size > 100 for file in (run.path / "tensorboard").rglob("events*"))
    assert bool(list((run.path / "tensorboard").rglob("events*"))) == tensorboard
    assert [path.name[:15] for path in sorted(run.checkpoints.iterdir())] == [
        *("000001-00000000", "000001-00000002", "000002-00000000")
    ]


def test_tensorboard_that_is_not_installed_is_named(unfinished, monkeypatch):
    monkeypatch.setattr(run_folder.importlib.util, "find_spec", lambda name: None)
    with RunFolder(unfinished, Toy()) as run, pytest.raises(SettingError, match="needs the package tensorboard"):
        run.callbacks(tensorboard=True)


def test_a_run_that_is_killed_when_all_is_written_only_gets_its_name(unfinished):
    waiting = unfinished.with_name("run.unfinished")
    (waiting / "scores.json").write_text("{}")
    with RunFolder(unfinished, Toy()) as run:
        assert run.finished
        run.finish()
    assert sorted(path.name for path in unfinished.iterdir()) == ["run.json", "scores.json"]
    assert "finished" in json.loads((unfinished / "run.json").read_text())["sessions"][-1]
    assert not waiting.exists()
