"""Static covariates: what columns say of each series as a whole, from the table to the device."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from zoo import export
from zoo.data.series import load_series
from zoo.errors import DataError, SettingError
from zoo.recipes import Forecasting
from zoo.recipes.forecasting import device
from zoo.recipes.forecasting.scores import MIDDLE

SMALL = {"network": "deepar", "look_back": 12, "horizon": 4, "units": 8, "paths": 20, "series_column": "shop"}
SIZES = {"look_back": 12, "horizon": 4, "series_column": "shop"}
HEADER = "date,shop,region,size,sold"


def write(path, rows, header=HEADER):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def of_shop(shop, region, size, values):
    return [f"{day},{shop},{region},{size},{value:.4f}" for day, value in enumerate(values)]


@pytest.fixture(scope="module")
def shops(tmp_path_factory):
    """Values that the past alone does not tell: they leap up or down, as the region says, by the shop's size."""
    random, rows = np.random.default_rng(0), []
    for number in range(8):
        region, size = ("south", "north")[number % 2], 1 + number // 2
        leaps = (1 if region == "north" else -1) * size * (np.arange(120) % 4 == 0).cumsum() / 2
        rows += of_shop(f"shop {number}", region, size, leaps + 0.02 * random.normal(size=120))
    return write(tmp_path_factory.mktemp("shops") / "shops.csv", rows)


def test_words_and_numbers_are_told_apart_and_are_no_channels(shops):
    series = load_series(shops, static_columns="region, size", **SIZES)
    assert series.channels == ("sold",)
    assert series.static == (("region", ("north", "south")), ("size", ()))
    assert [panel.static for panel in series.panels[:3]] == [(1.0, 1.0), (0.0, 1.0), (1.0, 2.0)]


def test_each_window_says_what_its_series_is(shops):
    recipe = Forecasting(data=shops, static_columns="region,size", **SMALL)
    inputs, _ = recipe.cut(np.array([[3, 0], [0, 5]]))
    np.testing.assert_array_equal(inputs["static"], [[0, 2], [1, 1]])


def test_what_is_said_is_read_and_learnt(shops):
    """The leaps of a series that has shown none yet: up or down is in the table alone."""
    recipe = Forecasting(
        data=shops, static_columns="region,size", scaling="train", **SMALL | {"epochs": 6, "learning_rate": 0.01}
    )
    model, _ = recipe.train(verbose=0)
    flat = np.zeros((2, 12, 1), "float32")
    ahead = model.predict({"history": flat, "static": np.array([[0, 3], [1, 3]], "float32")}, verbose=0)
    north, south = ahead[:, -1, 0, MIDDLE]
    assert north > 0.5 and south < -0.5  # a leap of 3 / 2 every fourth step, of values with a spread of about 20


def test_a_device_reads_what_the_model_reads(tmp_path):
    card = {
        "labels": ["sold"],
        "settings": {"look_back": 2, "static_columns": "region,size"},
        "assets": {device.STATIC: b'[["region", ["north", "south"]], ["size", []]]'},
    }
    path = write(tmp_path / "a.csv", of_shop("x", "south", 2.5, [1, 2, 3]))
    np.testing.assert_array_equal(device.read(path, card)["static"], [[1, 2.5]])
    for region, size, says in (
        ("east", 2, "column 'region' has 'east' in the last row; expected one of north, south"),
        ("north", "", "column 'size' has nothing in the last row; expected a number"),
        ("north", "big", "column 'size' has 'big'; expected a number"),
    ):
        with pytest.raises(DataError, match=says):
            device.read(write(path, of_shop("x", region, size, [1, 2, 3])), card)
    with pytest.raises(DataError, match="no column 'region'"):
        device.read(write(path, ["1,2", "2,3"], "date,sold"), card)
    for assets in ({}, {device.STATIC: b"{}"}, {device.STATIC: b"[1]"}, {device.STATIC: b"\xff"}):
        with pytest.raises(DataError, match=r"has no static\.json of the columns region, size"):
            device.read(write(path, ["1,2", "2,3"], "date,sold"), card | {"assets": assets})


@pytest.mark.on_tensorflow
def test_a_bundle_reads_the_columns_without_the_zoo(shops, tmp_path):
    recipe = Forecasting(data=shops, static_columns="region,size", **SMALL)
    model = recipe.model()
    folder = export.bundle(recipe, model, tmp_path / "shops", formats=("onnx",), schemes=("float32",))
    last = write(tmp_path / "last.csv", of_shop("new", "south", 3, np.arange(12)))
    code = f"import sys; sys.argv = ['run.py', {str(last)!r}]; import run; sys.exit(run.main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=True)
    rows = np.array([row.split(",") for row in done.stdout.splitlines()[1:]], float)
    history = np.arange(12, dtype="float32").reshape(1, 12, 1)
    expected = model.predict({"history": history, "static": np.array([[1, 3]], "float32")}, verbose=0)
    np.testing.assert_allclose(rows[:, 1], expected[0, :, 0, MIDDLE], rtol=1e-4, atol=1e-4)  # six digits are shown


def test_words_that_the_model_does_not_know_are_named(shops, tmp_path):
    recipe = Forecasting(data=shops, static_columns="region,size", **SMALL)
    model = recipe.model()
    other = tmp_path / "other.csv"
    other.write_text(shops.read_text().replace("north", "west"))
    with pytest.raises(DataError, match="'region' says south, west, expected what the model learnt: north, south"):
        replace(recipe, data=str(other)).evaluate(model)
    other.write_text(shops.read_text().replace("north", "1").replace("south", "2"))
    with pytest.raises(DataError, match="'region' says numbers, expected what the model learnt: north, south"):
        replace(recipe, data=str(other)).assets(model)


STEADY = of_shop("a", "north", 1, range(40))


@pytest.mark.parametrize(
    ("rows", "columns", "says"),
    [
        (STEADY + of_shop("b", "south", 1, range(40)), "size", "'size' says '1' of every series, which tells none"),
        (STEADY + of_shop("b", "", 1, range(40)), "region", "row 42: column 'region' says '' of series 'b', expected"),
        (
            STEADY + of_shop("b", "south", 1, range(39)) + of_shop("b", "east", 1, [1.0]),
            "region",
            "row 81: column 'region' says 'east' of series 'b' and 'south' in row 42, expected one thing",
        ),
        (STEADY, "colour", "there is no column 'colour'"),
    ],
)
def test_columns_that_say_nothing_certain_are_explained(tmp_path, rows, columns, says):
    with pytest.raises(DataError, match=says):
        load_series(write(tmp_path / "a.csv", rows), static_columns=columns, **SIZES)


def test_a_series_of_which_too_little_is_said_is_left_out_if_asked(tmp_path):
    rows = STEADY + of_shop("b", "", 1, range(40)) + of_shop("c", "south", 1, range(40))
    series = load_series(write(tmp_path / "a.csv", rows), static_columns="region", skip_bad=True, **SIZES)
    assert [panel.name for panel in series.panels] == ["a", "c"] and series.skipped[0][0] == "row 42"


def test_static_columns_of_one_series_or_another_network_are_refused(tmp_path):
    path = write(tmp_path / "a.csv", [row.replace(",a,", ",") for row in STEADY], "date,region,size,sold")
    with pytest.raises(DataError, match="no column names the series"):
        load_series(path, look_back=12, horizon=4, static_columns="region")
    with pytest.raises(SettingError, match="static_columns is 'region', which network 'segrnn' does not read"):
        Forecasting(static_columns="region")
