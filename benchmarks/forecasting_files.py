"""A forecaster's files: size, speed and error of each scheme, on every test window of ETTh1, each in its runtime.

    python benchmarks/forecasting_files.py --data PATH/ETTh1.csv

The model is that of benchmarks/forecasting_ett.py for 96 hours, with the first seed.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from record import record

from zoo import export
from zoo.export.rules import SCHEMES
from zoo.export.session import Session, latency_ms
from zoo.export.verification import named, run_examples
from zoo.recipes import Forecasting
from zoo.recipes.forecasting.scores import MIDDLE, Scores


def score_files(recipe, model):
    """Return {file: {"mse", "mae", "bytes", "latency_ms", "difference"}}.

    The difference is the largest of a forecast from the model's own, in standard deviations of the channel.
    """
    series, sizes = recipe.load(), (recipe.look_back, recipe.horizon)
    windows = series.windows("test", *sizes)
    past, future = series.cut(windows, *sizes)
    expected = model.predict(past, batch_size=256, verbose=0)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for format, write in (("tflite", export.to_tflite), ("onnx", export.to_onnx)):
            for scheme in SCHEMES:
                given = {"representative_data": recipe.representative()} if scheme == "full_int8" else {}
                path = write(model, Path(folder, f"{scheme}.{format}"), scheme=scheme, **given)
                session = Session(path)
                (forecast,) = run_examples(session, named(session, past)).values()
                scores = Scores(series.spread(), series.naive_errors())
                scores.add(windows[:, 0], future, forecast)
                off = np.abs(forecast - expected)[..., MIDDLE] / series.spread()
                found[path.name] = {
                    **{name: round(scores.means()[name], 4) for name in ("mse", "mae")},
                    "bytes": path.stat().st_size,
                    "latency_ms": round(latency_ms(session, named(session, past[:1])), 3),
                    "difference": float(off.max()),
                }
                print(path.name, found[path.name], flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="path of ETTh1.csv")
    options = parser.parse_args()
    settings = {"look_back": 96, "horizon": 96, "units": 256, "segment": 48, "batch_size": 256, "epochs": 12}
    recipe = Forecasting(data=options.data, **settings)
    model, scores = recipe.train(verbose=0)
    record(
        "forecasting-files",
        {
            "recipe": "forecasting",
            "data": "ETTh1, every window of the test split",
            "settings": settings,
            "model": {name: round(scores[name], 4) for name in ("mse", "mae")},
            "files": score_files(recipe, model),
        },
    )


if __name__ == "__main__":
    main()
