"""Forecasting M4 weekly: 359 series of any length and size in one model, the next 13 weeks of each.

    python benchmarks/forecasting_m4.py --data PATH/Weekly-train.csv.gz

The weights are those of the epoch with the lowest error on the last 13 weeks of the train file, which no training
window reaches. With --validate the scores are those weeks', and the test file is not looked at.
"""

import argparse
import time

import numpy as np
from record import record

from zoo.recipes import Forecasting
from zoo.recipes.forecasting.scores import LEVELS, Scores

PUBLISHED = {"naive": {"smape": 9.161, "mase": 2.777}, "ES-RNN": {"smape": 7.817, "mase": 2.356}}


class _Validated(Forecasting):
    """The recipe, whose training does not look at the test split: it is scored here, once."""

    def evaluate(self, model, *, split="validation"):
        return super().evaluate(model, split=split)


def naive(recipe, split):
    """Return the scores of the last value repeated: they tell whether sMAPE and MASE are the competition's."""
    series, sizes = recipe.load(), (recipe.look_back, recipe.horizon)
    windows = series.windows(split, *sizes)
    past, future = series.cut(windows, *sizes)
    scores = Scores(series.spread(), series.naive_errors())
    scores.add(
        windows[:, 0], future, np.repeat(past[:, -1:], recipe.horizon, axis=1)[..., None].repeat(len(LEVELS), -1)
    )
    return scores.means()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="path of Weekly-train.csv or .csv.gz, the test file beside it")
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--validate", action="store_true", help="choose between settings without the test file")
    options = parser.parse_args()
    settings = {"look_back": 52, "horizon": 13, "segment": 13, "batch_size": 1024, "learning_rate": 0.003}
    settings |= {name: getattr(options, name) for name in ("units", "dropout", "epochs")}
    split = "validation" if options.validate else "test"
    runs, seconds = [], []
    for seed in options.seeds:
        recipe = _Validated(data=options.data, seed=seed, **settings)
        started = time.perf_counter()
        model, _ = recipe.train(verbose=0)
        seconds.append(round(time.perf_counter() - started, 1))
        scores = recipe.evaluate(model, split=split)
        runs.append({name: round(scores[name], 4) for name in ("smape", "mase", "coverage", "windows")})
        print(seed, split, runs[-1], seconds[-1], flush=True)
    baseline = {name: round(naive(recipe, split)[name], 3) for name in ("smape", "mase")}
    print("naive", split, baseline)
    if not options.validate:
        record(
            "forecasting-m4-weekly",
            {
                "recipe": "forecasting",
                "data": "M4 weekly, 359 series, the test file",
                "weights": "lowest validation loss",
                "settings": settings,
                "parameters": model.count_params(),
                "mean": {n: round(float(np.mean([run[n] for run in runs])), 3) for n in ("smape", "mase", "coverage")},
                "seeds": runs,
                "naive": baseline,
                "published": PUBLISHED,
                "training_seconds": seconds,
            },
        )


if __name__ == "__main__":
    main()
