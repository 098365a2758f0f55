"""A forecast as paths: an LSTM that tells how the next value is distributed, and walks on from what was drawn."""

import keras
import numpy as np
from keras import ops

from zoo import checks
from zoo.errors import SettingError
from zoo.layers.cell import check_units
from zoo.layers.lstm_cell import LSTMCell
from zoo.layers.recurrent import Recurrent
from zoo.layers.sampled_cell import SampledCell

_EMBEDDING = 4  # features that tell channels apart


@keras.saving.register_keras_serializable("zoo")
class DeepAR(keras.layers.Layer):
    """Paths of the future of every channel, drawn step by step from a distribution that an LSTM tells.

    The LSTM reads the past, a value a step, and goes on along `paths` paths at once, each reading its own last value.
    All channels share all weights but an embedding that tells which channel it is. The draws are weights that no
    gradient trains, so that a file gives the same paths each time: at each step the midpoints of equally likely shares
    of the standard distribution (a Latin hypercube), in an order that hardly correlates with that of other steps: the
    ranks of columns that are at right angles. Chance would correlate them by about 1 / sqrt(paths).

        y[t], s[t]    = LSTM([x[t-1], known[t]], s[t-1])                  over the past
        x[t] = x[t-1] + change(y[t]) + width(y[t]) * noise[path, t]       over the future, as `SampledCell` says

    Args:
        horizon: int, steps to forecast.
        units: int, width of the LSTM.
        paths: int, how many are drawn.
        degrees: int, degrees of freedom of Student's t distribution; 0 for the normal one.
        seed: int, of the draws.

    Call arguments:
        series: (batch, time, channels), scaled, relative to the last value.
        known: (batch, time + horizon, features), what is known ahead of each step, or None.

    Returns:
        (batch, horizon, channels, paths).

    Raises:
        SettingError: an argument is out of range.

    Example:
        >>> tuple(DeepAR(24, units=8, paths=50)(np.ones((2, 36, 3))).shape)
        (2, 24, 3, 50)

    Reference:
        D. Salinas et al., "DeepAR: Probabilistic forecasting with autoregressive recurrent networks", International
        Journal of Forecasting 36(3), 2020, https://arxiv.org/abs/1704.04110; M. McKay, R. Beckman, W. Conover, "A
        comparison of three methods for selecting values of input variables", Technometrics 21(2), 1979; R. Iman, W.
        Conover, "A distribution-free approach to inducing rank correlation among input variables", Communications in
        Statistics 11(3), 1982.
    """

    def __init__(self, horizon, units=40, paths=200, degrees=0, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.horizon, self.units, self.paths = (
            check_units(horizon, "horizon"),
            check_units(units),
            check_units(paths, "paths"),
        )
        self.degrees, self.seed = checks.whole(degrees, "degrees", least=0), checks.seed(seed)
        if 0 < self.degrees < 3:
            raise SettingError(
                f"degrees is {degrees}; expected 3 or more, whose variance is finite, or 0 for the normal"
            )
        cell = LSTMCell(self.units, name="cell")
        self.reader = Recurrent(cell, return_state=True, name="reader")
        self.follower = Recurrent(cell, return_sequences=True, name="follower")
        self.walker = Recurrent(SampledCell(cell, name="sampled"), return_sequences=True, name="walker")

    def build(self, series_shape, known_shape=None):
        channels = series_shape[2]
        features = 1 + (known_shape[-1] if known_shape else 0) + (_EMBEDDING if channels > 1 else 0)
        self.noise = self.add_weight(
            shape=(self.paths, self.horizon), initializer=self._draws, trainable=False, name="noise"
        )
        self.channel = None
        if channels > 1:
            self.channel = self.add_weight(shape=(channels, _EMBEDDING), initializer="random_normal", name="channel")
        for layer in (self.reader, self.follower, self.walker):
            layer.build((None, self.horizon, features))

    def _draws(self, shape, dtype=None):
        from scipy.special import ndtri, stdtrit

        shares = (np.arange(self.paths) + 0.5) / self.paths
        draws = stdtrit(self.degrees, shares) if self.degrees else ndtri(shares)
        random, columns = np.random.default_rng(self.seed), []
        while len(columns) < self.horizon:  # no more at once than can be at right angles, and still be in any order
            at_once = min(self.horizon - len(columns), max(1, self.paths // 2))
            scores = random.normal(size=(self.paths, at_once))
            scores, _ = np.linalg.qr(scores - scores.mean(axis=0))
            columns += list(draws[scores.argsort(axis=0).argsort(axis=0)].T)
        return ops.convert_to_tensor(np.stack(columns, axis=1), dtype)

    def call(self, series, known=None):
        return self.walk(series, known, self.noise)

    def walk(self, series, known, noise):
        """Return the paths (batch, horizon, channels, paths) of given draws.

        Args:
            series, known: as when called.
            noise: draws of the standard distribution, (paths, horizon), or (batch channels, paths, horizon) where each
                window and channel has its own.
        """
        channels, features = series.shape[2], self._features(series, known)
        past, ahead = features[:, : -self.horizon], features[:, -self.horizon :]
        _, *states = self.reader(past)
        noise = ops.convert_to_tensor(noise, states[0].dtype)
        noise = ops.expand_dims(ops.zeros_like(states[0][:, :1]), 1) + noise  # (batch channels, paths, horizon)
        count = noise.shape[1]
        inputs = ops.reshape(noise, (-1, self.horizon, 1))
        if ahead.shape[-1] > 1:
            inputs = ops.concatenate([inputs, _repeated(ahead[:, :, 1:], count)], axis=-1)
        states = [_repeated(state, count) for state in (ahead[:, 0, :1], *states)]
        paths = self.walker(inputs, initial_state=states)
        return ops.transpose(ops.reshape(paths, (-1, channels, count, self.horizon)), (0, 3, 1, 2))

    def told(self, series, known=None):
        """Return (mean, spread), (batch, horizon, channels): of the last values, each told from all values before it.

        Args:
            series: (batch, time + horizon, channels), the future with it.
            known: as when called.
        """
        channels, features = series.shape[2], self._features(series, known, whole=True)
        outputs = self.follower(features)[:, -self.horizon :]
        both = self.walker.cell.distribution(outputs, features[:, -self.horizon :, :1])
        return [ops.swapaxes(ops.reshape(each, (-1, channels, self.horizon)), 1, 2) for each in both]

    def _features(self, series, known, *, whole=False):
        """What the LSTM reads of each channel, (batch channels, steps, 1 + known): the value before, what is known.

        Of the future only the first step has a value before it; elsewhere zeros stand, unless the series is whole.
        """
        steps = series.shape[1] - 1 + (0 if whole else self.horizon)
        values = ops.swapaxes(series, 1, 2)
        values = values[:, :, :-1] if whole else ops.pad(values, ((0, 0), (0, 0), (0, self.horizon - 1)))
        parts = [ops.expand_dims(values, -1)]  # (batch, channels, steps, 1)
        if known is not None:
            parts.append(ops.expand_dims(known[:, 1:], 1) + ops.zeros_like(parts[0]))
        if self.channel is not None:
            parts.append(self.channel[:, None] + ops.zeros_like(parts[0]))
        return ops.reshape(ops.concatenate(parts, axis=-1), (-1, steps, sum(part.shape[-1] for part in parts)))

    def compute_output_shape(self, series_shape, known_shape=None):
        return (series_shape[0], self.horizon, series_shape[2], self.paths)

    def get_config(self):
        names = ("horizon", "units", "paths", "degrees", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _repeated(rows, count):
    """Each row `count` times, one below the other."""
    zeros = ops.zeros((1, count, *[1] * (len(rows.shape) - 1)), rows.dtype)
    return ops.reshape(ops.expand_dims(rows, 1) + zeros, (-1, *rows.shape[1:]))
