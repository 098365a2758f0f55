"""Speech recognition on AN4: how much of what unheard speakers say is written down wrongly?

    python benchmarks/speech_an4.py --data PATH --runs FOLDER

Trains on JAX, each run in a process of its own, and keeps them in FOLDER, or takes those that are there: variants for a
part of the epochs, compared on the validation speakers, and the chosen settings with three seeds. Then scores the test
speakers on TensorFlow: the three models by greedy decoding and by a beam search that knows the words and word pairs of
the training texts, its weights chosen on validation; and the exported files of the first, each in its runtime.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Of the recipe, where they are not its defaults.
SETTINGS = {"seconds": 6.4, "epochs": 55, "units": 192, "layers": 2, "dropout": 0.45}
VARIANTS = {  # compared after a part of the epochs, their schedules as short
    "as chosen": {},
    "GRU": {"cell": "gru"},
    "one layer": {"layers": 1},
    "128 units": {"units": 128},
    "the past only, forward": {"streaming": True},
}
VARIANTS_EPOCHS = 20
SEEDS = (0, 1, 2)
FILES = (("tflite", "float32"), ("tflite", "dynamic_int8"), ("onnx", "float32"), ("onnx", "dynamic_int8"))
WIDTH, ORDER = 8, 2  # of the beam search; of the language model, words
WEIGHTS, BONUSES = (0.4, 0.8), (0.0, 1.0)


def train(options):
    """Train and keep one run."""
    from zoo import recipes

    settings = SETTINGS | {"seed": options.seed}
    if options.variant:
        settings |= VARIANTS[options.variant] | {"epochs": VARIANTS_EPOCHS}
    recipe = recipes.SpeechRecognition(data=options.data, **settings)
    started = time.perf_counter()
    model, scores = recipe.train(verbose=2)
    recipes.save(options.train, recipe, model, scores | {"seconds": round(time.perf_counter() - started, 1)})


def trained(options):
    """Train what FOLDER lacks; return the runs of the variants and of the seeds, {name: path}."""
    variants = {name: options.runs / name.replace(" ", "-") for name in VARIANTS}
    seeds = {seed: options.runs / f"seed-{seed}" for seed in SEEDS}
    wanted = [(path, 0, name) for name, path in variants.items()] + [(path, seed, "") for seed, path in seeds.items()]
    for path, seed, variant in wanted:
        if not path.exists():
            print("training", path.name, flush=True)
            command = [sys.executable, __file__, "--data", options.data, "--train", path, "--seed", str(seed)]
            environment = {**os.environ, "KERAS_BACKEND": "jax"}
            subprocess.run([*command, "--variant", variant], env=environment, check=True)
    return variants, seeds


def noted(run):
    """Return what a run's training noted by epoch, in validation, and its seconds."""
    scores = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    return scores["history"], scores["seconds"]


def rates(recipe, texts, outputs, **search):
    """Return {"cer", "wer"} of outputs, rounded."""
    import jiwer

    heard = recipe.transcribe(outputs, **search)
    return {"cer": round(jiwer.cer(texts, heard), 4), "wer": round(jiwer.wer(texts, heard), 4)}


def score_files(recipe, model, inputs, texts, expected):
    """Return {file: {"cer", "wer", "bytes", "latency_ms", "difference"}} of exported files, each run in its runtime."""
    import numpy as np

    from zoo import export
    from zoo.export.session import Session, latency_ms
    from zoo.export.verification import named, run_examples

    scores = {}
    with tempfile.TemporaryDirectory() as folder:
        for format, scheme in FILES:
            name = f"{scheme}.{format}"
            write = export.to_tflite if format == "tflite" else export.to_onnx
            plan = export.plan(model, format=format, scheme=scheme, masks=recipe.masks)
            path = write(model, Path(folder, name), scheme=scheme, plan=plan)
            session = Session(path)
            given = named(session, inputs)
            (outputs,) = run_examples(session, given).values()
            scores[name] = rates(recipe, texts, outputs) | {
                "bytes": path.stat().st_size,
                "latency_ms": round(latency_ms(session, {name: value[:1] for name, value in given.items()}), 1),
                "difference": float(np.abs(outputs - expected).max()),
            }
            print(name, scores[name], flush=True)
    return scores


def failure(recipe, model):
    """Return the validation utterance that greedy decoding gets most wrong, {"said", "heard"}."""
    import jiwer

    inputs, texts = recipe.inputs("validation")
    heard = recipe.transcribe(model.predict(inputs, batch_size=32, verbose=0))
    worst = max(range(len(texts)), key=lambda row: jiwer.cer(texts[row], heard[row]))
    return {"said": texts[worst], "heard": heard[worst]}


def choose_search(recipe, model):
    """Return the options of the beam search with the fewest wrong words in validation, and their rates there."""
    from zoo.recipes.speech_recognition.ngram import NGram

    known = recipe.load().select("train")[1]
    language, words = NGram(known, ORDER, words=True), sorted({word for text in known for word in text.split()})
    inputs, texts = recipe.inputs("validation")
    outputs = model.predict(inputs, batch_size=32, verbose=0)
    found = []
    for weight, bonus in itertools.product(WEIGHTS, BONUSES):
        search = {"width": WIDTH, "language": language, "weight": weight, "bonus": bonus, "lexicon": words}
        found.append((rates(recipe, texts, outputs, **search), search))
        print("weight", weight, "bonus", bonus, found[-1][0], flush=True)
    best, search = min(found, key=lambda pair: (pair[0]["wer"], pair[0]["cer"]))
    return search, {"greedy": rates(recipe, texts, outputs), "with_training_texts": best}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of AN4, as arrays of features or as published")
    parser.add_argument("--runs", type=Path, help="folder of the runs; those that it lacks are trained")
    for name, kind in (("--train", Path), ("--seed", int), ("--variant", str)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)  # one run, in a process of its own
    options = parser.parse_args()
    if options.train:
        train(options)
    else:
        score(*trained(options))


def score(variants, seeds):
    """Score the runs, on the test speakers those of all seeds, and record what is found."""
    import numpy as np
    from record import record

    from zoo import recipes

    compared = {}
    for name, run in variants.items():
        history, seconds = noted(run)
        parameters = recipes.load(run)[1].count_params()
        compared[name] = {"cer": round(min(history["val_error_rate"]), 4), "parameters": parameters, "seconds": seconds}
        print(name, compared[name], flush=True)
    recipe, model = recipes.load(seeds[0])
    search, validation = choose_search(recipe, model)
    print("validation", validation, flush=True)
    inputs, texts = recipe.inputs("test")
    test = {"greedy": [], "with_training_texts": []}
    for run in seeds.values():
        outputs = recipes.load(run)[1].predict(inputs, batch_size=32, verbose=0)
        test["greedy"].append(rates(recipe, texts, outputs))
        test["with_training_texts"].append(rates(recipe, texts, outputs, **search))
        print(run.name, {name: each[-1] for name, each in test.items()}, flush=True)
    mean = {
        name: {rate: round(float(np.mean([one[rate] for one in each])), 4) for rate in ("cer", "wer")}
        for name, each in test.items()
    }
    splits = recipe.load().split.tolist()
    history, seconds = noted(seeds[0])
    record(
        "speech_recognition-an4",
        {
            "recipe": recipe.name,
            "data": "AN4, 13 cepstra at 100 frames a second",
            "split": "the set's own test speakers; a tenth of the training speakers validate",
            "utterances": {name: splits.count(name) for name in ("train", "validation", "test")},
            "weights": "fewest wrong characters in validation",
            "seeds": list(seeds),
            "settings": SETTINGS,
            "parameters": model.count_params(),
            "variants": {"epochs": VARIANTS_EPOCHS, "of": compared},
            "test": {"mean": mean, "by seed": test},
            "validation": validation,
            "search": {name: search[name] for name in ("width", "weight", "bonus")} | {"order": ORDER},
            "files": score_files(recipe, model, inputs, texts, model.predict(inputs, batch_size=32, verbose=0)),
            "failure": failure(recipe, model),
            "history": {name: [round(value, 4) for value in values] for name, values in history.items()},
            "training_seconds": seconds,
            "trained_on": "jax",
        },
    )


if __name__ == "__main__":
    main()
