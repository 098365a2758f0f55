"""Sentiment on IMDB's long reviews, and what it costs to read a part of them only.

    KERAS_BACKEND=jax python benchmarks/sentiment_imdb.py --data PATH

A tenth of the training reviews validates. For each length and each end to keep, one training; the best on validation is
tested, once.
"""

import argparse
import itertools
import os
import time

from record import record

from zoo.recipes import Sentiment

SETTINGS = {
    "vocabulary_size": 20000,
    "embedding": 64,
    "cell": "gru",
    "units": 64,
    "pooling": "max",
    "prior": True,
    "word_dropout": 0.2,
    "dropout": 0.5,
    "epochs": 3,
    "batch_size": 64,
    "learning_rate": 0.002,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="imdb", help="folder of the reviews, or imdb to fetch them")
    parser.add_argument("--lengths", type=int, nargs="+", default=[100, 200, 400], help="tokens that are read")
    parser.add_argument("--ends", nargs="+", default=["start", "end"], help="of a longer review, the one that is read")
    options = parser.parse_args()
    rows, best = [], None
    for length, keep in itertools.product(options.lengths, options.ends):
        recipe = Sentiment(**SETTINGS, data=options.data, length=length, keep=keep)
        started = time.perf_counter()
        model, tested = recipe.train(verbose=0)
        seconds = round(time.perf_counter() - started, 1)
        scores = recipe.evaluate(model, split="validation")
        rows.append(
            {
                "length": length,
                "keep": keep,
                "validation_accuracy": round(scores["accuracy"], 4),
                "cut": round(scores["cut"] / scores["texts"], 3),
                "training_seconds": seconds,
            }
        )
        print(rows[-1], flush=True)
        if best is None or scores["accuracy"] > best[0]:
            best = (scores["accuracy"], length, keep, tested, model.count_params())
    _, length, keep, tested, parameters = best
    record(
        "sentiment-imdb",
        {
            "recipe": "sentiment",
            "data": "IMDB, Large Movie Review Dataset",
            "split": "the set's own test; a tenth of its training reviews, by a hash, chooses length, end and epoch",
            "settings": SETTINGS,
            "backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
            "cuts": rows,
            "chosen": {"length": length, "keep": keep},
            "parameters": parameters,
            "test": {name: value for name, value in tested.items() if name not in ("skipped", "history")},
        },
    )


if __name__ == "__main__":
    main()
