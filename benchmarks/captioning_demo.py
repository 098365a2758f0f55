"""What captioning makes of its demo sets: of pairs that training showed and of pairs that it did not, with pictures.

    python benchmarks/captioning_demo.py --recipe image_captioning

Variants are compared by CIDEr-D on the validation split, which has new pairs of its own; the best of them is trained
with three seeds and tested, once for each. The first is exported and looked at.

Writes docs/pictures/RECIPE-attention.png, a test example that is captioned rightly with what each word looked at, and
RECIPE-failure.png, the one whose wrong caption is the surest.
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from record import record

from zoo import export, recipes
from zoo.data import demo_movements, demo_scenes
from zoo.export import contents

VARIANTS = {
    "as it is by default": {},
    "label smoothing of 0.1": {"label_smoothing": 0.1},
    "twice the dropout": {"dropout": 0.4},
    "own words, up to 20 %": {"own_words": 0.2},
}
SEEDS = (0, 1, 2)
PICTURES = Path(__file__).parents[1] / "docs" / "pictures"


def saved(example, folder):
    """Write a picture, or the frames of a clip, where the device's program reads it; return the path."""
    path = Path(folder, "example")
    if example.ndim == 3:
        path = path.with_suffix(".png")
        Image.fromarray(example).save(path)
        return path
    path.mkdir()
    for number, frame in enumerate(example):
        Image.fromarray(frame).save(path / f"{number:03}.png")
    return path


def phrases(recipe):
    """Return {what: set of phrases}: those that training shows together, and those that it does not."""
    things, new = set(itertools.product(demo_scenes.COLOURS, demo_scenes.SHAPES)), demo_scenes.HELD_OUT
    found = {
        "things that training showed": things.difference(*new.values()),
        "things that training did not show": set(new["test"]),
    }
    if recipe == "video_captioning":
        ways, new = set(itertools.permutations(demo_movements.WAYS, 2)), demo_movements.HELD_OUT
        for what, pairs in (("showed", ways.difference(*new.values())), ("did not show", new["test"])):
            found[f"movements that training {what}"] = {(one, "then", other) for one, other in pairs}
    return found


def named(said, right, wanted):
    """Return how often a right caption has one of the wanted phrases, and the share of these that was said as well."""
    size = len(next(iter(wanted)))

    def within(words):
        return {tuple(words[start : start + size]) for start in range(len(words))} & wanted

    found = [
        phrase in within(ones[0][0])
        for ones, references in zip(said, right, strict=True)
        for phrase in within(references[0])
    ]
    return {"count": len(found), "named": round(float(np.mean(found)), 4)}


def figures(scores):
    return {name: round(value, 4) for name, value in scores.items() if isinstance(value, float)}


def trained(name, settings, seed):
    """Return (recipe, model, history, seconds); the test scores that training returns are dropped unseen."""
    recipe = recipes.get(name)(**settings, seed=seed)
    started = time.perf_counter()
    model, scores = recipe.train(verbose=0)
    return recipe, model, scores["history"], round(time.perf_counter() - started, 1)


def compare(name):
    """Return {variant: what it is in validation}, and the best one's name and `trained`."""
    variants, best = {}, None
    for variant, settings in VARIANTS.items():
        found = trained(name, settings, SEEDS[0])
        recipe, model, _, seconds = found
        scores = figures(recipe.evaluate(model, split="validation"))
        variants[variant] = {"settings": settings, "validation": scores, "seconds": seconds}
        print(variant, variants[variant], flush=True)
        if best is None or scores["cider"] > variants[best[0]]["validation"]["cider"]:
            best = variant, found
    return variants, *best


def test(name, recipe, model):
    """Return (what is captioned of the test split, the references, scores)."""
    chosen, right = recipe.load().select("test")
    said = recipe.caption(model, chosen)
    composed = {what: named(said, right, wanted) for what, wanted in phrases(name).items()}
    scores = {"scores": figures(recipe.evaluate(model)), "named": composed}
    print("seed", recipe.seed, scores, flush=True)
    return chosen, said, right, scores


def show(name, chosen, said, right):
    """Draw the surest of the right captions and of the wrong ones; return what they say."""
    task = __import__(f"zoo.recipes.{name}.device", fromlist=["device"])
    exact = np.array([tuple(ones[0][0]) in references for ones, references in zip(said, right, strict=True)])
    score = np.array([ones[0][1] for ones in said])
    examples = {}
    for kind, rows in (("attention", exact), ("failure", ~exact)):
        if rows.any():
            row = int(np.flatnonzero(rows)[score[rows].argmax()])
            words, value, _ = said[row][0]
            examples[kind] = {
                "said": " ".join(words),
                "score": round(value, 3),
                "right": [" ".join(r) for r in right[row]],
            }
            with tempfile.TemporaryDirectory() as folder:
                task.draw(said[row], saved(chosen[row], folder), PICTURES / f"{name}-{kind}.png")
    return examples


def mean(ones):
    """Return the mean of dicts of figures, place by place; counts stay what they are."""
    return {
        name: mean([one[name] for one in ones])
        if isinstance(value, dict)
        else round(float(np.mean([o[name] for o in ones])), 4)
        for name, value in ones[0].items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="image_captioning", choices=("image_captioning", "video_captioning"))
    name = parser.parse_args().recipe
    variants, variant, (recipe, model, history, seconds) = compare(name)
    chosen, said, right, scores = test(name, recipe, model)
    tested, examples = {SEEDS[0]: scores}, show(name, chosen, said, right)
    with tempfile.TemporaryDirectory() as folder:
        card = contents.read_card(export.bundle(recipe, model, Path(folder, "bundle")))
    for seed in SEEDS[1:]:
        tested[seed] = test(name, *trained(name, VARIANTS[variant], seed)[:2])[-1]
    kept = ("name", "bytes", "latency_ms", "metric")
    record(
        f"{name}-demo",
        {
            "recipe": name,
            "data": "the built-in demo set, synthetic",
            "split": "every example of validation and test has a pair that training does not show, in the test others",
            "variants": variants,
            "chosen": variant,
            "seeds": list(SEEDS),
            "parameters": {part: model.get_layer(part).count_params() for part in ("encoder", "decoder")},
            "training_seconds": seconds,
            "test": {"mean": mean(list(tested.values())), "by seed": tested},
            "examples": examples,
            "metric": card["metric"],
            "files": [{name: entry[name] for name in kept} for entry in card["models"]],
            "history": {name: [round(v, 4) for v in values] for name, values in history.items()},
        },
    )


if __name__ == "__main__":
    main()
