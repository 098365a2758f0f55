"""The package as a whole: what it costs to import, and where its rooms are found."""

import os
import subprocess
import sys

import pytest

HEAVY = ("tensorflow", "keras", "jax", "torch", "numpy", "scipy", "matplotlib", "onnx", "onnxruntime", "ai_edge_litert")


@pytest.mark.parametrize(
    ("code", "seconds"),
    [
        ("import zoo", 0.3),
        ("from zoo import recipes, export", 0.3),
        ("from zoo.cli import main; main(['list'])", 0.5),
    ],
    ids=["import zoo", "import the rooms", "zoo list"],
)
def test_nothing_heavy_is_imported_and_it_is_quick(code, seconds):
    check = f"import sys; {code}; sys.exit(' '.join({set(HEAVY)} & set(sys.modules)) or None)"
    process = subprocess.Popen([sys.executable, "-c", check], stdout=subprocess.DEVNULL, cwd="/")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert usage.ru_utime + usage.ru_stime < seconds  # of processor, as other tests may be running beside this one


def test_rooms_are_found_from_any_folder(tmp_path):
    code = "from zoo import recipes, export; from importlib.util import find_spec as f; print(f('zoo.layers').name)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("zoo.layers\n", "")


def test_every_folder_of_code_is_in_the_package():
    """A folder that pyproject.toml forgets works from the repository and is missing where people install from."""
    import tomllib
    from pathlib import Path

    root = Path(__file__).parents[1]
    setup = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    rooms = {folder: name for name, folder in setup["package-dir"].items()}
    found = {
        ".".join([rooms[top], *init.parent.relative_to(root / top).parts])
        for top in rooms
        for init in (root / top).rglob("__init__.py")
    }
    assert found == set(setup["packages"])


def test_an_unknown_room_is_named():
    import zoo

    with pytest.raises(AttributeError, match="data, export, layers, recipes, train"):
        zoo.kitchen  # noqa: B018
