"""Keyword spotting on Free Spoken Digits, leaving one speaker out at a time: how well is an unheard voice understood?

    python benchmarks/fsdd_speakers.py --data PATH

Each fold trains on five speakers and tests once on all recordings of the sixth, the Keras model and its exported files,
each in its runtime; those that stream read every recording in chunks. With --validate each fold instead removes the
sixth altogether, trains on four and reports the fifth: the way to choose between settings. With --keep FOLDER the
trained models stay there, for benchmarks/quantize_aware.py and benchmarks/pruning.py.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from record import record

from zoo import export
from zoo.export.rules import SCHEMES
from zoo.export.session import Session
from zoo.export.verification import named, run_examples
from zoo.recipes import KeywordSpotting
from zoo.recipes.base import setting


@dataclass(frozen=True, kw_only=True)
class WithoutSpeaker(KeywordSpotting):
    """The recipe on recordings of which one speaker's are left out."""

    absent: str = setting("", "a speaker whose recordings are not used at all")

    def load(self):
        keywords = super().load()
        kept = np.array(keywords.speakers) != self.absent
        return replace(
            keywords,
            pcm=keywords.pcm[kept],
            labels=keywords.labels[kept],
            split=keywords.split[kept],
            speakers=tuple(np.array(keywords.speakers)[kept]),
            files=tuple(np.array(keywords.files)[kept]),
        )


def score_files(recipe, model):
    """Return what every exported file does on the test split, {name: {"accuracy", "bytes", "difference"}}.

    The difference is the largest from the model's own probabilities.
    """
    samples, labels = recipe.load().select("test")
    expected = model.predict(samples, batch_size=256, verbose=0)
    streams = {"state": "external", "time_steps": recipe.chunk}
    scores = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, write, options in (
            ("tflite", export.to_tflite, {}),
            ("onnx", export.to_onnx, {}),
            ("stream.tflite", export.to_tflite, streams),
            ("stream.onnx", export.to_onnx, streams),
        ):
            for scheme in SCHEMES if kind == "tflite" else ("float32", "dynamic_int8"):
                given = {"representative_data": recipe.representative()} if scheme == "full_int8" else {}
                name = f"{scheme}.{kind}"
                path = write(model, Path(folder, name), scheme=scheme, **given, **options)
                session = Session(path)
                (answers,) = run_examples(session, named(session, samples)).values()
                scores[name] = {
                    "accuracy": recipe.metric(answers, labels),
                    "bytes": path.stat().st_size,
                    "difference": float(np.abs(answers - expected).max()),
                }
    return scores


def folds(kind, settings, validate=False):
    """Yield (the speaker that is reported, the recipe) of each fold; with `validate` a speaker is kept for the test.

    Args:
        kind: a subclass of `WithoutSpeaker`, or that class.
        settings: dict, of the recipe.
        validate: bool.
    """
    speakers = sorted(set(kind(**settings).load().speakers))
    for position, speaker in enumerate(speakers):
        if validate:
            reported = speakers[(position + 1) % len(speakers)]
            yield reported, kind(**settings, test_speaker=reported, absent=speaker)
        else:
            yield speaker, kind(**settings, test_speaker=speaker)


def summary(files):
    """Return the mean accuracy, mean bytes and largest difference of each file over the folds, {fold: scores}."""
    names = next(iter(files.values()))
    return {
        name: {
            "accuracy": round(float(np.mean([scores[name]["accuracy"] for scores in files.values()])), 4),
            "bytes": round(float(np.mean([scores[name]["bytes"] for scores in files.values()]))),
            "difference": max(scores[name]["difference"] for scores in files.values()),
        }
        for name in names
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fsdd", help="folder of the recordings, or fsdd to fetch them")
    parser.add_argument("--network", default="crnn")
    parser.add_argument("--units", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--extra", default="demo", help="more voices to train on; '' for the five real ones alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--validate", action="store_true", help="choose between settings without the test speakers")
    parser.add_argument("--keep", type=Path, help="folder for the trained models, one for each absent speaker")
    options = parser.parse_args()
    settings = {name: getattr(options, name) for name in ("data", "network", "units", "extra", "epochs", "seed")}
    settings |= {"batch_size": 64, "learning_rate": 0.003}  # more clips than the demo set: fewer, larger steps

    accuracy, seconds, files = {}, {}, {}
    for reported, recipe in folds(WithoutSpeaker, settings, options.validate):
        started = time.perf_counter()
        model, scores = recipe.train(verbose=0)
        seconds[reported] = round(time.perf_counter() - started, 1)
        accuracy[reported] = scores["accuracy"]
        print(f"{reported:10} {accuracy[reported]:.4f}  {seconds[reported]:.0f} s", flush=True)
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            model.save(options.keep / f"{reported}.keras")
        if not options.validate:
            files[reported] = score_files(recipe, model)
            for name, score in files[reported].items():
                print(f"{'':10} {name:26} {score}", flush=True)
    mean = float(np.mean(list(accuracy.values())))
    print(f"mean {mean:.4f}, {model.count_params():,} parameters")
    if not options.validate:
        record(
            "keyword_spotting-fsdd",
            {
                "recipe": "keyword_spotting",
                "data": "Free Spoken Digits, six speakers, 3,000 recordings",
                "split": "leave one speaker out: five train (and extra, see settings), all of the sixth tests",
                "weights": "lowest validation loss on recordings of the five",
                "settings": {name: value for name, value in settings.items() if name != "data"},
                "parameters": model.count_params(),
                "accuracy": {"mean": round(mean, 4)} | {name: round(value, 4) for name, value in accuracy.items()},
                "files": summary(files),
                "files_by_speaker": files,
                "training_seconds": seconds,
            },
        )


if __name__ == "__main__":
    main()
