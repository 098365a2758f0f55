"""Settings, run folders and the list of recipes, apart from any task."""

import ast
import json
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import keras
import numpy as np
import pytest

from zoo import recipes
from zoo.errors import DataError, SettingError
from zoo.recipes.base import Recipe, check_new, read_run, setting


@dataclass(frozen=True, kw_only=True)
class Toy(Recipe):
    data: str = setting("demo", "a path")
    kind: str = setting("one", "which", choices=("one", "two"))
    units: int = setting(0, "width", least=0)
    rate: float = setting(0.5, "Hz", above=0.0)
    strict: bool = setting(True, "stop at once")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"unitz": 3}, r"no setting 'unitz'; did you mean 'units'\? .*data, kind, units, rate, strict"),
        ({"colour": 3}, r"no setting 'colour'. The settings are data"),
        ({"kind": "three"}, r"kind is 'three', expected one of 'one', 'two'"),
        ({"units": -1}, r"units is -1, expected an int of 0 or more \(width\); the default is 0"),
        ({"units": "3"}, r"units is '3', expected"),
        ({"units": True}, r"units is True, expected"),
        ({"units": 3.0}, r"units is 3.0, expected"),
        ({"rate": 0}, r"rate is 0.0, expected a float above 0.0 \(Hz\)"),
        ({"rate": float("nan")}, r"rate is nan, expected"),
        ({"rate": float("inf")}, r"rate is inf, expected"),
        ({"rate": None}, r"rate is None, expected"),
        ({"strict": 1}, r"strict is 1, expected a bool"),
        ({"data": 3}, r"data is 3, expected a str"),
    ],
)
def test_a_wrong_setting_is_named_at_once(settings, says):
    with pytest.raises(SettingError, match=says):
        Toy(**settings)


def test_a_setting_without_its_name_is_refused():
    with pytest.raises(SettingError, match="takes its settings by name, received 'somewhere'"):
        Toy("somewhere")


def test_whole_numbers_serve_as_fractions_and_paths_as_strings(tmp_path):
    toy = Toy(rate=2, data=tmp_path)
    assert (toy.rate, toy.data) == (2.0, str(tmp_path))
    assert type(toy.rate) is float


def test_numbers_and_strings_of_numpy_are_kept_as_pythons():
    toy = Toy(units=np.int64(3), rate=np.float64(0.25), data=np.str_("here"))
    assert (toy.units, toy.rate, toy.data) == (3, 0.25, "here")
    assert (type(toy.units), type(toy.rate), type(toy.data)) == (int, float, str)
    with pytest.raises(SettingError, match=r"strict is .*True.*, expected a bool"):
        Toy(strict=np.True_)


def test_settings_do_not_change_afterwards():
    with pytest.raises(AttributeError):
        Toy().units = 3


def test_every_setting_of_every_recipe_has_a_type_a_default_and_help():
    for name in recipes.names():
        assert recipes.get(name).name == name
        for each in fields(recipes.get(name)):
            assert each.type in (str, int, float, bool) and type(each.default) is each.type
            assert each.metadata["help"]


def test_names_and_classes_agree():
    assert recipes.get("keyword_spotting") is recipes.KeywordSpotting
    assert recipes.names()["keyword_spotting"]
    with pytest.raises(SettingError, match="no recipe 'kws', expected one of keyword_spotting"):
        recipes.get("kws")
    with pytest.raises(AttributeError, match="its recipes are KeywordSpotting"):
        recipes.Kws  # noqa: B018


def test_listing_recipes_imports_no_framework():
    code = (
        "import sys; from zoo import recipes; recipes.names();"
        "print({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.fixture
def run(tmp_path):
    """The folder of a run of an untrained model."""
    recipe = recipes.KeywordSpotting(network="small", units=3, seed=7)
    return recipe, recipes.save(tmp_path / "runs" / "one", recipe, recipe.model(), {"accuracy": 0.1, "history": {}})


def test_a_saved_run_comes_back_whole(run):
    recipe, folder = run
    again, model = recipes.load(folder)
    assert again == recipe
    samples = recipe.held_out(3)[0]
    keras.utils.set_random_seed(0)
    assert sorted(path.name for path in folder.iterdir()) == ["model.keras", "recipe.json", "scores.json"]
    assert json.loads((folder / "scores.json").read_text()) == {"accuracy": 0.1, "history": {}}
    expected = keras.saving.load_model(folder / "model.keras").predict(samples, verbose=0)
    np.testing.assert_array_equal(model.predict(samples, verbose=0), expected)
    assert [path.name for path in folder.parent.iterdir()] == ["one"]


def test_a_folder_that_exists_is_not_touched(run):
    recipe, folder = run
    with pytest.raises(SettingError, match="exists already, expected a new folder"):
        recipes.save(folder, recipe, recipe.model(), {})


def test_a_run_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    recipe = recipes.KeywordSpotting(network="small", units=3)
    with pytest.raises(TypeError):  # scores that JSON cannot hold
        recipes.save(tmp_path / "run", recipe, recipe.model(), {"accuracy": object()})
    assert not list(tmp_path.iterdir())


def test_a_folder_below_a_file_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="is not a folder that can be written to"):
        check_new(tmp_path / "file" / "run")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match="is not the folder of a training run"):
        recipes.load(tmp_path)


@pytest.mark.parametrize("written", ["{", "[]", '{"recipe": "keyword_spotting"}', '{"recipe": "x", "settings": 3}'])
def test_a_damaged_description_is_refused(run, written):
    (run[1] / "recipe.json").write_text(written)
    with pytest.raises(DataError, match=r"recipe\.json is damaged"):
        read_run(run[1])


def test_a_damaged_model_is_refused(run):
    (run[1] / "model.keras").write_bytes(b"PK nonsense")
    with pytest.raises(DataError, match="cannot be read as a Keras model"):
        recipes.load(run[1])


def test_a_model_file_that_carries_code_is_refused(run):
    _, folder = run
    samples = keras.Input((8,))
    keras.Model(samples, keras.layers.Lambda(lambda x: x + 1)(samples)).save(folder / "model.keras")
    with pytest.raises(DataError, match="cannot be read as a Keras model"):
        recipes.load(folder)


@pytest.mark.parametrize("name", recipes.names())
def test_what_runs_on_a_device_imports_numpy_and_what_the_recipe_names(name):
    packages = getattr(recipes.get(name), "device_packages", ())
    allowed = {"numpy", *("PIL" if package == "Pillow" else package for package in packages)}
    files = [Path(file) for file in recipes.get(name).device_files]
    assert files[0].parent.name == name and files[0].name == "device.py"
    ours = {"zoo", "contents", *(file.stem for file in files)}
    for file in files:
        tree = ast.walk(ast.parse(file.read_text()))
        modules = [
            node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
            for node in tree
            if isinstance(node, (ast.Import, ast.ImportFrom))
        ]
        assert {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names) - ours <= allowed
