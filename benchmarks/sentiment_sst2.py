"""Sentiment on SST-2 sentences: which variant is best on the development set, and what it says of the test set.

    KERAS_BACKEND=jax python benchmarks/sentiment_sst2.py --data PATH

Every variant trains once on the 6,920 sentences. The one with the best accuracy on the development set trains with two
more seeds and is tested, once for each; no other variant sees the test set. The first of the three is exported, and
each file tested in its runtime. Beside it stands the floor, naive Bayes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from record import record

from zoo import recipes
from zoo.recipes import Sentiment

SETTINGS = {
    "vocabulary_size": 7000,
    "length": 48,
    "vectors": "texts",
    "prior": True,
    "embedding": 64,
    "units": 24,
    "word_dropout": 0.4,
    "dropout": 0.5,
    "epochs": 10,
    "learning_rate": 0.001,
}
VARIANTS = {
    "random embeddings": {"vectors": "", "prior": False},
    "vectors of the training texts": {"prior": False},
    "vectors and prior": {},
    "the same, GRU": {"cell": "gru"},
    "the same, IndRNN": {"cell": "indrnn"},
    "the same, max pooling": {"pooling": "max"},
    "the same, pieces of words": {"vocabulary": "pieces", "vocabulary_size": 4000},
}
SEEDS = (0, 1, 2)


def floor(texts):
    """Return {split: accuracy} of naive Bayes over the presence of words."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB

    counter = CountVectorizer(binary=True, token_pattern=r"\S+")
    sentences, labels = texts.select("train")
    model = MultinomialNB().fit(counter.fit_transform(sentences), labels)
    scores = {}
    for split in ("validation", "test"):
        sentences, labels = texts.select(split)
        scores[split] = round(float(model.score(counter.transform(sentences), labels)), 4)
    return scores


def train(settings, data, seed):
    """Return (recipe, model, history, seconds); the test scores that training returns are dropped unseen."""
    recipe = Sentiment(**SETTINGS | settings, data=data, seed=seed)
    started = time.perf_counter()
    model, scores = recipe.train(verbose=0)
    return recipe, model, scores["history"], round(time.perf_counter() - started, 1)


def score_files(run):
    """Return {file: accuracy, bytes, ms, difference from the model} of a saved run's exports on the whole test set."""
    from zoo import export
    from zoo.export.session import Session, latency_ms
    from zoo.export.verification import named, run_examples

    recipe, model = recipes.load(run)
    tokens, labels = recipe.held_out(len(recipe.load().texts))
    expected, files = model.predict(tokens, verbose=0), {}
    with tempfile.TemporaryDirectory() as folder:
        for format, write in (("tflite", export.to_tflite), ("onnx", export.to_onnx)):
            for scheme in ("float32", "float16", "weight_int8", "dynamic_int8"):
                plan = export.plan(model, format=format, scheme=scheme, masks=recipe.masks)
                path = write(model, Path(folder, f"{scheme}.{format}"), scheme=scheme, plan=plan)
                session = Session(path)
                (answers,) = run_examples(session, named(session, tokens)).values()
                files[path.name] = {
                    "accuracy": round(recipe.metric(answers, labels), 4),
                    "bytes": path.stat().st_size,
                    "latency_ms": round(latency_ms(session, {"tokens": tokens[:1]}), 3),
                    "difference": float(np.abs(answers - expected).max()),
                }
    return files


def failure(recipe, model):
    """Return the development sentence of which the model is most surely wrong."""
    texts, labels = recipe.load().select("validation")
    answers = model.predict(recipe.encode(texts), verbose=0)
    worst = int(answers[np.arange(len(labels)), labels].argmin())
    return {"text": texts[worst], "label": recipe.labels[labels[worst]], "probability": float(answers[worst].max())}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of train.tsv, dev.tsv and test.tsv")
    parser.add_argument("--files", help=argparse.SUPPRESS)  # a run to export, which takes TensorFlow: see below
    options = parser.parse_args()
    if options.files:
        print(json.dumps(score_files(options.files)))
        return
    variants, best = {}, None
    for name, settings in VARIANTS.items():
        recipe, model, history, seconds = train(settings, options.data, SEEDS[0])
        scores = recipe.evaluate(model, split="validation")
        variants[name] = {
            "settings": settings,
            "validation_accuracy": round(scores["accuracy"], 4),
            "parameters": model.count_params(),
            "training_seconds": seconds,
        }
        print(f"{name:32} {scores['accuracy']:.4f}  {seconds:.0f} s", flush=True)
        if best is None or scores["accuracy"] > variants[best[0]]["validation_accuracy"]:
            best = (name, recipe, model, history)
    name, recipe, model, history = best
    tested = {SEEDS[0]: recipe.evaluate(model)}
    with tempfile.TemporaryDirectory() as folder:
        run = recipes.save(Path(folder, "run"), recipe, model, {})
        command = [sys.executable, __file__, "--files", str(run)]
        done = subprocess.run(
            command, env={**os.environ, "KERAS_BACKEND": "tensorflow"}, stdout=subprocess.PIPE, check=True
        )
        files = json.loads(done.stdout.splitlines()[-1])
    for seed in SEEDS[1:]:
        again, other, _, _ = train(VARIANTS[name], options.data, seed)
        tested[seed] = again.evaluate(other)
        print(f"seed {seed}  test {tested[seed]['accuracy']:.4f}", flush=True)
    accuracy = [scores["accuracy"] for scores in tested.values()]
    print(f"{name}: test {np.mean(accuracy):.4f}, {accuracy}")
    record(
        "sentiment-sst2",
        {
            "recipe": "sentiment",
            "data": "SST-2, sentences alone: no phrases of the treebank",
            "split": "the set's own: train, dev for the choice of variant and epoch, test",
            "settings": SETTINGS,
            "backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
            "floor": floor(recipe.load()),
            "variants": variants,
            "chosen": name,
            "test_accuracy": {"mean": round(float(np.mean(accuracy)), 4)}
            | {f"seed {seed}": round(scores["accuracy"], 4) for seed, scores in tested.items()},
            "test": tested[SEEDS[0]],
            "files": files,
            "failure": failure(recipe, model),
            "history": {name: [round(value, 4) for value in values] for name, values in history.items()},
        },
    )


if __name__ == "__main__":
    main()
