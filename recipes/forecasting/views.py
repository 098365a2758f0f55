"""What a trained forecaster says of a split: a back-test with rolling origin, values that are odd, and a picture."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.errors import SettingError
from zoo.recipes.forecasting.scores import HIGH, LEVELS, LOW, MIDDLE, Scores


@dataclass(frozen=True)
class Origin:
    """One forecast of a back-test, beside what came."""

    series: str  # "" for a table's only one
    past_times: np.ndarray  # (look_back,)
    times: np.ndarray  # (horizon,), of the steps that were forecast; numbers where the layout tells no times
    past: np.ndarray  # (look_back, channels)
    actual: np.ndarray  # (horizon, channels), NaN where it is missing
    forecast: np.ndarray  # (horizon, channels, quantiles)
    scores: dict  # of this forecast, as `Forecasting.evaluate` names them


@dataclass(frozen=True)
class Anomaly:
    """A value outside the outermost quantiles of its forecast."""

    series: str
    channel: str
    time: object
    value: float
    low: float
    high: float


def backtest(recipe, model, *, split="test", stride=0):
    """Forecast a split again and again, each time from what was known by then.

    Args:
        recipe: `Forecasting`.
        model: what it trained.
        split: 'train', 'validation' or 'test'.
        stride: steps from one origin to the next; 0 for the horizon, so that each value is forecast at most once.

    Returns:
        List of Origin, series by series, from the earliest on.

    Raises:
        SettingError: there is no such split, or the stride is negative.
    """
    if not isinstance(stride, int) or stride < 0:
        raise SettingError(f"stride is {stride!r}, expected a whole number of steps, or 0 for the horizon.")
    series, sizes = recipe.load(), (recipe.look_back, recipe.horizon)
    windows = series.windows(split, *sizes)
    first = np.array([panel.span(split)[0] for panel in series.panels])
    since = windows[:, 1] + recipe.look_back - np.maximum(first, recipe.look_back)[windows[:, 0]]
    windows = windows[since % (stride or recipe.horizon) == 0]
    past, future = recipe.cut(windows)
    forecasts = model.predict(past, batch_size=256, verbose=0)
    past, found = past["history"] if isinstance(past, dict) else past, []
    for row, (number, start) in enumerate(windows):
        panel = series.panels[number]
        times = np.arange(len(panel.values)) if panel.times is None else panel.times
        scores = Scores(series.spread(), series.naive_errors())
        scores.add(np.array([number]), future[row : row + 1], forecasts[row : row + 1])
        now = start + recipe.look_back
        found.append(
            Origin(
                panel.name,
                *(times[start:now], times[now : now + recipe.horizon]),
                *(past[row], future[row], forecasts[row]),
                scores.means(),
            )
        )
    return found


def sample_paths(recipe, model, past, *, count=100, seed=0):
    """Draw futures, as many as one likes: each a whole path, whose steps belong together.

    Of what spans several steps, the sum of a day or the first hour above a limit, the quantiles are those of the paths'
    own sums and hours, which no quantile of single steps tells.

    Args:
        recipe: `Forecasting` with network "deepar".
        model: what it trained.
        past: what the model reads, as `recipe.held_out` or `recipe.example` give it first.
        count: int, paths of each window.
        seed: int, of the draws.

    Returns:
        float32 (windows, horizon, channels, count), in the units of the series.

    Raises:
        SettingError: the recipe has another network, or there is nothing to draw.
    """
    import keras

    if recipe.network != "deepar":
        raise SettingError(f"network is {recipe.network!r}, which draws no paths: take network='deepar'.")
    if not isinstance(count, int) or count < 1:
        raise SettingError(f"count is {count!r}, expected a whole number of paths.")
    layer, (_, level, spread) = model.get_layer("deepar"), model.get_layer("scale").output
    parts = [layer.input, level, spread]  # of the layer: the series, and what is known with it
    read, level, spread = keras.Model(model.input, parts).predict(past, verbose=0)
    series, *known = read if isinstance(read, list) else [read]
    level = level - spread * (series[:, -1:])  # where the network's zero lies, in units of the series
    random, found = np.random.default_rng(seed), []
    for row in range(len(series)):
        size = (series.shape[2], count, recipe.horizon)
        noise = random.standard_t(recipe.degrees, size) if recipe.degrees else random.normal(size=size)
        ahead = known[0][row : row + 1] if known else None
        paths = layer.walk(series[row : row + 1], ahead, noise.astype(np.float32))
        found.append(keras.ops.convert_to_numpy(paths) * spread[row, ..., None] + level[row, ..., None])
    return np.concatenate(found)


def anomalies(recipe, model, *, split="test"):
    """Return the values of a split that lie outside the 1% and 99% quantiles of their forecast, [Anomaly].

    Each value is compared with one forecast, of a back-test whose origins are a horizon apart. Of ordinary values one
    in fifty is expected here; the more of them follow each other, the odder.
    """
    found = []
    for origin in backtest(recipe, model, split=split):
        low, high = origin.forecast[..., 0], origin.forecast[..., -1]
        for step, channel in np.argwhere((origin.actual < low) | (origin.actual > high)):  # NaN is neither
            found.append(
                Anomaly(
                    origin.series,
                    recipe.labels[channel],
                    origin.times[step],
                    *(float(each[step, channel]) for each in (origin.actual, low, high)),
                )
            )
    return found


def plot(origin, channels, path):
    """Draw a forecast of a back-test with its intervals, beside what came, into a PNG.

    Args:
        origin: Origin.
        channels: names of the channels, `recipe.labels`; the first four are drawn.
        path: to write.

    Returns:
        The file's path.
    """
    from matplotlib.figure import Figure

    channels, path = channels[:4], Path(path)
    figure = Figure(figsize=(9, 2.6 * len(channels)), layout="constrained")
    for channel, axes in enumerate(figure.subplots(len(channels), squeeze=False)[:, 0]):
        quantiles = origin.forecast[:, channel]
        for low, high, alpha in ((LOW, HIGH, 0.2), (MIDDLE - 1, MIDDLE + 1, 0.35)):
            share = f"{LEVELS[high] - LEVELS[low]:.0%}"
            axes.fill_between(
                origin.times, quantiles[:, low], quantiles[:, high], color="#dd8452", alpha=alpha, lw=0, label=share
            )
        axes.plot(origin.times, quantiles[:, MIDDLE], color="#dd8452", label="forecast")
        seen = np.concatenate([origin.past_times, origin.times])
        axes.plot(seen, np.concatenate([origin.past, origin.actual])[:, channel], color="#4c72b0", lw=1, label="series")
        axes.set_title(" ".join(filter(None, [origin.series, channels[channel]])), fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", fontsize=8)
    unfinished = path.with_name(f".{path.name}.unfinished")
    figure.savefig(unfinished, dpi=110, format="png")
    os.replace(unfinished, path)
    return path
