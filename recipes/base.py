"""What all recipes share: settings that are checked at once, and the folder that a training run leaves."""

import difflib
import importlib.metadata
import json
import os
import shutil
import tempfile
from dataclasses import asdict, field, fields
from numbers import Integral, Real
from pathlib import Path

import numpy as np

from zoo.errors import DataError, SettingError, TrainError
from zoo.train.files import settle, write_json

_FITS = {int: Integral, float: Real, str: str}  # what becomes a setting of this type: NumPy's too
_WRITTEN_WITH = ("recurrent-zoo", "keras", "tensorflow", "numpy")


def setting(default, help, *, least=None, above=None, choices=()):
    """Return a dataclass field that carries what the command line and the checks need to know of it.

    Args:
        default: the value that stands if a user says nothing; its type is checked too.
        help: one line with the unit.
        least: the smallest value allowed, or None.
        above: a value that must be exceeded, or None.
        choices: the only values allowed, or empty.
    """
    return field(default=default, metadata={"help": help, "least": least, "above": above, "choices": choices})


def on_device(task, *shared):
    """Return the files that a bundle needs to read and to answer: of the module `task`, and by name of recipes/device.

    `task` has `read(path, card) -> {input: array}`, `answer(outputs, card)` and `show(answer) -> str`.
    """
    return (task.__file__, *(str(Path(__file__).with_name("device") / f"{name}.py") for name in shared))


class Recipe:
    """A task with data, model and training; subclasses are frozen keyword-only dataclasses of `setting` fields.

    `load()` reads the data, `model()` builds a fresh network, `train()` returns a plain `keras.Model` and its scores,
    `evaluate(model)` measures one. What stands beside an exported file: `labels`, `decode`, `example`, `held_out`,
    `metric` and its `metric_name`. `name` is the recipe's in `recipes.names()`.

    Raises:
        SettingError: a setting has an unknown name, the wrong type or a value out of range.
    """

    def __new__(cls, *values, **settings):
        known = [each.name for each in fields(cls)]
        if values:
            raise SettingError(
                f"{cls.__name__} takes its settings by name, received {values[0]!r} without one; "
                f"write {known[0]}={values[0]!r}, say. The settings are {', '.join(known)}."
            )
        for name in settings:
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                raise SettingError(
                    f"{cls.__name__} has no setting {name!r}{f'; did you mean {close[0]!r}?' if close else '.'} "
                    f"The settings are {', '.join(known)}."
                )
        return super().__new__(cls)

    def __post_init__(self):
        for each in fields(self):
            value = getattr(self, each.name)
            if each.type is str and isinstance(value, os.PathLike):
                value = os.fspath(value)
            if isinstance(value, _FITS.get(each.type, ())) and not isinstance(value, bool):
                value = each.type(value)
            object.__setattr__(self, each.name, value)  # frozen for everyone else
            _check(type(self).__name__, each, value)

    def sources(self):
        """Return all that training reads, by whose hash a run that was interrupted knows its data again."""
        return (self.load(),)


def _check(recipe, each, value):
    least, above, choices = (each.metadata[key] for key in ("least", "above", "choices"))
    most = 2**32 - 1 if each.name == "seed" else None  # what the generators of NumPy and Keras take
    expected = {int: "an int", float: "a float", bool: "a bool", str: "a string"}[each.type]
    if choices:
        expected = f"one of {', '.join(map(repr, choices))}"
    elif least is not None:
        expected += f" of {least} or more" if most is None else f" from {least} to {most}"
    elif above is not None:
        expected += f" above {above}"
    if (
        type(value) is not each.type
        or (choices and value not in choices)
        or (least is not None and not value >= least)
        or (above is not None and not value > above)
        or value in (float("inf"), float("-inf"))
        or (most is not None and value > most)
    ):
        raise SettingError(
            f"{recipe}: {each.name} is {value!r}, expected {expected} ({each.metadata['help']}); "
            f"the default is {each.default!r}."
        )


def check_new(folder):
    """Return the path of a folder that can be made; call it before work starts.

    Raises:
        SettingError: it exists, or nothing can be written where it should be.
    """
    folder = Path(folder).expanduser().absolute()
    if folder.exists():
        raise SettingError(f"{folder} exists already, expected a new folder: choose another name or remove it.")
    parent = next(parent for parent in folder.parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise SettingError(f"{folder} cannot be made because {parent} is not a folder that can be written to.")
    return folder


def save_run(folder, recipe, model, scores):
    """Write a run: `model.keras`, `recipe.json` (name, settings, versions) and `scores.json`; whole or not at all.

    Args:
        folder: a new folder.
        recipe: the recipe that was trained.
        model: what `recipe.train()` returned first.
        scores: what it returned second.

    Returns:
        The folder's path.

    Raises:
        SettingError: the folder exists or cannot be made.
    """
    folder = check_new(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        write_run(unfinished, recipe, model, scores)
        unfinished.chmod(0o777 & ~_umask())  # mkdtemp makes it private
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def write_run(folder, recipe, model, scores):
    """Write the files of a run to a folder that exists; `scores.json`, the last, says that all is there."""
    versions = {package: importlib.metadata.version(package) for package in _WRITTEN_WITH}
    try:
        model.save(folder / "model.keras")
        settle(folder / "model.keras")
    except OSError as error:
        raise TrainError(f"{folder}/model.keras could not be written ({error}); make room and try again.") from error
    write_json(folder / "recipe.json", {"recipe": recipe.name, "settings": asdict(recipe), "versions": versions})
    write_json(folder / "scores.json", scores)


def read_run(folder):
    """Return (recipe name, settings, path of the model) of a run's folder, without importing Keras.

    Raises:
        DataError: the folder is not one that `save_run` wrote.
    """
    folder = Path(folder).expanduser()
    path = folder / "recipe.json"
    if not path.is_file() or not (folder / "model.keras").is_file():
        raise DataError(
            f"{folder} is not the folder of a training run, expected recipe.json and model.keras in it: "
            "give the folder that training wrote."
        )
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        return written["recipe"], dict(written["settings"]), folder / "model.keras"
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error!r}), expected what training wrote: train again.") from error


def places(labels, known, data):
    """Return the place of each of the data's labels among those that a model knows, an array of int.

    Raises:
        DataError: a label of `data`, the name of the set, is none that the model knows.
    """
    unknown = set(labels) - set(known)
    if unknown:
        raise DataError(f"{data}: has the label {min(unknown)!r}, expected those of the model: {', '.join(known)}.")
    return np.array([known.index(label) for label in labels])


def check_fits(recipe, model):
    """Check that a model and the settings beside it are of one run.

    Raises:
        DataError: the model does not take what the recipe reads with these settings.
    """
    given, _ = recipe.held_out(1)
    given = given if isinstance(given, dict) else {model.inputs[0].name: given}
    reads = {name: each.shape[1:] for name, each in given.items()}
    takes = {each.name: tuple(each.shape[1:]) for each in model.inputs}
    if reads.keys() != takes.keys() or not all(_fits(reads[name], takes[name]) for name in takes):
        raise DataError(
            f"recipe {recipe.name} reads {reads} with these settings, and the model takes {takes}: they are not of one "
            "run; restore its recipe.json, or train again."
        )


def _fits(shape, expected):
    return len(shape) == len(expected) and all(e in (None, s) for s, e in zip(shape, expected, strict=True))


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
