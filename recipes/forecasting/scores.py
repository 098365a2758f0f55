"""How far forecasts are off: sums over any number of windows, in NumPy."""

import numpy as np

from zoo.recipes.forecasting.device import LEVELS

MIDDLE = LEVELS.index(0.5)
LOW, HIGH = LEVELS.index(0.05), LEVELS.index(0.95)  # the interval that is shown; outside of the first and last: odd


class Scores:
    """Means over all known values of all windows, which come in any number of batches.

    With y a value, f its forecast (the median), q[p] its p-quantile, s the channel's standard deviation in training, n
    the mean absolute error of the naive forecast (last season's value) before the test split:

        mse            mean ((y - f) / s)^2             mae     mean |y - f| / s
        smape          mean 200 |y - f| / (|y| + |f|)   mase    mean |y - f| / n
        quantile_loss  mean over p of 2 max(p (y - q[p]), (p - 1) (y - q[p])) / s
        coverage       share of values within the 5% and 95% quantiles, 0.9 if they are right

    Args:
        spread: float64 (channels,), s.
        naive_errors: float64 (panels, channels), n; where it is 0 the value is left out of mase.
    """

    def __init__(self, spread, naive_errors):
        self._spread, self._naive = np.asarray(spread), np.asarray(naive_errors)
        self._sums, self._counts, self._windows = {}, {}, 0

    def add(self, panels, future, forecast):
        """Take in a batch.

        Args:
            panels: int (windows,), which panel each is of.
            future: (windows, horizon, channels), NaN where it is missing.
            forecast: (windows, horizon, channels, levels).
        """
        y, quantiles = future.astype(np.float64), forecast.astype(np.float64)
        f, s = quantiles[..., MIDDLE], self._spread
        naive = np.where(self._naive > 0, self._naive, np.nan)[panels][:, None]
        size = np.abs(y) + np.abs(f)
        p, miss = np.array(LEVELS), y[..., None] - quantiles
        known = np.isfinite(y)
        self._windows += len(y)
        for name, values in (
            ("mse", ((y - f) / s) ** 2),
            ("mae", np.abs(y - f) / s),
            ("smape", 200 * np.abs(y - f) / np.where(size > 0, size, 1)),
            ("mase", np.abs(y - f) / naive),
            ("quantile_loss", 2 * np.maximum(p * miss, (p - 1) * miss).mean(axis=-1) / s),
            ("coverage", np.where(known, (quantiles[..., LOW] <= y) & (y <= quantiles[..., HIGH]), np.nan)),
        ):
            self._sums[name] = self._sums.get(name, 0.0) + np.nansum(values)
            self._counts[name] = self._counts.get(name, 0) + int(np.isfinite(values).sum())

    def means(self):
        """Return {name: mean}, and how many windows there were."""
        means = {name: float(self._sums[name] / max(1, self._counts[name])) for name in self._sums}
        return means | {"windows": self._windows}
