"""The folder of a run from its first moment: NAME.unfinished, which can be taken up again, until it becomes NAME."""

import fcntl
import importlib.util
import json
import os
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

from zoo.errors import DataError, SettingError
from zoo.train import files, surroundings
from zoo.train.fingerprint import fingerprint

DESCRIPTION = "run.json"
DIAGNOSIS = "diagnosis.json"
_CHECKPOINTS = "checkpoints"
_DECIDING = {"recipe": SettingError, "settings": SettingError, "versions": DataError, "data": DataError}


class RunFolder:
    """A run in the making: settings, hash of the data, checkpoints and history, in a folder beside the final one.

    Used in `with`: no other process can train into the folder meanwhile. When training was interrupted the folder
    stays, if there is a checkpoint in it, and a new `RunFolder` of the same recipe goes on from there.

        run.json         recipe, settings, seed, versions, backend, hash of the data, git state, hardware, sessions
        history.csv      what each epoch brought
        diagnosis.json   what went wrong, and the gradients by layer and by lag
        checkpoints/     gone when the run is finished
        tensorboard/     if asked for

    Args:
        folder: the final one, which must not exist yet.
        recipe: with its settings; its data is read.
        cluster: the `zoo.train.Cluster` whose workers train it together, each with a folder of its own, or None.

    Raises:
        SettingError: the unfinished folder is of other settings, or another process trains into it; or the workers of
            the cluster are of different settings.
        DataError: it is of other data or versions, or is damaged; or the workers are of different ones.
    """

    def __init__(self, folder, recipe, *, cluster=None):
        self.final = Path(folder).expanduser().absolute()
        self.path, self._cluster = self.final.with_name(f"{self.final.name}.unfinished"), cluster
        self._description = {
            "recipe": recipe.name,
            "settings": asdict(recipe),
            "seed": getattr(recipe, "seed", None),
            "versions": surroundings.versions(),
            "data": fingerprint(recipe.sources()),
        }

    def __enter__(self):
        import keras

        self._description["versions"]["backend"] = keras.backend.backend()
        if self._cluster:
            self._cluster.agree(self._description | {"versions": self._computing(self._description["versions"])})
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise SettingError(
                f"another process trains into {self.path}: wait for it, or name another folder."
            ) from None
        try:
            sessions = self._sessions()
        except BaseException:
            os.close(self._lock)
            raise
        self._describe([*sessions, {"started": _now()}])
        return self

    def __exit__(self, kind, error, trace):
        if self.path.exists() and not self.resumable and not self.finished:
            shutil.rmtree(self.path)  # nothing in it would spare any work
        os.close(self._lock)

    @property
    def checkpoints(self):
        """The folder of the checkpoints."""
        return self.path / _CHECKPOINTS

    @property
    def resumable(self):
        """Whether there is a checkpoint to go on from."""
        return any(self.checkpoints.glob("*.npz"))

    @property
    def finished(self):
        """Whether all is written, and the folder has only to be given its name."""
        return (self.path / "scores.json").is_file()

    def callbacks(self, *, every=0, tensorboard=False):
        """Return the callbacks that keep the folder: for `recipe.train(callbacks=...)`.

        Args:
            every: batches between checkpoints within an epoch; 0 for the ends of epochs alone.
            tensorboard: whether to write for TensorBoard as well.

        Raises:
            SettingError: TensorBoard is asked for and not installed.
        """
        import keras

        from zoo.train.diagnosis import Diagnosis
        from zoo.train.history_file import HistoryFile
        from zoo.train.resume import Resume

        if tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise SettingError("--tensorboard needs the package tensorboard: pip install 'recurrent-zoo[tensorboard]'.")
        board = [keras.callbacks.TensorBoard(self.path / "tensorboard")] if tensorboard else []
        diagnosis = Diagnosis(self.path / DIAGNOSIS, look_back="look_back" in self._description["settings"])
        return [*board, diagnosis, HistoryFile(self.path / "history.csv"), Resume(self.checkpoints, every=every)]

    def finish(self):
        """Give the folder its final name, now that all is written; the checkpoints go."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        sessions = self._written()["sessions"]
        sessions[-1]["finished"] = _now()
        self._describe(sessions)
        files.settle(self.path)
        os.rename(self.path, self.final)
        files.settle(self.final.parent)
        return self.final

    def _describe(self, sessions):
        outside = {"git": surroundings.git_state(), "hardware": surroundings.hardware(), "command": sys.argv}
        files.write_json(self.path / DESCRIPTION, self._description | outside | {"sessions": sessions})

    def _sessions(self):
        """Return when the run was worked at before; compare what it was begun with."""
        if not (self.path / DESCRIPTION).exists():
            if any(not path.name.endswith(files.UNFINISHED) for path in self.path.iterdir()):
                raise SettingError(
                    f"{self.path} exists already and is no unfinished run: choose another name or remove it."
                )
            return []
        before = self._written()
        for name, error in _DECIDING.items():
            was, now = before[name], self._description[name]
            if name == "versions":
                was, now = map(self._computing, (was, now))
            if was != now:
                raise error(
                    f"{self.path} is a run of {_difference(name, was, now)}: go on as it was begun, choose another "
                    "name, or remove that folder to begin anew."
                )
        return before["sessions"]

    def _computing(self, versions):
        """Return, of all versions, those that this run computes with."""
        used = ("recurrent-zoo", "keras", "numpy", "backend", self._description["versions"]["backend"])
        return {key: versions.get(key) for key in used}

    def _written(self):
        path = self.path / DESCRIPTION
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return {name: found[name] for name in (*_DECIDING, "sessions")}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged ({error!r}): remove {self.path} to begin anew.") from error


def _difference(name, was, now):
    if name == "data":
        return "other data: what is read has changed since"
    if name == "recipe":
        return f"the recipe {was!r}, received {now!r}"
    keys = [key for key in {**was, **now} if was.get(key) != now.get(key)]
    return ", ".join(f"{key}={was.get(key)!r}, received {now.get(key)!r}" for key in keys)


def _now():
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
