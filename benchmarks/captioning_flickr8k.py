"""Captions of Flickr8k: which variant is best on the 1,000 validation pictures, and what it says of the test's.

    python benchmarks/captioning_flickr8k.py --data PATH --encoders PATH --runs PATH

Every variant trains once on the 6,000 training pictures and is captioned on the validation split; the one with the
highest CIDEr there is trained with two more seeds; the three are tested, once each. The first is exported, and each
pair of files tested in its runtime on the same pictures. A run that is in `--runs` already is not trained again.
"""

import argparse
import itertools
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from record import record

from zoo import recipes
from zoo.recipes import ImageCaptioning

MOBILENET = "mobilenet_v2_1.0_224_quant.tflite"
SETTINGS = {
    "rare": 5,
    "units": 256,
    "width": 256,
    "dropout": 0.5,
    "word_dropout": 0.0,
    "label_smoothing": 0.1,
    "epochs": 6,
    "batch_size": 64,
    "learning_rate": 0.002,
    "image_size": 160,
    "beam": 3,
}
VARIANTS = {
    "MobileNetV2": {},
    "narrower, larger batches": {"width": 128, "dropout": 0.4, "batch_size": 100, "epochs": 7},
    "attention that covers all places": {"doubly_stochastic": 0.1},
    "half of the words before hidden": {"word_dropout": 0.5},
}
SEEDS = (0, 1, 2)
PUBLISHED = {  # with far larger encoders, as the papers have them
    "Show, attend and tell, soft attention": {"bleu_1": 67.0, "bleu_2": 44.8, "bleu_3": 29.9, "bleu_4": 19.5},
}
SCHEMES = ("float32", "dynamic_int8")


class Validated(ImageCaptioning):
    """The recipe, whose training does not look at the test split: it is scored here, once."""

    def evaluate(self, model, *, split="validation", **options):
        return super().evaluate(model, split=split, **options)


def settings_of(variant, data, encoders):
    """Return all settings of a variant."""
    return SETTINGS | VARIANTS[variant] | {"encoder": str(Path(encoders, MOBILENET)), "data": data}


def trained(variant, options, seed=SEEDS[0]):
    """Return (recipe, model, scores) of a variant, from its run if there is one."""
    name = variant if seed == SEEDS[0] else f"{variant} seed {seed}"
    folder = Path(options.runs, "".join(c if c.isalnum() else "-" for c in name))
    recipe = Validated(**settings_of(variant, options.data, options.encoders), seed=seed)
    if not folder.exists():
        started = time.perf_counter()
        recipe._seen(recipe.model())  # features apart, as they are computed once
        features = time.perf_counter() - started
        started = time.perf_counter()
        model, scores = recipe.train(verbose=2)
        scores |= {"seconds": round(time.perf_counter() - started, 1), "features_seconds": round(features, 1)}
        scores["beams"] = {str(beam): rounded(recipe.evaluate(model, beam=beam)) for beam in (1, 3, 5)}
        recipes.save(folder, recipe, model, scores)
    return recipe, recipes.load(folder)[1], json.loads(Path(folder, "scores.json").read_text())


def rounded(scores):
    return {name: round(value, 4) for name, value in scores.items() if isinstance(value, (int, float))}


def score_files(recipe, model):
    """Return {format and scheme: bytes, milliseconds, scores} of exported pairs of files, on the test."""
    from zoo import export
    from zoo.export.session import Session, latency_ms
    from zoo.recipes.image_captioning import device
    from zoo.recipes.image_captioning.scores import score

    chosen, captions = recipe.load().select("test")
    card = {"labels": recipe.labels, "settings": {n: getattr(recipe, n) for n in ("beam", "length", "length_penalty")}}
    images = [device.read(path, {"settings": {"image_size": recipe.image_size}}) for path in chosen]
    files = {"the Keras model": score([best[0][0] for best in recipe.caption(model, chosen)], captions)}
    with tempfile.TemporaryDirectory() as folder:
        for format, write in (("tflite", export.to_tflite), ("onnx", export.to_onnx)):
            for scheme in SCHEMES:
                paths = {
                    part: write(one, Path(folder, f"{part}.{scheme}.{format}"), scheme=scheme)
                    for part, one in recipe.parts(model).items()
                }
                parts = {part: Session(path) for part, path in paths.items()}
                said = [device.answer(device.run(parts, image, card), card)[0][0] for image in images]
                seen = parts["encoder"](images[0])
                files[f"{format} {scheme}"] = score(said, captions) | {
                    "bytes": {part: path.stat().st_size for part, path in paths.items()},
                    "ms": {
                        "encoder": round(latency_ms(parts["encoder"], images[0]), 2),
                        "step": round(latency_ms(parts["step"], {"word": np.array([[1]], np.int32), **seen}), 3),
                    },
                }
    return {
        name: rounded(scores) | {n: scores[n] for n in ("bytes", "ms") if n in scores} for name, scores in files.items()
    }


def surest_failures(recipe, model, count=3):
    """Return [{"picture", "said", "score"}] of test captions that share no two words in a row with a right one."""
    chosen, captions = recipe.load().select("test")
    wrong = []
    for path, right, found in zip(chosen, captions, recipe.caption(model, chosen), strict=True):
        words, score, _ = found[0]
        told = {pair for reference in right for pair in itertools.pairwise(reference)}
        if not told & set(itertools.pairwise(words)):
            wrong.append({"picture": Path(path).name, "said": " ".join(words), "score": round(score, 3)})
    return sorted(wrong, key=lambda one: -one["score"])[:count], len(wrong)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of Flickr8k.token.txt")
    parser.add_argument("--encoders", required=True, help=f"folder of {MOBILENET}")
    parser.add_argument("--runs", required=True, help="folder for the trained variants")
    parser.add_argument("--variants", nargs="+", default=VARIANTS, help="only these, and no test")
    options = parser.parse_args()
    found = {}
    for variant in options.variants:
        _, model, scores = trained(variant, options)
        found[variant] = {
            "settings": VARIANTS[variant],
            "validation": scores["beams"],
            "cider_by_epoch": [round(value, 4) for value in scores["history"]["val_cider"]],
            "parameters": {name: model.get_layer(name).count_params() for name in ("encoder", "decoder")},
            "training_seconds": scores["seconds"],
            "features_seconds": scores["features_seconds"],
        }
        print(variant, found[variant], flush=True)
    if list(options.variants) != list(VARIANTS):
        return
    best = max(found, key=lambda variant: found[variant]["validation"]["3"]["cider"])
    recipe, model, scores = trained(best, options)
    tested = {}
    for seed in SEEDS:
        own, other, _ = trained(best, options, seed)
        tested[seed] = rounded(own.evaluate(other, split="test", meteor=True))
        print(best, "seed", seed, tested[seed], flush=True)
    mean = {name: round(float(np.mean([one[name] for one in tested.values()])), 4) for name in tested[SEEDS[0]]}
    failures, wrong = surest_failures(recipe, model)
    record(
        "image_captioning-flickr8k",
        {
            "recipe": "image_captioning",
            "data": "Flickr8k, pictures of 160 x 160 pixels",
            "split": "the set's own: 6,000 train, 1,000 validation for the choice of variant and epoch, 1,000 test",
            "settings": SETTINGS,
            "variants": found,
            "chosen": best,
            "test": {"mean": mean, "by seed": tested},
            "without two words in a row of a right caption": wrong,
            "the surest of them": failures,
            "files": score_files(recipe, model),
            "published": PUBLISHED,
            "history": {name: [round(value, 4) for value in values] for name, values in scores["history"].items()},
        },
    )


if __name__ == "__main__":
    main()
