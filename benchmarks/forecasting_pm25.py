"""Forecasting Beijing's air: PM2.5 of the next 24 hours from the last 48, with gaps; the last year tests.

    python benchmarks/forecasting_pm25.py --data PATH/pollution.csv.gz

The file is that of the UCI repository, hourly from 2010 to 2014, and is read by the recipe's own loader: 70% of the
hours train, 10% validate, the last 20% test, which are 2014 and five hours more. Variants of deepar are compared by
their quantile loss on the validation split, each trained once; the best, segrnn, the echo state network and the last
value, repeated, are then scored on every window of the test split, once. With --validate the test split is not looked
at.
"""

import argparse
import time

import numpy as np
from record import RESULTS, record

from zoo.recipes import Forecasting
from zoo.recipes.forecasting.scores import HIGH, LEVELS, MIDDLE
from zoo.recipes.forecasting.views import backtest, plot

COMMON = {"value_columns": "pm2.5", "look_back": 48, "horizon": 24}
DEEPAR = {"network": "deepar", "paths": 100, "batch_size": 512, "learning_rate": 0.005, "epochs": 4}
VARIANTS = {  # of deepar: what differs
    "normal": {},
    "normal, calendar": {"calendar": True},
    "Student's t": {"degrees": 4},
    "Student's t, calendar": {"degrees": 4, "calendar": True},
}
OTHERS = {
    "segrnn": {"network": "segrnn", "batch_size": 256, "epochs": 8},
    "echo_state": {"network": "echo_state"},
}
SHOWN = ("quantile_loss", "coverage", "mse", "mae", "windows")


class _Validated(Forecasting):
    """The recipe, whose training does not look at the test split."""

    def evaluate(self, model, *, split="validation"):
        return super().evaluate(model, split=split)


class _LastValue:
    """The last known value, repeated, with quantiles as far from it as its errors on the validation split were."""

    def __init__(self, recipe):
        past, future = recipe.cut(recipe.load().windows("validation", recipe.look_back, recipe.horizon))
        self.offsets = np.nanquantile(future - _last(past), LEVELS, axis=0)  # (levels, horizon, channels)
        self.offsets[LEVELS.index(0.5)] = 0.0

    def predict(self, past, **_):
        return _last(past)[..., None] + np.moveaxis(self.offsets, 0, -1)


def _last(past):
    """The last known value of each channel: (windows, 1, channels)."""
    known = np.isfinite(past)
    at = past.shape[1] - 1 - known[:, ::-1].argmax(axis=1, keepdims=True)
    return np.take_along_axis(past, at, axis=1)


def train(settings):
    """Return (recipe, model, {score: figure} of the validation split)."""
    recipe = _Validated(**settings)
    started = time.perf_counter()
    model, scores = recipe.train(verbose=0)
    seconds = round(time.perf_counter() - started, 1)
    return recipe, model, _rounded(scores) | {"parameters": model.count_params(), "seconds": seconds}


def draw_worst(recipe, model):
    """Draw the forecast of the test split whose quantile loss is the highest, of one a day; return what it was."""
    worst = max(backtest(recipe, model), key=lambda origin: origin.scores["quantile_loss"])
    path = plot(worst, recipe.labels, RESULTS.parent / "pictures" / "forecasting-pm25-worst.png")
    peak = np.nanargmax(worst.actual[:, 0])
    return {
        "picture": path.name,
        "from": str(worst.times[0]),
        "peak": float(worst.actual[peak, 0]),
        "median_at_peak": round(float(worst.forecast[peak, 0, MIDDLE]), 1),
        "high_at_peak": round(float(worst.forecast[peak, 0, HIGH]), 1),
        "quantile_loss": round(worst.scores["quantile_loss"], 4),
    }


def _rounded(scores):
    return {name: round(scores[name], 4) for name in SHOWN}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="path of pollution.csv or .csv.gz")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS, metavar="VARIANT")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--validate", action="store_true", help="look at the validation split alone")
    options = parser.parse_args()
    common = {**COMMON, "data": options.data, "seed": options.seed}
    validation, trained = {}, {}
    for name in options.variants:
        *trained[name], validation[name] = train(common | DEEPAR | VARIANTS[name])
        print(f"{name:32} validation {validation[name]}", flush=True)
    best = min(validation, key=lambda name: validation[name]["quantile_loss"])
    compared = {"deepar": trained[best]}
    for name, settings in OTHERS.items():
        *compared[name], validation[name] = train(common | settings)
        print(f"{name:32} validation {validation[name]}", flush=True)
    recipe = compared["segrnn"][0]
    compared["the last value"] = recipe, _LastValue(recipe)
    validation["the last value"] = _rounded(recipe.evaluate(_LastValue(recipe)))
    print(f"{'the last value':32} validation {validation['the last value']}", flush=True)
    if options.validate:
        return
    test = {name: _rounded(recipe.evaluate(model, split="test")) for name, (recipe, model) in compared.items()}
    for name, scores in test.items():
        print(f"{name:32} test {scores}", flush=True)
    (panel,) = recipe.load().panels
    record(
        "forecasting-pm25",
        {
            "recipe": "forecasting",
            "data": "Beijing PM2.5, hourly, 2010 to 2014, one channel",
            "split": "70%, 10% and 20% of the hours by time; every window of the test split with a known value",
            "test_from": str(panel.times[panel.test]),
            "missing": int(np.isnan(panel.values).sum()),
            "weights": "lowest validation loss",
            "chosen": f"{best}, by the quantile loss on the validation split",
            "settings": COMMON | {"deepar": DEEPAR, "variants": VARIANTS, **OTHERS},
            "validation": validation,
            "test": test,
            "worst": draw_worst(*compared["deepar"]),
        },
    )


if __name__ == "__main__":
    main()
