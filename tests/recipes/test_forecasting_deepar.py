"""The forecaster that learns how the future is distributed: its likelihood, its paths, its calendar, its files."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from zoo import export
from zoo.errors import DataError, SettingError
from zoo.export.session import Session
from zoo.recipes import Forecasting
from zoo.recipes.forecasting import device
from zoo.recipes.forecasting.likelihood import TaughtWindows, Teacher, negative_log_likelihood
from zoo.recipes.forecasting.scores import LEVELS
from zoo.recipes.forecasting.views import backtest, sample_paths

SMALL = {"network": "deepar", "look_back": 24, "horizon": 6, "units": 8, "paths": 100}


def table(path, times, *columns):
    rows = [",".join([str(time), *(str(value) for value in row)]) for time, *row in zip(times, *columns, strict=True)]
    path.write_text("\n".join([",".join(["date", *(f"c{n}" for n in range(len(columns)))]), *rows]))
    return path


@pytest.fixture(scope="module")
def hourly(tmp_path_factory):
    """Three weeks of hours of two channels with gaps."""
    random, hours = np.random.default_rng(0), np.arange(504)
    first = [f"{value:.4f}" for value in np.sin(2 * np.pi * hours / 24) + 0.1 * random.normal(size=504)]
    second = [f"{1000 + 50 * value:.1f}" for value in random.normal(size=504).cumsum()]
    first[5], second[100], second[503] = "", "NA", ""
    times = np.datetime64("2024-01-01T00:00:00") + hours * np.timedelta64(1, "h")
    return table(tmp_path_factory.mktemp("hourly") / "hourly.csv", times, first, second)


def randomised(model):
    """Weights that nobody would find by chance to give the same; few steps far from the past."""
    random = np.random.default_rng(1)
    for weight in model.get_layer("deepar").trainable_weights:
        weight.assign(0.3 * random.normal(size=weight.shape))
    return model


@pytest.fixture(scope="module")
def untrained(hourly):
    recipe = Forecasting(data=hourly, calendar=True, **SMALL)
    return recipe, randomised(recipe.model())


@pytest.mark.parametrize(("degrees", "distribution"), [(0, stats.norm), (3, stats.t(3)), (8, stats.t(8))])
def test_the_likelihood_is_scipys_and_what_is_missing_counts_as_nothing(degrees, distribution):
    value, mean = np.random.normal(size=(2, 5, 4, 3))
    spread = np.random.uniform(0.1, 3, size=(5, 4, 3))
    future = np.where(np.random.uniform(size=value.shape) < 0.3, np.nan, value)
    told = np.concatenate([value, mean, spread], axis=-1).astype("float32")
    expected = -distribution.logpdf((value - mean) / spread) + np.log(spread)
    found = negative_log_likelihood(degrees)(ops.convert_to_tensor(future.astype("float32")), told)
    np.testing.assert_allclose(found, np.where(np.isnan(future), 0, expected).mean(), rtol=1e-5)  # float32


def test_the_teacher_shows_the_true_past_and_the_last_known_value_for_a_missing_one(untrained):
    recipe, model = untrained
    windows = TaughtWindows(recipe, "train", shuffle=False)
    inputs, future = windows[1]
    assert np.isnan(future).any() and set(inputs) == {"history", "future", "clock"}
    standing = ops.convert_to_numpy(model.get_layer("standing")(model.get_layer("scale")(inputs["history"])[1]))
    shown, mean, spread = np.split(ops.convert_to_numpy(Teacher(model)(inputs)), 3, axis=-1)
    _, level, size = (ops.convert_to_numpy(each) for each in model.get_layer("scale")(inputs["history"]))
    known = np.isfinite(future)
    np.testing.assert_allclose(shown[known], ((future - level) / size + standing)[known], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(standing, (level - recipe.load().mean()) / recipe.load().spread(), rtol=1e-4, atol=1e-4)
    row, step, channel = next(place for place in np.argwhere(~known) if place[1] > 0)
    assert shown[row, step, channel] == shown[row, step - 1, channel]
    # of the first value it tells what the model draws from: the mean of symmetric draws, and how far they lie apart
    first = ops.convert_to_numpy(model.get_layer("deepar")(*_read(model, inputs)))[:, 0]
    np.testing.assert_allclose(first.mean(axis=-1), mean[:, 0], rtol=1e-3, atol=1e-4)  # float32
    deviation = stats.norm.ppf((np.arange(100) + 0.5) / 100).std()
    np.testing.assert_allclose(first.std(axis=-1), spread[:, 0] * deviation, rtol=1e-3)


def _read(model, inputs):
    """What the network reads: the series, and what is known with it."""
    scaled, level, _ = model.get_layer("scale")(inputs["history"])
    return scaled + model.get_layer("standing")(level), model.get_layer("cycles")(inputs["clock"])


def test_without_noise_every_path_is_the_recursion_of_the_mean(untrained):
    recipe, model = untrained
    network = model.get_layer("deepar")
    inputs, _ = recipe.held_out(3)
    scaled, known = _read(model, inputs)
    paths = ops.convert_to_numpy(network.walk(scaled, known, np.zeros((5, 6), "float32")))
    whole = np.concatenate([scaled, np.zeros((3, 6, 2), "float32")], axis=1)
    for step in range(6):  # what was told becomes what is read
        whole[:, 24 + step] = ops.convert_to_numpy(network.told(whole, known)[0])[:, step]
    np.testing.assert_allclose(paths, np.repeat(whole[:, 24:, :, None], 5, axis=-1), rtol=1e-4, atol=1e-5)  # float32


@pytest.mark.on_tensorflow
@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_files_draw_the_paths_of_the_model(untrained, format, tmp_path):
    recipe, model = untrained
    inputs, _ = recipe.held_out(4)
    inputs["history"][:, 3:7, 0], inputs["history"][1, 20:, 1] = np.nan, np.nan
    path = {"tflite": export.to_tflite, "onnx": export.to_onnx}[format](model, tmp_path / f"m.{format}")
    session, expected = Session(path), model.predict(inputs, verbose=0)
    for row in range(4):
        (found,) = session({name: array[row : row + 1] for name, array in inputs.items()}).values()
        off = np.abs(found[0] - expected[row]).max(axis=(0, 2)) / recipe.load().spread()
        assert off.max() < 2e-5  # float32: sums in another order, fed back six times; the level is 1000


def ar1(path, steps, decay):
    """Write x[t] = decay x[t-1] + e[t], e of variance 1; return the file."""
    random = np.random.default_rng(5)
    values = [0.0]
    for noise in random.normal(size=steps - 1):
        values.append(decay * values[-1] + noise)
    return table(path, np.arange(steps), [f"{value:.6f}" for value in values])


def test_of_a_process_that_is_known_the_quantiles_are_right(tmp_path):
    """x[t] = 0.8 x[t-1] + e[t]: h steps ahead 0.8^h x on average, with the variance (1 - 0.64^h) / (1 - 0.64)."""
    data = ar1(tmp_path / "ar1.csv", 3000, 0.8)
    settings = {"look_back": 8, "horizon": 4, "units": 8, "paths": 500, "epochs": 6, "learning_rate": 0.02}
    recipe = Forecasting(data=data, time_column="date", **SMALL | settings)
    model, scores = recipe.train(verbose=0)
    # 595 windows whose futures overlap: the standard deviation of the share is about 0.02
    assert abs(scores["coverage"] - 0.9) < 0.05
    past, _ = recipe.held_out(300)
    forecast = model.predict(past, verbose=0)[:, :, 0]
    ahead = np.arange(1, 5)
    deviation = np.sqrt((1 - 0.64**ahead) / (1 - 0.64))
    middle = past[:, -1:, 0] * 0.8**ahead
    # learnt from 2,100 steps, of which the noise's own deviation is known to 1.5%, and the decay to 0.013
    np.testing.assert_allclose(np.median(forecast[..., 5] - forecast[..., 1], axis=0), 2 * 1.645 * deviation, rtol=0.1)
    assert np.sqrt(np.mean((forecast[..., 3] - middle) ** 2)) < 0.2 * deviation[-1]


def test_paths_are_drawn_from_what_the_quantiles_show(untrained):
    recipe, model = untrained
    inputs, _ = recipe.held_out(2)
    paths = sample_paths(recipe, model, inputs, count=2000, seed=1)
    assert paths.shape == (2, 6, 2, 2000)
    np.testing.assert_array_equal(paths, sample_paths(recipe, model, inputs, count=2000, seed=1))
    assert (paths != sample_paths(recipe, model, inputs, count=2000, seed=2)).any()
    forecast = model.predict(inputs, verbose=0)
    width = forecast[..., 5:6] - forecast[..., 1:2]
    off = np.abs(np.moveaxis(np.quantile(paths, LEVELS, axis=-1), 0, -1) - forecast) / width
    assert off[..., 1:6].max() < 0.15  # the model's are of 100 paths, whose 5% quantile is that far off at times
    # each path is one walk: its steps belong together, or neighbours would be no closer than others
    one = paths[0, :, 1]
    assert np.corrcoef(one[4], one[5])[0, 1] > np.corrcoef(one[0], one[5])[0, 1] > 0


def test_what_cannot_be_drawn_is_refused(untrained):
    recipe, model = untrained
    with pytest.raises(SettingError, match="count is 0, expected a whole number"):
        sample_paths(recipe, model, recipe.held_out(1)[0], count=0)
    with pytest.raises(SettingError, match="network is 'segrnn', which draws no paths"):
        sample_paths(Forecasting(), model, None)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"degrees": 2}, "degrees is 2, expected 3 or more"),
        ({"calendar": True}, "calendar is True, which network 'segrnn' does not read"),
        ({"paths": 5}, "paths is 5, expected an int of 10 or more"),
    ],
)
def test_wrong_settings_stop_before_any_work(settings, says):
    with pytest.raises(SettingError, match=says):
        Forecasting(**settings)


def test_the_calendar_is_that_of_the_last_step_of_the_past(untrained):
    recipe, model = untrained
    (inputs, at), (panel,) = recipe.example(), recipe.load().panels
    assert at == "2024-01-21T17:00:00"
    np.testing.assert_allclose(inputs["clock"], [[17 / 24, (6 + 17 / 24) / 7, (20 + 17 / 24) / 366]], rtol=1e-6)
    assert model.get_layer("cycles").turns == [1 / 24, 1 / 168, 0.0]  # training sees two weeks, and no two years
    assert at == str(panel.times[-7])
    origin = backtest(recipe, model)[-1]
    read = {"history": origin.past[None], "clock": device.clock(origin.past_times[-1:])}
    off = np.abs(model.predict(read, verbose=0)[0] - origin.forecast).max(axis=(0, 2)) / recipe.load().spread()
    assert off.max() < 1e-5  # float32, in a batch of another size


def test_a_calendar_without_dates_or_turns_is_explained(tmp_path):
    numbers = table(tmp_path / "numbers.csv", range(200), np.arange(200) % 7)
    with pytest.raises(DataError, match="its times are no dates, and calendar=True reads them"):
        Forecasting(data=numbers, calendar=True, **SMALL).model()
    hours = np.datetime64("2024-01-01T00") + np.arange(100)
    times = np.concatenate([hours, np.datetime64("2024-01-01") + np.arange(100)]).astype("datetime64[s]")
    path = table(tmp_path / "two.csv", times, np.arange(200) % 7)
    rows = path.read_text().splitlines()
    rows = [f"{row},{name}" for row, name in zip(rows, ["series", *"a" * 100, *"b" * 100], strict=True)]
    path.write_text("\n".join(rows))
    short = SMALL | {"look_back": 12}
    with pytest.raises(DataError, match="a step of some series is 3600 s and of others 86400 s"):
        Forecasting(data=path, calendar=True, **short).model()
    years = table(tmp_path / "years.csv", [f"{1800 + n}-01-01" for n in range(200)], np.arange(200) % 7)
    with pytest.raises(DataError, match="training sees no two days, weeks or years in steps that tell them"):
        Forecasting(data=years, calendar=True, **SMALL).model()


CARD = {"labels": ["c0"], "settings": {"look_back": 2, "calendar": True}}


@pytest.mark.parametrize(
    ("header", "before", "last"),
    [
        ("date,c0", "2024-03-05 16:30:00,1", "2024-03-05 17:30:00,1"),
        ("date,c0", "2024-03-05T16:30:00Z,1", "2024-03-05T19:30:00+02:00,1"),
        ("date,c0", "2024-03-05T16:30,1", "2024-03-05T12:15-0515,1"),
    ],
)
def test_a_device_reads_the_clock_of_the_last_row(tmp_path, header, before, last):
    path = tmp_path / "a.csv"
    path.write_text("\n".join([header, before, last]))
    expected = device.clock(np.array(["2024-03-05T17:30:00"], "datetime64[s]"))
    np.testing.assert_allclose(device.read(path, CARD)["clock"], expected, rtol=1e-6)


def test_a_device_reads_year_month_day_and_hour_and_days_without_dashes(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("No,year,month,day,hour,c0\n1,2024,3,5,8,1\n2,2024,3,5,9,1")
    expected = device.clock(np.array(["2024-03-05T09:00:00"], "datetime64[s]"))
    np.testing.assert_allclose(device.read(path, CARD)["clock"], expected, rtol=1e-6)
    path.write_text("day,c0\n20240304,1\n20240305,1")
    expected = device.clock(np.array(["2024-03-05T00:00:00"], "datetime64[s]"))
    np.testing.assert_allclose(device.read(path, CARD)["clock"], expected, rtol=1e-6)
    path.write_text("day,c0\n1,1\n2,1")
    with pytest.raises(DataError, match="the last row's time is '2'; expected a date, as the model reads the calendar"):
        device.read(path, CARD)


@pytest.mark.slow
@pytest.mark.on_tensorflow
def test_a_bundle_reads_the_calendar_without_the_zoo(untrained, hourly, tmp_path):
    recipe, model = untrained
    folder = export.bundle(recipe, model, tmp_path / "hourly", formats=("onnx",), schemes=("float32",))
    blocked = "import sys; sys.modules |= dict.fromkeys(['zoo', 'keras', 'tensorflow', 'pandas', 'scipy']); "
    code = f"{blocked}sys.argv = ['run.py', {str(hourly)!r}]; import run; sys.exit(run.main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=True)
    rows = [row.split(",") for row in done.stdout.splitlines()[1:]]
    (panel,) = recipe.load().panels
    inputs = {"history": panel.values[None, -24:].astype("float32"), "clock": device.clock(panel.times[-1:])}
    expected = model.predict(inputs, verbose=0)[0][:, :, [3, 1, 5]].reshape(6, 6)
    np.testing.assert_allclose(np.array(rows, float)[:, 1:], expected, rtol=1e-4)  # six digits are shown, of float32
    assert json.loads((folder / "card.json").read_text())["settings"]["calendar"] is True


@pytest.mark.real
def test_beijings_air_loads_with_its_gaps_and_its_calendar(real_data):
    path = real_data / "forecasting" / "pollution.csv.gz"
    recipe = Forecasting(data=path, value_columns="pm2.5", calendar=True, **SMALL)
    (panel,) = recipe.load().panels
    assert len(panel.values) == 43824 and np.isnan(panel.values).sum() == 2067
    assert str(panel.times[panel.test]) == "2013-12-31T19:00:00"  # the last year tests, and five hours
    assert ("column 'cbwd'", "holds no numbers") in Forecasting(data=path, look_back=24).load().skipped
    assert all(turn > 0 for turn in recipe.model().get_layer("cycles").turns)


def test_a_model_that_was_saved_draws_the_same(untrained, tmp_path):
    from zoo import recipes

    recipe, model = untrained
    recipes.save(tmp_path / "run", recipe, model, {})
    again, loaded = recipes.load(tmp_path / "run")
    inputs, _ = again.held_out(3)
    expected = model.predict(inputs, verbose=0)
    off = np.abs(loaded.predict(inputs, verbose=0) - expected).max(axis=(0, 1, 3)) / recipe.load().spread()
    assert off.max() < 1e-5  # float32: sums that are shared out among threads in another way
    assert isinstance(loaded, keras.Model) and again == recipe
