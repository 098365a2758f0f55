"""What does full int8 lose after training alone, and what after some epochs that know of it?

    python benchmarks/fsdd_speakers.py --data PATH --keep MODELS
    python benchmarks/quantize_aware.py --data PATH --models MODELS

Free Spoken Digits, leaving one speaker out at a time: each fold takes the trained float model, writes it as full_int8,
trains a copy on as its int8 twin, once more without rounding for as many steps, and writes both likewise. All files are
scored on the absent speaker in LiteRT: by accuracy, and by how far their probabilities are from those of the float
model that they were made from. With --validate, and models of that, settings are chosen.
"""

import argparse
import tempfile
from pathlib import Path

import keras
import numpy as np
from fsdd_speakers import folds, summary
from record import record

import zoo.layers  # noqa: F401  which a saved model names
from zoo import export
from zoo.export.session import Session
from zoo.export.verification import named, run_examples

BATCH_SIZE = 64


def trained_on(recipe, model, options, aware):
    """Return a copy of `model` trained on, as its int8 twin if `aware`."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    learner = export.quantize_aware(copy) if aware else copy
    samples, labels = recipe._training_clips()
    steps = options.epochs * -(-len(labels) // BATCH_SIZE)
    keras.utils.set_random_seed(options.seed)
    learner.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(options.learning_rate, steps), global_clipnorm=1.0
        ),
        keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
    )
    learner.fit(samples, np.eye(len(recipe.labels))[labels], batch_size=BATCH_SIZE, epochs=options.epochs, verbose=0)
    return copy


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
            "bytes": path.stat().st_size,
            "difference": float(np.abs(answers - own).max()),
            "mean_difference": float(np.abs(answers - own).mean()),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fsdd", help="folder of the recordings, or fsdd to fetch them")
    parser.add_argument("--models", type=Path, required=True, help="folder that fsdd_speakers.py --keep wrote")
    parser.add_argument("--network", default="crnn", help="that of the models")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="at the start; it falls to 0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--validate", action="store_true", help="the models are those of fsdd_speakers.py --validate")
    options = parser.parse_args()
    settings = {"data": options.data, "network": options.network, "extra": "demo"}
    found = {}
    for speaker, recipe in folds(settings, options.validate):
        model = keras.models.load_model(options.models / f"{speaker}.keras")
        found[speaker] = {
            "after training": score(recipe, model),
            "trained on": score(recipe, trained_on(recipe, model, options, aware=False)),
            "trained on, aware": score(recipe, trained_on(recipe, model, options, aware=True)),
        }
        for name, scores in found[speaker].items():
            print(f"{speaker:10} {name:18} {scores}", flush=True)
    means = summary(found)
    for name, mean in means.items():
        for key in ("float_accuracy", "mean_difference"):
            mean[key] = float(np.mean([scores[name][key] for scores in found.values()]))
        mean["points_lost"] = round(100 * (mean["float_accuracy"] - mean["accuracy"]), 2)
        print(f"{name:18} {mean}")
    if not options.validate:
        chosen = {
            name: value for name, value in vars(options).items() if name in ("network", "epochs", "learning_rate")
        }
        record(
            "quantize_aware",
            {
                "recipe": "keyword_spotting",
                "data": "Free Spoken Digits",
                "split": "leave one speaker out; all recordings of that speaker test",
                "settings": chosen,
                "seeds": [options.seed],
                "mean": means,
                "by_speaker": found,
            },
        )


if __name__ == "__main__":
    main()
