"""The forecasting recipe: its face, its scores, that it learns, and that its files take what a user has."""

import csv
import functools
import io
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from zoo import export
from zoo.errors import DataError, SettingError
from zoo.export.session import Session
from zoo.recipes import Forecasting
from zoo.recipes.forecasting import device as forecasting_device
from zoo.recipes.forecasting.scores import LEVELS, Scores

NETWORKS = pytest.mark.parametrize("network", ["segrnn", "deepar", "echo_state"])
SMALL = {"look_back": 24, "horizon": 6, "units": 16, "epochs": 5, "batch_size": 16, "learning_rate": 0.01}


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    """A table of two channels that repeat after 30 hours, one a thousand times the other, with noise and gaps."""
    random = np.random.default_rng(0)
    hours = np.arange(700)
    wave = np.sin(2 * np.pi * hours / 30)  # the naive forecast, by the day, is wrong
    values = np.stack([5 + wave, 1000 * (40 + wave)], axis=1) + random.normal(size=(700, 2)) * [0.1, 100]
    cells = [["" if random.uniform() < 0.02 else f"{value:.5g}" for value in row] for row in values]
    times = np.datetime64("2024-01-01T00", "h") + hours
    path = tmp_path_factory.mktemp("waves") / "waves.csv"
    rows = [f"{time}:00,{low},{high}" for time, (low, high) in zip(times, cells, strict=True)]
    path.write_text("\n".join(["time,low,high", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def train(waves):
    @functools.cache
    def train(network):
        recipe = Forecasting(data=waves, network=network, **SMALL)
        return recipe, *recipe.train(verbose=0)

    return train


@pytest.fixture(params=["segrnn", "echo_state"])
def trained(request, train):
    return train(request.param)


@NETWORKS
def test_a_past_goes_in_and_quantiles_come_out(network):
    recipe = Forecasting(network=network, units=8)
    model = recipe.model()
    assert model.input_shape == (None, 96, 1) and model.inputs[0].name == "history"
    assert model.predict(recipe.held_out(3)[0], verbose=0).shape == (3, 24, 1, len(LEVELS))


@NETWORKS
@pytest.mark.parametrize("scaling", ["train", "window"])
def test_forecasts_follow_the_unit_of_the_series(network, scaling, tmp_path):
    """What is learnt in one unit is the same in another: the model scales, so that nobody else has to."""
    rows = np.random.normal(size=(200, 1)).cumsum(axis=0)

    def predict(unit, offset):
        path = tmp_path / f"{unit}.csv"
        path.write_text("\n".join(["year,y", *(f"{2000 + t},{unit * v + offset:.12g}" for t, (v,) in enumerate(rows))]))
        keras.utils.set_random_seed(1)
        recipe = Forecasting(data=path, network=network, scaling=scaling, **SMALL | {"units": 8})
        return recipe.model().predict(recipe.held_out(5)[0], verbose=0)

    np.testing.assert_allclose(predict(1000, 3000), 1000 * predict(1, 0) + 3000, rtol=1e-4)  # float32


def test_training_beats_the_naive_forecast(trained):
    recipe, _, scores = trained
    assert scores["mase"] < 0.5 and scores["windows"] == len(recipe.load().windows("test", 24, 6))
    # of 0.1 noise, which nothing can foretell: its share of the variance of the wave and the noise
    assert scores["mse"] > 0.5 * 0.01 / (0.5 + 0.01)
    assert 0.75 < scores["coverage"] <= 1.0 and np.isfinite(list(scores[n] for n in ("mae", "smape"))).all()


def test_quantiles_grow_and_their_middle_is_what_was_learnt(trained):
    recipe, model, _ = trained
    past, _ = recipe.held_out(20)
    forecast = model.predict(past, verbose=0)
    assert (np.diff(forecast, axis=-1) >= 0).all()
    _, level, spread = model.get_layer("scale").output
    parts = keras.Model(model.input, [model.get_layer("scaled").output, level, spread]).predict(past, verbose=0)
    np.testing.assert_allclose(forecast[..., LEVELS.index(0.5)], parts[0] * parts[2] + parts[1], rtol=1e-5)  # float32


def test_quantiles_are_those_of_the_errors_on_validation(trained):
    recipe, model, _ = trained
    series = recipe.load()
    past, future = series.cut(series.windows("validation", 24, 6), 24, 6)
    forecast = model.predict(past, verbose=0)
    known = np.isfinite(future)
    for place, level in enumerate(LEVELS):
        below = (future < forecast[..., place])[known].mean()
        # in order about the median, which alone is no quantile of the errors, and may move a quantile to itself
        assert level == 0.5 or abs(below - level) < 0.05 or (forecast[..., place] == forecast[..., 3]).any(), level


def test_training_is_repeatable(train):
    recipe, one, scores = train("segrnn")
    two, again = recipe.train(verbose=0)
    for first, second in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    assert scores == again and len(scores["history"]["val_loss"]) == recipe.epochs


def test_missing_values_go_in(trained):
    recipe, model, _ = trained
    past, _ = recipe.held_out(10)
    past[:, 5:9, 0], past[:, 20:, 1] = np.nan, np.nan
    assert np.isfinite(model.predict(past, verbose=0)).all()


def test_steps_that_validation_never_saw_have_quantiles_too(tmp_path):
    rows = [f"{1900 + t}," + ("" if t == 73 else f"{np.sin(t):.5f}") for t in range(100)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["year,y", *rows]))
    settings = {"data": path, "look_back": 12, "horizon": 10, "units": 8, "epochs": 1}  # one window validates
    with pytest.raises(DataError, match=r"every window of the validation split misses a value .* network='segrnn'"):
        Forecasting(**settings, network="echo_state").train(verbose=0)
    model, scores = Forecasting(**settings).train(verbose=0)
    assert not np.any(model.get_layer("quantiles").offset[3]) and np.any(model.get_layer("quantiles").offset[4])
    assert np.isfinite(scores["mse"])


def test_it_says_the_same_after_saving(trained, tmp_path):
    from zoo import recipes

    recipe, model, scores = trained
    recipes.save(tmp_path / "run", recipe, model, scores)
    again, loaded = recipes.load(tmp_path / "run")
    assert again == recipe
    past, _ = recipe.held_out(4)
    # float32: sums that are shared out among threads in another way
    np.testing.assert_allclose(loaded.predict(past, verbose=0), model.predict(past, verbose=0), rtol=1e-6)


def test_scores_are_those_of_scikit_learn_and_of_the_definitions():
    from sklearn import metrics

    random = np.random.default_rng(3)
    future, forecast = random.normal(size=(9, 4, 2)), np.sort(random.normal(size=(9, 4, 2, len(LEVELS))), axis=-1)
    panels, naive, spread = np.arange(9) % 3, random.uniform(0.5, 2, size=(3, 2)), np.array([2.0, 0.5])
    scores = Scores(spread, naive)
    scores.add(panels[:5], future[:5], forecast[:5])
    scores.add(panels[5:], future[5:], forecast[5:])
    found, middle = scores.means(), forecast[..., 3]
    flat = [each.reshape(-1) for each in (future / spread, middle / spread)]
    assert found["mse"] == pytest.approx(metrics.mean_squared_error(*flat))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(*flat))
    losses = [
        2 * metrics.mean_pinball_loss(flat[0], (forecast[..., place] / spread).reshape(-1), alpha=level)
        for place, level in enumerate(LEVELS)
    ]
    assert found["quantile_loss"] == pytest.approx(np.mean(losses))
    each = [abs(y - f) / naive[p % 3, c] for p in range(9) for y, f, c in _values(future[p], middle[p])]
    assert found["mase"] == pytest.approx(np.mean(each))
    each = [200 * abs(y - f) / (abs(y) + abs(f)) for p in range(9) for y, f, _ in _values(future[p], middle[p])]
    assert found["smape"] == pytest.approx(np.mean(each))
    inside = (forecast[..., 1] <= future) & (future <= forecast[..., 5])
    assert found["coverage"] == inside.mean() and found["windows"] == 9


def _values(future, forecast):
    return [(future[h, c], forecast[h, c], c) for h in range(4) for c in range(2)]


def test_missing_futures_count_in_no_score():
    future, forecast = np.ones((2, 3, 1)), np.zeros((2, 3, 1, len(LEVELS)))
    future[0, 1:] = np.nan
    whole, gappy = Scores([1.0], [[1.0]]), Scores([1.0], [[1.0]])
    whole.add(np.zeros(1, int), np.ones((1, 3, 1)), forecast[:1])
    gappy.add(np.zeros(2, int), future, forecast)
    assert whole.means() | {"windows": 2} == gappy.means()


def test_the_metric_is_one_less_mase(trained):
    recipe, model, scores = trained
    past, labels = recipe.held_out(10_000)
    assert recipe.metric(model.predict(past, verbose=0), labels) == pytest.approx(1 - scores["mase"], abs=1e-6)


def test_every_window_of_the_test_split_is_scored(trained):
    recipe, model, scores = trained
    series = recipe.load()
    (panel,) = series.panels
    starts = range(panel.test - 24, len(panel.values) - 24 - 6 + 1)
    forecasts = model.predict(np.stack([panel.values[s : s + 24] for s in starts]).astype("float32"), verbose=0)
    errors = np.stack([panel.values[s + 24 : s + 30] for s in starts]) - forecasts[..., 3]
    assert scores["mae"] == pytest.approx(np.nanmean(np.abs(errors) / series.spread()), rel=1e-5)  # float32
    assert scores["windows"] == len(starts)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"network": "arima"}, "network is 'arima', expected one of 'segrnn'"),
        ({"look_back": 50}, "look_back is 50 and segment 12; expected a whole number of segments"),
        ({"units": 7}, "units is 7; segrnn expects an even number"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"scaling": "both"}, "scaling is 'both', expected 'train', 'window' or nothing"),
        ({"horizon": 0}, "horizon is 0"),
    ],
)
def test_wrong_settings_stop_before_any_work(settings, says):
    with pytest.raises(SettingError, match=says):
        Forecasting(**settings)


def test_a_look_back_longer_than_the_series_is_explained():
    with pytest.raises(DataError, match="of them 512 in the train split, expected at least 744"):
        Forecasting(look_back=720).load()


@pytest.fixture(scope="module")
def bundle(train, tmp_path_factory):
    recipe, model, _ = train("segrnn")
    return recipe, model, export.bundle(recipe, model, tmp_path_factory.mktemp("bundle") / "waves")


@pytest.mark.on_tensorflow
@pytest.mark.parametrize("file", ["float32.tflite", "float32.onnx", "dynamic_int8.tflite", "dynamic_int8.onnx"])
def test_files_take_missing_values_as_the_model_does(bundle, file):
    recipe, model, folder = bundle
    past, _ = recipe.held_out(4)
    past[:, :3, 0], past[:, 10:13, 1], past[2, 22:] = np.nan, np.nan, np.nan
    session = Session(folder / f"forecasting.{file}")
    for one in past:
        (got,) = session({"history": one[None]}).values()
        expected = model.predict(one[None], verbose=0)
        # float32 rounds in another order; int8 weights are off by up to 1/127 of the largest, in each of three layers
        error = np.abs(got - expected).max(axis=(0, 1, 3)) / recipe.load().spread()
        assert (error < (1e-5 if "float32" in file else 0.1)).all()


@pytest.mark.on_tensorflow
@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_as_many_channels_as_quantiles_are_not_mistaken_for_them(format, tmp_path):
    """What the exporters trace was seen to multiply (..., 7, 7) by (..., 7, 1) as if it were (..., 1, 7)."""
    steps, names = np.arange(300), [f"c{number}" for number in range(len(LEVELS))]
    rows = [",".join([str(1800 + t), *(f"{10**n * np.sin(t + n):.5g}" for n in range(len(names)))]) for t in steps]
    path = tmp_path / "a.csv"
    path.write_text("\n".join([",".join(["year", *names]), *rows]))
    recipe = Forecasting(data=path, look_back=24, horizon=24, units=8)
    model, (past, _) = recipe.model(), recipe.held_out(1)
    file = {"tflite": export.to_tflite, "onnx": export.to_onnx}[format](model, tmp_path / f"a.{format}")
    (got,) = Session(file)({"history": past}).values()
    off = np.abs(got - model.predict(past, verbose=0)).max(axis=(0, 1, 3)) / recipe.load().spread()
    assert off.max() < 1e-5  # float32: sums in another order


@pytest.mark.on_tensorflow
def test_a_bundle_forecasts_from_a_csv_without_the_zoo(bundle, waves, tmp_path):
    recipe, model, folder = bundle
    blocked = "import sys; sys.modules |= dict.fromkeys(['zoo', 'keras', 'tensorflow', 'pandas']); "
    code = f"{blocked}sys.argv = ['run.py', {str(waves)!r}]; import run; sys.exit(run.main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=True)
    header, *rows = csv.reader(io.StringIO(done.stdout))
    assert header == ["step", "low", "low 5%", "low 95%", "high", "high 5%", "high 95%"]
    (panel,) = recipe.load().panels
    expected = model.predict(panel.values[None, -24:].astype("float32"), verbose=0)[0][:, :, [3, 1, 5]].reshape(6, 6)
    assert [row[0] for row in rows] == list("123456")
    np.testing.assert_allclose(np.array(rows, float)[:, 1:], expected, rtol=1e-5)  # six digits are shown


@pytest.mark.on_tensorflow
def test_the_card_says_how_much_of_the_naive_error_is_saved(bundle):
    *_, folder = bundle
    card = json.loads((folder / "card.json").read_text())
    assert card["metric"]["name"] == "1 - MASE" and card["metric"]["model"] > 0.1
    assert card["settings"]["data"] == "waves.csv" and json.loads((folder / "labels.json").read_text()) == [
        "low",
        "high",
    ]


def test_decode_names_channels_and_quantiles(trained):
    recipe, model, _ = trained
    past, at = recipe.example()
    outputs = model.predict(past, verbose=0)
    decoded = recipe.decode(outputs)
    assert list(decoded) == ["low", "high"] and list(decoded["low"]) == list(LEVELS)
    np.testing.assert_allclose(decoded["high"][0.95], outputs[0, :, 1, 5])
    assert at == str(np.datetime64("2024-01-01T00:00:00") + np.timedelta64(699 - 6, "h"))


CARD = {"labels": ["b", "a"], "settings": {"look_back": 3, "time_column": ""}}


def given(path, *rows, header="date,a,b"):
    path.write_text("\n".join([header, *rows]))
    return path


def test_a_device_reads_the_last_rows_by_the_names_of_the_columns(tmp_path):
    path = given(tmp_path / "a.csv", "2024-01-01,1,2", "2024-01-02,3,4", "2024-01-03,,6", "2024-01-04,NA,8")
    (history,) = forecasting_device.read(path, CARD).values()
    assert history.dtype == np.float32
    np.testing.assert_array_equal(history, [[[4, 3], [6, np.nan], [8, np.nan]]])


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["2024-01-01,1,2"] * 2, "has 2 rows; the model looks back over 3"),
        (["2024-01-01,1,2", "2024-01-02,3", "2024-01-03,1,1"], "row 3 has 2 cells; the header has 3"),
        (["2024-01-01,1,2", "2024-01-02,x,2", "2024-01-03,1,1"], "row 3: column 'a' has 'x'; expected a number"),
        (["2024-01-01,1,2", "2024-01-02,inf,2", "2024-01-03,1,1"], "row 3: column 'a' has 'inf'"),
        (["2024-01-01,1,2", "2024-01-03,1,2", "2024-01-02,1,1"], "row 4: the time '2024-01-02' is not later"),
        (["2024-01-01,1,2", "2024-01-01,1,2", "2024-01-02,1,1"], "row 3: the time '2024-01-01' is not later"),
        (["2024-01-01,,2", "2024-01-02,,2", "2024-01-03,NA,1"], "no number in the last 3 rows of column 'a'"),
    ],
)
def test_a_device_explains_what_it_cannot_read(tmp_path, rows, says):
    with pytest.raises(DataError, match=says):
        forecasting_device.read(given(tmp_path / "a.csv", *rows), CARD)


def test_a_device_explains_files_that_are_no_table(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        forecasting_device.read(tmp_path / "none.csv", CARD)
    with pytest.raises(DataError, match="has no column 'b'; it has date, a"):
        forecasting_device.read(given(tmp_path / "a.csv", "2024-01-01,1", header="date,a"), CARD)
    (tmp_path / "b.csv").write_bytes(b"date,a,b\n\xff\xfe,1,2")
    with pytest.raises(DataError, match="no CSV file in UTF-8"):
        forecasting_device.read(tmp_path / "b.csv", CARD)
    with pytest.raises(DataError, match="look_back is 'x'; expected a whole number"):
        forecasting_device.read(tmp_path / "a.csv", CARD | {"settings": {"look_back": "x"}})


def test_a_device_refuses_outputs_of_another_model():
    with pytest.raises(DataError, match=r"gives \(6, 1, 7\); expected \(steps, 2 channels, 7 quantiles\)"):
        forecasting_device.answer({"forecast": np.zeros((1, 6, 1, 7))}, CARD)


def test_the_recipes_first_lines_are_what_was_measured():
    root = Path(__file__).parents[2]
    measured = json.loads((root / "docs" / "results" / "forecasting-etth1.json").read_text())
    errors, seconds = measured["errors"]["96"], measured["training_seconds"].values()
    text = " ".join(sys.modules[Forecasting.__module__].__doc__.split())
    assert f"MSE {errors['mse']['mean']:.3f}, MAE {errors['mae']['mean']:.3f}, the mean of two seeds" in text
    assert measured["seeds"] == 2 and f"{min(seconds):.0f} to {max(seconds):.0f} s" in text
