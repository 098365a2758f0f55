"""Forecasting ETTh1: 96 hours of the past, the next 96, 192, 336 and 720, every window of the published test split.

    python benchmarks/forecasting_ett.py --data PATH/ETTh1.csv

Each horizon has a model of its own, trained with each seed; the weights are those of the epoch with the lowest error on
the validation split. With --validate the models are compared there and the test split is not looked at: the way to
choose between settings. With --variants a few of them are compared so at the shortest horizon, and recorded.
"""

import argparse
import time

import numpy as np
from record import record

from zoo.recipes import Forecasting

HORIZONS = (96, 192, 336, 720)
VARIANTS = {  # of the settings that are the defaults here
    "as chosen": {},
    "512 units": {"units": 512},
    "128 units": {"units": 128},
    "segments of 24": {"segment": 24},
    "a dropout of 0.2": {"dropout": 0.2},
}
ERRORS = ("mse", "mae")
BESIDE = ("smape", "mase", "quantile_loss", "coverage", "windows")
PUBLISHED = {  # SegRNN at this look-back, a model for each horizon, as its authors' paper is quoted
    "96": {"mse": 0.368, "mae": 0.395},
    "192": {"mse": 0.408, "mae": 0.419},
    "336": {"mse": 0.444, "mae": 0.440},
    "720": {"mse": 0.446, "mae": 0.457},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="path of ETTh1.csv")
    parser.add_argument("--network", default="segrnn")
    parser.add_argument("--horizons", type=int, nargs="+", default=HORIZONS)
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--segment", type=int, default=48)
    parser.add_argument("--dropout", type=float, default=0.5)
    parser.add_argument("--learning-rate", type=float, default=0.001)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--variants", action="store_true", help="compare the variants on the validation split")
    parser.add_argument("--validate", action="store_true", help="choose between settings without the test split")
    options = parser.parse_args()
    names = ("data", "network", "units", "segment", "dropout", "learning_rate", "batch_size", "epochs")
    settings = {name: getattr(options, name) for name in names} | {"look_back": 96}
    if options.variants:
        _compare(settings)
        return

    split = "validation" if options.validate else "test"
    runs, seconds, parameters = {}, {}, {}
    for seed in options.seeds:
        for horizon in options.horizons:
            recipe = _Validated(**settings, horizon=horizon, seed=seed)
            started = time.perf_counter()
            model, _ = recipe.train(verbose=0)
            run = f"{horizon}, seed {seed}"
            seconds[run] = round(time.perf_counter() - started, 1)
            runs.setdefault(str(horizon), []).append(recipe.evaluate(model, split=split))
            parameters[str(horizon)] = model.count_params()
            shown = "  ".join(f"{name} {runs[str(horizon)][-1][name]:.4f}" for name in (*ERRORS, *BESIDE))
            print(f"{run:14} {split} {shown}  {seconds[run]} s", flush=True)
        if not options.validate:  # after each seed: what is measured stays if a later one is stopped
            _record(options.network, settings, runs, parameters, seconds)


def _compare(settings):
    found = {}
    for name, other in VARIANTS.items():
        recipe = _Validated(**settings | other, horizon=HORIZONS[0], seed=0)
        started = time.perf_counter()
        model, _ = recipe.train(verbose=0)
        seconds, scores = round(time.perf_counter() - started, 1), recipe.evaluate(model)
        found[name] = {error: round(scores[error], 4) for error in ERRORS}
        found[name] |= {"parameters": model.count_params(), "training_seconds": seconds}
        print(name, found[name], flush=True)
    about = {"data": "ETTh1, 7 channels, hourly", "split": "validation", "horizon": HORIZONS[0], "seeds": [0]}
    kept = {name: value for name, value in settings.items() if name != "data"}
    record("forecasting-etth1-variants", {"recipe": "forecasting", **about, "settings": kept, "variants": found})


def _record(network, settings, runs, parameters, seconds):
    record(
        "forecasting-etth1" if network == "segrnn" else f"forecasting-etth1-{network}",
        {
            "recipe": "forecasting",
            "data": "ETTh1, 7 channels, hourly",
            "split": "12, 4 and 4 months of 30 days train, validate and test; every window of the test split",
            "weights": "lowest validation loss",
            "settings": {name: value for name, value in settings.items() if name != "data"},
            "seeds": len(next(iter(runs.values()))),
            "parameters": parameters,
            "errors": {horizon: _summary(scores, ERRORS) for horizon, scores in runs.items()},
            "beside": {horizon: _summary(scores, BESIDE) for horizon, scores in runs.items()},
            "published": PUBLISHED,
            "training_seconds": seconds,
        },
    )


class _Validated(Forecasting):
    """The recipe, whose training does not look at the test split: it is scored here, once."""

    def evaluate(self, model, *, split="validation"):
        return super().evaluate(model, split=split)


def _summary(scores, names):
    """Return the mean over seeds, the largest distance from it, and each, by name."""
    found = {}
    for name in names:
        values = [score[name] for score in scores]
        mean = float(np.mean(values))
        found[name] = {
            "mean": round(mean, 4),
            "off": round(float(np.abs(np.array(values) - mean).max()), 4),
            "seeds": [round(value, 4) for value in values],
        }
    return found


if __name__ == "__main__":
    main()
