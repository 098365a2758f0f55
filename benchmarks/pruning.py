"""Pruned to 80% and int8: how small does a keyword model become, gzipped, and what does it lose?

    python benchmarks/pruning.py --data PATH

Free Spoken Digits, leaving one speaker out at a time. Each fold trains the recipe, keeps that model as float32 TFLite,
prunes a copy while it is trained on (taught by the unpruned one too), and writes it as dynamic_int8 TFLite. Both files
are gzipped, and scored on the absent speaker in LiteRT. With --validate each fold removes that speaker altogether,
trains on four and scores the fifth: the way to choose between settings.
"""

import argparse
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from fsdd_speakers import WithoutSpeaker
from record import record

import zoo.layers  # noqa: F401  which a saved model names
from zoo import export
from zoo.export.session import Session
from zoo.export.verification import named, run_examples
from zoo.recipes import KeywordSpotting

BATCH_SIZE = 64


def prune_in_training(recipe, model, options):
    """Return a copy of `model`, pruned while it is trained on."""
    pruned = keras.models.clone_model(model)
    pruned.set_weights(model.get_weights())
    samples, labels = recipe._training_clips()
    steps = options.epochs * -(-len(labels) // BATCH_SIZE)
    learner = pruned
    if options.teaching:
        learner = export.distil(pruned, model, temperature=options.temperature, weight=options.teaching)
    learner.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(options.learning_rate, steps), global_clipnorm=1.0
        ),
        keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        jit_compile=False,
    )
    learner.fit(
        samples,
        np.eye(len(recipe.labels))[labels],
        batch_size=BATCH_SIZE,
        epochs=options.epochs,
        callbacks=[export.Pruning(options.sparsity, layers=options.layers)],
        verbose=0,
    )
    return pruned


def score(recipe, model, scheme):
    """Return the accuracy of the exported file in LiteRT, its bytes, and its bytes gzipped."""
    samples, labels = recipe.load().select("test")
    with tempfile.TemporaryDirectory() as folder:
        path = export.to_tflite(model, Path(folder, "model.tflite"), scheme=scheme)
        session = Session(path)
        (answers,) = run_examples(session, named(session, samples)).values()
        return {
            "accuracy": recipe.metric(answers, labels),
            "bytes": path.stat().st_size,
            "gzipped": export.gzipped_size(path),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fsdd", help="folder of the recordings, or fsdd to fetch them")
    parser.add_argument("--network", default="crnn")
    parser.add_argument("--sparsity", type=float, default=0.85, help="of the layers pruned: 80%% of all")
    parser.add_argument(
        "--layers", nargs="*", default=["recurrent"], help="to prune; the others hold 6%% of the weights"
    )
    parser.add_argument("--epochs", type=int, default=20, help="of training on while pruning")
    parser.add_argument("--learning-rate", type=float, default=0.001, help="of training on, at its start")
    parser.add_argument("--teaching", type=float, default=0.5, help="the unpruned model's part in the loss; 0 for none")
    parser.add_argument("--temperature", type=float, default=2.0)
    parser.add_argument("--folds", type=int, default=6, help="speakers to leave out, one after the other")
    parser.add_argument(
        "--models", type=Path, help="trained models that fsdd_speakers.py --keep wrote; else they are trained"
    )
    parser.add_argument("--validate", action="store_true", help="choose between settings without the test speakers")
    options = parser.parse_args()
    settings = {"data": options.data, "network": options.network, "extra": "demo"}
    settings |= {"batch_size": BATCH_SIZE, "learning_rate": 0.003}  # as in fsdd_speakers.py

    speakers = sorted(set(KeywordSpotting(**settings).load().speakers))
    dense, pruned, zeros, seconds = {}, {}, {}, {}
    for position, speaker in enumerate(speakers[: options.folds]):
        recipe = KeywordSpotting(**settings, test_speaker=speaker)
        if options.validate:
            speaker, absent = speakers[(position + 1) % len(speakers)], speaker
            recipe = WithoutSpeaker(**settings, test_speaker=speaker, absent=absent)
        started = time.perf_counter()
        model = (
            keras.models.load_model(options.models / f"{speaker}.keras")
            if options.models
            else recipe.train(verbose=0)[0]
        )
        trained = time.perf_counter()
        small = prune_in_training(recipe, model, options)
        seconds[speaker] = [round(trained - started, 1), round(time.perf_counter() - trained, 1)]
        dense[speaker], pruned[speaker] = score(recipe, model, "float32"), score(recipe, small, "dynamic_int8")
        zeros[speaker] = export.sparsity_report(small).zeros
        print(f"{speaker:10} {dense[speaker]} {pruned[speaker]} {zeros[speaker]:.1%} {seconds[speaker]} s", flush=True)
    mean = {
        name: {key: float(np.mean([fold[key] for fold in folds.values()])) for key in ("accuracy", "bytes", "gzipped")}
        for name, folds in (("float32", dense), ("pruned_dynamic_int8", pruned))
    }
    small, large = mean["pruned_dynamic_int8"], mean["float32"]
    summary = {
        "points_lost": round(100 * (large["accuracy"] - small["accuracy"]), 2),
        "gzipped_share": round(small["gzipped"] / large["gzipped"], 4),
    }
    print(mean, summary)
    if not options.validate:
        record(
            "pruning",
            {
                "recipe": "keyword_spotting",
                "data": "Free Spoken Digits",
                "split": f"leave one speaker out, {options.folds} of 6; all recordings of that speaker test",
                "settings": {
                    name: value for name, value in vars(options).items() if name not in ("data", "models", "validate")
                },
                "zeros": min(zeros.values()),
                **summary,
                "mean": mean,
                "float32": dense,
                "pruned_dynamic_int8": pruned,
                "seconds_to_train_and_to_prune": seconds,
            },
        )


if __name__ == "__main__":
    main()
