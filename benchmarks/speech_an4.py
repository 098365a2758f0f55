"""Speech recognition on AN4: how much of what unheard speakers say is written down wrongly?

    python benchmarks/speech_an4.py --data PATH --run FOLDER

Trains on JAX in a process of its own and keeps the run in FOLDER, or takes the run that is there. Then scores the test
speakers on TensorFlow: the Keras model by greedy decoding, the exported files likewise, each in its runtime, and a beam
search that knows the words and word pairs of the training texts, its weights chosen on validation. Training prints the
error rate of the validation speakers after each epoch, by which settings are chosen.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Of the recipe, where they are not its defaults.
SETTINGS = {"seconds": 6.4, "epochs": 55, "units": 192, "layers": 2, "dropout": 0.45}
FILES = (("tflite", "float32"), ("tflite", "dynamic_int8"), ("onnx", "float32"), ("onnx", "dynamic_int8"))
WIDTH, ORDER = 8, 2  # of the beam search; of the language model, words
WEIGHTS, BONUSES = (0.4, 0.8), (0.0, 1.0)


def train(options):
    """Train and keep the run."""
    from zoo import recipes

    recipe = recipes.SpeechRecognition(data=options.data, seed=options.seed, **SETTINGS)
    started = time.perf_counter()
    model, scores = recipe.train(verbose=2)
    recipes.save(options.run, recipe, model, scores | {"seconds": round(time.perf_counter() - started, 1)})


def rates(recipe, texts, outputs, **search):
    """Return {"cer", "wer"} of outputs, rounded."""
    import jiwer

    heard = recipe.transcribe(outputs, **search)
    return {"cer": round(jiwer.cer(texts, heard), 4), "wer": round(jiwer.wer(texts, heard), 4)}


def score_files(recipe, model, inputs, texts, expected):
    """Return {file: {"cer", "wer", "bytes", "difference"}} of exported files, each run in its runtime."""
    import numpy as np

    from zoo import export
    from zoo.export.session import Session
    from zoo.export.verification import named, run_examples

    scores = {}
    with tempfile.TemporaryDirectory() as folder:
        for format, scheme in FILES:
            name = f"{scheme}.{format}"
            write = export.to_tflite if format == "tflite" else export.to_onnx
            plan = export.plan(model, format=format, scheme=scheme, masks=recipe.masks)
            path = write(model, Path(folder, name), scheme=scheme, plan=plan)
            session = Session(path)
            (outputs,) = run_examples(session, named(session, inputs)).values()
            scores[name] = rates(recipe, texts, outputs) | {
                "bytes": path.stat().st_size,
                "difference": float(np.abs(outputs - expected).max()),
            }
            print(name, scores[name], flush=True)
    return scores


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
    parser.add_argument("--run", type=Path, required=True, help="folder of the run; made if it is not there")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train_only:
        train(options)
        return
    if not options.run.exists():
        environment = {**os.environ, "KERAS_BACKEND": "jax"}
        subprocess.run([sys.executable, *sys.argv, "--train-only"], env=environment, check=True)
    score(options)


def score(options):
    """Score the run on the test speakers, and record what is found."""
    import json

    from record import record

    from zoo import recipes

    recipe, model = recipes.load(options.run)
    trained = json.loads((options.run / "scores.json").read_text(encoding="utf-8"))
    search, validation = choose_search(recipe, model)
    print("validation", validation, flush=True)
    inputs, texts = recipe.inputs("test")
    outputs = model.predict(inputs, batch_size=32, verbose=0)
    test = {"greedy": rates(recipe, texts, outputs), "with_training_texts": rates(recipe, texts, outputs, **search)}
    print("test", test, flush=True)
    splits = recipe.load().split.tolist()
    record(
        "speech_recognition-an4",
        {
            "recipe": recipe.name,
            "data": "AN4, 13 cepstra at 100 frames a second",
            "split": "the set's own test speakers; a tenth of the training speakers validate",
            "utterances": {name: splits.count(name) for name in ("train", "validation", "test")},
            "weights": "fewest wrong characters in validation",
            "seeds": [recipe.seed],
            "settings": SETTINGS,
            "parameters": model.count_params(),
            "test": test,
            "validation": validation,
            "search": {name: search[name] for name in ("width", "weight", "bonus")} | {"order": ORDER},
            "files": score_files(recipe, model, inputs, texts, outputs),
            "training_seconds": trained["seconds"],
            "trained_on": "jax",
        },
    )


if __name__ == "__main__":
    main()
