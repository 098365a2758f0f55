"""What does full int8 lose after training alone, and what after some epochs that know of it?

    python benchmarks/quantize_aware.py --data PATH

Free Spoken Digits, leaving one speaker out at a time. The network is MinGRU on the front-end of the recipe: 40 units
that remember by decays close to 1, where a step of int8 tells. Each fold trains it in float, writes it as full_int8,
trains a copy on as its int8 twin, and one without rounding for as many steps, and writes both likewise. All files are
scored on the absent speaker in LiteRT: by accuracy, by the cross-entropy of their probabilities, both beside the float
model's that they were made from, and by how far the probabilities are from its. With --validate each fold does without
the sixth speaker and reports the fifth.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from fsdd_speakers import WithoutSpeaker, folds, summary
from record import record

from zoo import export, layers
from zoo.export.session import Session
from zoo.export.verification import named, run_examples

BATCH_SIZE = 64
FLOAT = {"network": "small", "units": 40, "epochs": 12, "batch_size": BATCH_SIZE, "learning_rate": 0.005}
LEAST = 1 / 256  # of a probability: what int8 has below, it has as 0
AFTER, ON, AWARE = "after training", "trained on", "trained on, aware"


@dataclass(frozen=True, kw_only=True)
class MinGRUKeywords(WithoutSpeaker):
    """The recipe with another recurrent layer."""

    def model(self):
        whole = super().model()
        x = layers.MinGRU(self.units, name="recurrent")(whole.get_layer("mask").output)
        for name in ("dropout", "labels"):
            x = whole.get_layer(name)(x)
        x = keras.layers.Dense(len(self.labels), activation="softmax", name="probabilities")(x)
        return keras.Model(whole.input, x)


def trained_on(recipe, model, options, aware):
    """Return a copy of `model` trained on, as its int8 twin if `aware`."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    learner = export.quantize_aware(copy) if aware else copy
    samples, labels = recipe._training_clips()
    steps = options.epochs * -(-len(labels) // BATCH_SIZE)
    keras.utils.set_random_seed(recipe.seed)
    learner.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(options.learning_rate, steps), global_clipnorm=1.0
        ),
        keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
    )
    learner.fit(samples, np.eye(len(recipe.labels))[labels], batch_size=BATCH_SIZE, epochs=options.epochs, verbose=0)
    return copy


def cross_entropy(probabilities, labels):
    """Return the mean of -log of the right word's probability."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], LEAST)).mean())


def score(recipe, model):
    """Return what the full_int8 file of `model` does on the test split, and the model itself."""
    samples, labels = recipe.load().select("test")
    own = model.predict(samples, batch_size=256, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        options = {"scheme": "full_int8", "representative_data": recipe.representative()}
        path = export.to_tflite(model, Path(folder, "model.tflite"), **options)
        session = Session(path)
        (answers,) = run_examples(session, named(session, samples)).values()
        return {
            "float_accuracy": recipe.metric(own, labels),
            "accuracy": recipe.metric(answers, labels),
            "float_cross_entropy": cross_entropy(own, labels),
            "cross_entropy": cross_entropy(answers, labels),
            "bytes": path.stat().st_size,
            "difference": float(np.abs(answers - own).max()),
            "mean_difference": float(np.abs(answers - own).mean()),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fsdd", help="folder of the recordings, or fsdd to fetch them")
    parser.add_argument("--epochs", type=int, default=12, help="of training on")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="of training on, at the start; it falls to 0")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--validate", action="store_true", help="choose between settings without the test speakers")
    options = parser.parse_args()
    found = {}
    for seed in options.seeds:
        for speaker, recipe in folds(MinGRUKeywords, FLOAT | {"data": options.data, "seed": seed}, options.validate):
            model, _ = recipe.train(verbose=0)
            found[f"{speaker}, seed {seed}"] = scores = {
                AFTER: score(recipe, model),
                ON: score(recipe, trained_on(recipe, model, options, aware=False)),
                AWARE: score(recipe, trained_on(recipe, model, options, aware=True)),
            }
            for name, each in scores.items():
                print(f"{speaker:10} {name:18} {each}", flush=True)
    means = summary(found)
    for name, mean in means.items():
        for key in ("float_accuracy", "mean_difference", "float_cross_entropy", "cross_entropy"):
            mean[key] = float(np.mean([scores[name][key] for scores in found.values()]))
        mean["points_lost"] = round(100 * (mean["float_accuracy"] - mean["accuracy"]), 2)
        mean["cross_entropy_gained"] = round(mean["cross_entropy"] - mean["float_cross_entropy"], 4)
        print(f"{name:18} {mean}")
    if not options.validate:
        record(
            "quantize_aware",
            {
                "recipe": "keyword_spotting, with MinGRU",
                "data": "Free Spoken Digits",
                "split": "leave one speaker out; all recordings of that speaker test",
                "settings": {"float": FLOAT, "epochs": options.epochs, "learning_rate": options.learning_rate},
                "seeds": options.seeds,
                "mean": means,
                "by_speaker_and_seed": found,
            },
        )


if __name__ == "__main__":
    main()
