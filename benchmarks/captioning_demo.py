"""What captioning makes of its demo sets: of pairs that training showed and of pairs that it did not, with pictures.

    python benchmarks/captioning_demo.py --recipe image_captioning

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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="image_captioning", choices=("image_captioning", "video_captioning"))
    name = parser.parse_args().recipe
    recipe = recipes.get(name)()
    task = __import__(f"zoo.recipes.{name}.device", fromlist=["device"])
    started = time.perf_counter()
    model, scores = recipe.train(verbose=2)
    seconds = round(time.perf_counter() - started, 1)
    splits = {"validation": recipe.evaluate(model, split="validation"), "test": scores}
    splits = {
        split: {n: round(v, 4) for n, v in found.items() if isinstance(v, float)} for split, found in splits.items()
    }
    print(splits, seconds, flush=True)
    chosen, right = recipe.load().select("test")
    said = recipe.caption(model, chosen)
    exact = np.array([tuple(ones[0][0]) in references for ones, references in zip(said, right, strict=True)])
    score = np.array([ones[0][1] for ones in said])
    composed = {what: named(said, right, wanted) for what, wanted in phrases(name).items()}
    print(composed, flush=True)
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
    print(examples, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        card = contents.read_card(export.bundle(recipe, model, Path(folder, "bundle")))
    kept = ("name", "bytes", "latency_ms", "metric")
    record(
        f"{name}-demo",
        {
            "recipe": name,
            "data": "the built-in demo set, synthetic",
            "split": "every example of validation and test has a pair that training does not show, in the test others",
            "seeds": [recipe.seed],
            "parameters": {part: model.get_layer(part).count_params() for part in ("encoder", "decoder")},
            "training_seconds": seconds,
            "scores": splits,
            "named in the test": composed,
            "examples": examples,
            "metric": card["metric"],
            "files": [{name: entry[name] for name in kept} for entry in card["models"]],
            "history": {name: [round(v, 4) for v in values] for name, values in scores["history"].items()},
        },
    )


if __name__ == "__main__":
    main()
