"""Forecasting: what comes next in series of numbers, with how sure that is.

    zoo train forecasting --data load.csv --look-back 96 --horizon 24 --out runs/load

ETTh1, 96 hours from 96 hours: MSE 0.377, MAE 0.393, the mean of two seeds; 192 to 720 hours in docs/forecasting.md. A
training took 141 to 331 s on 2 shared CPU cores. By `python benchmarks/forecasting_ett.py`, in
docs/results/forecasting-etth1.json. Published for SegRNN at the same look-back: 0.368, 0.395.
"""

import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from zoo.data.series import load_series
from zoo.errors import DataError, SettingError
from zoo.recipes.base import Recipe, on_device, setting
from zoo.recipes.forecasting import device
from zoo.recipes.forecasting.scores import LEVELS, MIDDLE, Scores

_NETWORKS = ("segrnn", "deepar", "echo_state")
_BLOCK = 1024  # windows that are forecast at once
_FITTED = 2_000  # windows, at most, that a readout in closed form is fitted on


@dataclass(frozen=True, kw_only=True)
class Forecasting(Recipe):
    """Forecast the next steps of every channel of a series, with quantiles, raw units in and out.

    The networks: "segrnn" reads the past in segments by one GRU and decodes the whole future at once; "deepar" learns
    how the next value is distributed, and walks along many paths that it draws; "echo_state" is a reservoir with a
    readout in closed form, the fast baseline. All see the past relative to its last value, divided by a spread: with
    `scaling="train"` the channel's standard deviation in training, with "window" each window's own; with "train" deepar
    also sees how high the series stands. Missing values are NaN and are filled inside the model. The quantiles are
    those of deepar's paths; of the others they stand as far from the forecast as its errors on the validation split
    did, at each step ahead.

        history (batch, look_back, channels) -> forecast (batch, horizon, channels, quantiles)

    With `calendar` there is another input, `clock` (batch, 3): which part of the day, of the week and of the year has
    gone by at the last step of the past. With `static_columns` there is `static` (batch, columns): what each column
    says of the series, a number, or the place of its word.

    The quantiles are those of `zoo.recipes.forecasting.scores.LEVELS`; the middle one, the median, is the forecast.

    Example:
        >>> recipe = Forecasting(network="echo_state", look_back=48, horizon=12)
        >>> recipe.model().output_shape
        (None, 12, 1, 7)

    Reference:
        S. Lin et al., "SegRNN: Segment recurrent neural network for long-term time series forecasting", 2023,
        https://arxiv.org/abs/2308.11200; D. Salinas et al., "DeepAR: Probabilistic forecasting with autoregressive
        recurrent networks", 2020, https://arxiv.org/abs/1704.04110; H. Jaeger, "The echo state approach to analysing
        and training recurrent neural networks", 2001.
    """

    name = "forecasting"
    metric_name = "1 - MASE"
    device_files = on_device(device)  # what a bundle's runner does around the model

    data: str = setting("demo", "demo (sea surface temperature by month), or a CSV file: wide, long, ETT, M4")
    network: str = setting(
        "segrnn", "segrnn, deepar (learns how it is distributed), or echo_state (fast)", choices=_NETWORKS
    )
    look_back: int = setting(96, "steps of the past that a forecast is made from", least=2)
    horizon: int = setting(24, "steps of the future", least=1)
    segment: int = setting(12, "steps that segrnn reads and writes at once; look_back is a multiple", least=1)
    units: int = setting(0, "width of the recurrent layer; 0 is the network's own", least=0)
    dropout: float = setting(0.5, "share of segrnn's features left out in training, below 1", least=0.0)
    paths: int = setting(200, "futures that deepar draws, of which its quantiles are", least=10)
    degrees: int = setting(0, "of freedom of deepar's Student t distribution, 3 or more; 0 for the normal one", least=0)
    calendar: bool = setting(False, "deepar also reads the hour, the weekday and the season of each step")
    scaling: str = setting("", "train, window, or empty: train for one table, window for many series")
    time_column: str = setting("", "the column of times; empty to recognise it by its name")
    value_columns: str = setting("", "the columns to forecast, commas between; empty for all that hold numbers")
    series_column: str = setting("", "the column that names the series of a long table; empty to recognise it")
    static_columns: str = setting("", "columns that say what each series is, commas between; deepar reads them")
    season: int = setting(0, "steps after which things repeat, for MASE; 0 to recognise it by the times", least=0)
    epochs: int = setting(30, "passes over the training windows", least=1)
    batch_size: int = setting(64, "windows per training step", least=1)
    learning_rate: float = setting(0.001, "of the first epochs; it falls after", above=0.0)
    seed: int = setting(0, "of weights and order", least=0)
    skip_bad: bool = setting(False, "leave out unusable rows, columns and series, naming them, instead of stopping")

    def __post_init__(self):
        super().__post_init__()
        if self.network == "segrnn" and self.look_back % self.segment:
            raise SettingError(
                f"look_back is {self.look_back} and segment {self.segment}; expected a whole number of segments: "
                "change one of them."
            )
        if self.network == "segrnn" and self.units % 2:
            raise SettingError(f"units is {self.units}; segrnn expects an even number.")
        if 0 < self.degrees < 3:
            raise SettingError(f"degrees is {self.degrees}, expected 3 or more, or 0 for the normal distribution.")
        for name in ("calendar", "static_columns"):
            if getattr(self, name) and self.network != "deepar":
                raise SettingError(
                    f"{name} is {getattr(self, name)!r}, which network {self.network!r} does not read: take "
                    "network='deepar'."
                )
        if self.dropout >= 1:
            raise SettingError(f"dropout is {self.dropout}, expected a share of at least 0 and below 1.")
        if self.scaling not in ("", "train", "window"):
            raise SettingError(f"scaling is {self.scaling!r}, expected 'train', 'window' or nothing.")

    def load(self):
        """Return the series, `zoo.data.series.Series`; read once and kept."""
        return self._series

    @cached_property
    def _series(self):
        columns = ("time_column", "value_columns", "series_column", "static_columns")
        names = ("look_back", "horizon", *columns, "season", "skip_bad")
        return load_series(self.data, **{name: getattr(self, name) for name in names})

    @property
    def labels(self):
        """The channels, in the order of the model's inputs and outputs."""
        return self.load().channels

    def cut(self, windows):
        """Return (inputs, future) of windows: the past, or {"history", ...} where more is read, and what came.

        Args:
            windows: as `zoo.data.series.Series.windows` gives them.
        """
        past, future = self.load().cut(windows, *self._sizes)
        panels, inputs = self.load().panels, {"history": past}
        if self.calendar:
            now = [panels[number].times[start + self.look_back - 1] for number, start in windows]
            inputs["clock"] = device.clock(np.array(now, "datetime64[s]")).astype(np.float32)
        if self.static_columns:
            inputs["static"] = np.array([panels[number].static for number, _ in windows], np.float32)
        return (inputs if len(inputs) > 1 else past), future

    @cached_property
    def _turns(self):
        """What the clocks of the calendar turn in a step: 0 where it is half a turn, or training sees less than two."""
        panels = self.load().panels
        if any(panel.times is None or panel.times.dtype.kind != "M" for panel in panels):
            raise DataError(f"{self.data}: its times are no dates, and calendar=True reads them: leave it out.")
        steps = [float((p.times[-1] - p.times[0]).astype(int)) / (len(p.times) - 1) for p in panels]  # seconds
        if max(steps) > 1.01 * min(steps):
            raise DataError(
                f"{self.data}: a step of some series is {min(steps):g} s and of others {max(steps):g} s, and "
                "calendar=True expects the same of all: leave it out."
            )
        seen = max(steps) * max(panel.validation for panel in panels)
        turns = [steps[0] / turn if 2 * steps[0] < turn and 2 * turn <= seen else 0.0 for turn in device.CLOCKS]
        if not any(turns):
            raise DataError(
                f"{self.data}: training sees no two days, weeks or years in steps that tell them, which calendar=True "
                "expects: leave it out."
            )
        return turns

    def model(self):
        """Return a fresh, built `keras.Model` from a raw past to the quantiles of the future, not compiled."""
        import keras

        from zoo.layers import ResidualQuantiles, SeriesScale
        from zoo.recipes.forecasting import networks

        series = self.load()
        window = self.scaling == "window" or (not self.scaling and len(series.panels) > 1)
        history = keras.Input((self.look_back, len(series.channels)), name="history")
        scaled, level, spread = SeriesScale(None if window else series.spread(), name="scale")(history)
        known, more = networks.known(self, self._turns if self.calendar else (), series)
        inputs = {"history": history, **more} if more else history
        if self.network == "deepar":
            mean, size = series.mean(), series.spread()
            standing = keras.layers.Rescaling((1 / size).tolist(), (-mean / size).tolist(), name="standing")
            quantiles = networks.deepar(scaled, self, None if window else standing(level), known)
        else:
            quantiles = ResidualQuantiles(LEVELS, name="quantiles")(getattr(networks, self.network)(scaled, self))
        sized = keras.layers.Multiply(name="sized")([quantiles, _each_quantile(spread)])
        # The level first: of a batch of one Keras' `add` would take it for a bias of as many quantiles as channels.
        forecast = keras.layers.Add(name="forecast")([_each_quantile(level), sized])
        return keras.Model(inputs, forecast, name="forecasting")

    def assets(self, model):
        """Return {file name: bytes} of what a device needs beside the labels: the words of the static columns."""
        if not self.static_columns:
            return {}
        self._check_words(model)
        return {device.STATIC: json.dumps([[name, list(words)] for name, words in self.load().static]).encode()}

    def _check_words(self, model):
        """Raise DataError where the static columns have other words than those by whose places a model knows them."""
        from zoo.recipes.forecasting.networks import SAID

        for (name, words), known in zip(self.load().static, model.get_layer(SAID).columns, strict=True):
            known = known if isinstance(known[0], str) else ()
            if words != known:
                raise DataError(
                    f"{self.data}: column {name!r} says {', '.join(words)[:200] or 'numbers'}, expected what the model "
                    f"learnt: {', '.join(known)[:200] or 'numbers'}."
                )

    def train(self, *, callbacks=(), verbose="auto"):
        """Train a fresh model and keep the weights of the epoch with the lowest validation loss.

        Sets the global seeds, so that the same settings give the same model on the same machine. The readout of
        "echo_state" is fitted in closed form, without epochs.

        Args:
            callbacks: more Keras callbacks.
            verbose: as `keras.Model.fit` takes it: 0 for silence.

        Returns:
            (model, scores): a `keras.Model`; the test scores of `evaluate`, and `history` by epoch.
        """
        import keras

        from zoo.recipes.forecasting import likelihood, training

        keras.utils.set_random_seed(self.seed)
        model = self.model()
        if self.network == "deepar":
            teacher, loss = likelihood.Teacher(model), likelihood.negative_log_likelihood(self.degrees)
            history = training.fit(self, teacher, loss, callbacks, verbose, windows=likelihood.TaughtWindows)
        else:
            if self.network == "echo_state":
                history = training.fit_readout(self, model, most=_FITTED)
            else:
                learner = training.scaled_model(model)
                history = training.fit(self, learner, training.absolute_error, callbacks, verbose)
            training.measure_quantiles(self, model)
        return model, self.evaluate(model) | {"history": history}

    def evaluate(self, model, *, split="test"):
        """Return the scores of a model on every window of a split: {"mse": ..., ...}; see `scores.Scores`.

        "mse" and "mae" are those of values divided by the channel's standard deviation in training, as is usual.
        """
        if self.static_columns:
            self._check_words(model)
        series = self.load()
        scores, windows = Scores(series.spread(), series.naive_errors()), series.windows(split, *self._sizes)
        for start in range(0, len(windows), _BLOCK):
            block = windows[start : start + _BLOCK]
            past, future = self.cut(block)
            scores.add(block[:, 0], future, model.predict(past, batch_size=256, verbose=0))
        return scores.means()

    @property
    def _sizes(self):
        return self.look_back, self.horizon

    def metric(self, outputs, labels):
        """Return 1 - MASE: the share of the naive forecast's error that is saved, from what `held_out` gives."""
        future, naive = labels[..., 0], labels[..., 1]
        return 1 - float(np.nanmean(np.abs(future - np.asarray(outputs)[..., MIDDLE]) / naive))

    def held_out(self, count):
        """Return (past, labels) of up to `count` test windows, spread over the split; labels are what `metric` needs.

        They are (windows, horizon, channels, 2): the future, and the naive forecast's error before.
        """
        series = self.load()
        windows = _spread_over(series.windows("test", *self._sizes), count)
        past, future = self.cut(windows)
        naive = np.broadcast_to(series.naive_errors()[windows[:, 0]][:, None], future.shape)
        return past, np.stack([future, np.where(naive > 0, naive, np.nan)], axis=-1)

    def representative(self):
        """Return up to 200 windows of the training past without missing values, for the schemes that calibrate."""
        series = self.load()
        windows = _spread_over(series.windows("train", *self._sizes), 2000)
        past, _ = series.cut(windows, *self._sizes)
        return self.cut(_spread_over(windows[np.isfinite(past).all(axis=(1, 2))], 200))[0]

    def decode(self, outputs):
        """Return {channel: {quantile: [value at each step ahead]}} of one window's outputs."""
        return device.answer({"forecast": outputs}, {"labels": self.labels})

    def example(self):
        """Return the last test window as a batch of one, and what it forecasts from: the time of its last step."""
        series = self.load()
        ((number, start),) = last = series.windows("test", *self._sizes)[-1:]
        panel = series.panels[number]
        at = start + self.look_back - 1
        return self.cut(last)[0], str(at if panel.times is None else panel.times[at])


def _each_quantile(of_channels):
    """From (batch, 1, channels) to (batch, 1, channels, 1)."""
    from keras import ops

    return ops.expand_dims(of_channels, -1)


def _spread_over(rows, count):
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]
