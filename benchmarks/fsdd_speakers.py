"""Keyword spotting on Free Spoken Digits, leaving one speaker out at a time: how well is an unheard voice understood?

    python benchmarks/fsdd_speakers.py --data PATH

Each fold trains on five speakers and tests once on all recordings of the sixth, the Keras model and its exported files,
each in its runtime. With --validate each fold instead
removes the sixth altogether, trains on four and reports the fifth: the way to choose between settings.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from record import record

from zoo import export
from zoo.export.runner import Session
from zoo.export.verification import named, run_examples
from zoo.recipes import KeywordSpotting
from zoo.recipes.base import setting


@dataclass(frozen=True, kw_only=True)
class _WithoutSpeaker(KeywordSpotting):
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
    """Return the accuracy of every exported file on the test split, and how far the float32 ones are from the model."""
    samples, labels = recipe.load().select("test")
    expected = model.predict(samples, batch_size=256, verbose=0)
    scores, difference = {}, 0.0
    with tempfile.TemporaryDirectory() as folder:
        for write, suffix in ((export.to_tflite, "tflite"), (export.to_onnx, "onnx")):
            for scheme in ("float32", "dynamic_int8"):
                session = Session(write(model, Path(folder, f"{scheme}.{suffix}"), scheme=scheme))
                (answers,) = run_examples(session, named(session, samples)).values()
                scores[f"{scheme}.{suffix}"] = recipe.metric(answers, labels)
                if scheme == "float32":
                    difference = max(difference, float(np.abs(answers - expected).max()))
    return scores, difference


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fsdd", help="folder of the recordings, or fsdd to fetch them")
    parser.add_argument("--network", default="crnn")
    parser.add_argument("--units", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--extra", default="demo", help="more voices to train on; '' for the five real ones alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--validate", action="store_true", help="choose between settings without the test speakers")
    options = parser.parse_args()
    settings = {name: getattr(options, name) for name in ("data", "network", "units", "extra", "epochs", "seed")}
    settings |= {"batch_size": 64, "learning_rate": 0.003}  # more clips than the demo set: fewer, larger steps

    speakers = sorted(set(KeywordSpotting(**settings).load().speakers))
    accuracy, seconds, files, differences = {}, {}, {}, {}
    for position, speaker in enumerate(speakers):
        recipe, reported = KeywordSpotting(**settings, test_speaker=speaker), speaker
        if options.validate:
            reported = speakers[(position + 1) % len(speakers)]
            recipe = _WithoutSpeaker(**settings, test_speaker=reported, absent=speaker)
        started = time.perf_counter()
        model, scores = recipe.train(verbose=0)
        seconds[reported] = round(time.perf_counter() - started, 1)
        accuracy[reported] = scores["accuracy"]
        print(f"{reported:10} {accuracy[reported]:.4f}  {seconds[reported]:.0f} s", flush=True)
        if not options.validate:
            files[reported], differences[reported] = score_files(recipe, model)
            print(f"{'':10} {files[reported]}, float32 within {differences[reported]:.1e}", flush=True)
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
                "files": {
                    name: round(float(np.mean([scores[name] for scores in files.values()])), 4)
                    for name in next(iter(files.values()))
                },
                "files_by_speaker": files,
                "float32_largest_difference": max(differences.values()),
                "training_seconds": seconds,
            },
        )


if __name__ == "__main__":
    main()
