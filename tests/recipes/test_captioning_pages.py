"""The figures of the captioners' pages are those that were measured."""

import json
from pathlib import Path

import numpy as np
import pytest

from zoo.recipes.image_captioning import recipe

DOCS = Path(__file__).parents[2] / "docs"
SCORES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "cider", "exact")


@pytest.fixture(params=["image_captioning", "video_captioning"])
def measured(request):
    """(what was measured on the demo set, the page in one line)."""
    found = json.loads((DOCS / "results" / f"{request.param}-demo.json").read_text())
    return found, " ".join((DOCS / f"{request.param}.md").read_text().split())


def test_the_scores_of_the_demo_set_are_on_the_page(measured):
    found, page = measured
    by_seed, mean, chosen = found["test"]["by seed"], found["test"]["mean"], found["variants"][found["chosen"]]
    assert len(by_seed) == 3 and len(found["variants"]) >= 4
    rows = {"validation, with new pairs, seed 0": chosen["validation"]}
    rows |= {"test, with other new pairs, mean of three seeds": mean["scores"]}
    rows |= {f"test, seed {seed}": one["scores"] for seed, one in by_seed.items()}
    for name, scores in rows.items():
        assert f"| {name} | {' | '.join(f'{scores[score]:.3f}' for score in SCORES)} |" in page
    for what, each in mean["named"].items():
        named = [each["named"], *(one["named"][what]["named"] for one in by_seed.values())]
        assert np.mean(named[1:]) == pytest.approx(named[0], abs=1e-4)  # of figures rounded to four places
        assert f"| {what} | {each['count']:.0f} | {' | '.join(f'{100 * one:.1f}' for one in named)} |" in page
    for name, variant in found["variants"].items():
        assert variant["validation"]["cider"] <= chosen["validation"]["cider"]
        cells = [f"{variant['validation'][score]:.3f}" for score in ("bleu_4", "cider", "exact")]
        assert f"| {name} | {' | '.join(cells)} | {variant['seconds']:.0f} |" in page
    assert f"{found['training_seconds']:.0f} s of training" in page and f'"{found["chosen"]}", was tested' in page
    for part in ("encoder", "decoder"):
        assert f"{found['parameters'][part]:,}" in page


def test_the_scores_of_flickr8k_are_on_the_page():
    found = json.loads((DOCS / "results" / "image_captioning-flickr8k.json").read_text())
    page = " ".join((DOCS / "image_captioning.md").read_text().split())
    test, surest = found["test"], found["the surest of them"][0]
    cells = [f"{100 * test[name]:.1f}" for name in (*SCORES[:4], "meteor", "cider")]
    assert f"beam of 3 | {' | '.join(cells)} |" in page
    assert test["pictures"] == 1000 and len(found["variants"]) >= 4
    for name, variant in found["variants"].items():
        cells = [f"{100 * variant['validation']['3'][score]:.1f}" for score in ("bleu_1", "bleu_4", "cider")]
        assert f"| {name} | {' | '.join(cells)} |" in page
    best = max(found["variants"], key=lambda name: found["variants"][name]["validation"]["3"]["cider"])
    assert found["chosen"] == best
    for name, each in found["files"].items():
        cells = [f"{100 * each[score]:.1f}" for score in ("bleu_4", "cider")]
        if "bytes" in each:
            cells += [f"{each['bytes'][part] / 1024:.0f}" for part in ("encoder", "step")]
            cells += [f"{each['ms']['encoder']:.1f}", f"{each['ms']['step']:.2f}"]
        assert f"| {name} | {' | '.join(cells)} |" in page
    curve = " | ".join(f"{100 * value:.1f}" for value in found["variants"][best]["cider_by_epoch"])
    assert f"| validation CIDEr-D, greedy | {curve} |" in page
    assert f'"{surest["said"]}"' in page


def test_the_recipes_head_says_what_was_measured():
    files = json.loads((DOCS / "results" / "image_captioning-flickr8k.json").read_text())["files"]
    head, whole, small = " ".join(recipe.__doc__.split()), files["tflite float32"], files["tflite dynamic_int8"]
    assert f"BLEU-4 {100 * whole['bleu_4']:.1f}, CIDEr-D {100 * whole['cider']:.1f}; in int8" in head
    size = f"{small['bytes']['encoder'] / 1024:,.0f} KiB"
    assert f"an encoder of {size}, {100 * small['bleu_4']:.1f} and {100 * small['cider']:.1f}." in head


def test_the_curve_the_examples_and_the_files_are_on_the_page(measured):
    found, page = measured
    history = found["history"]
    for name, values in (("training loss", history["logits_loss"]), ("validation CIDEr-D", history["val_cider"])):
        assert f"| {name} | {' | '.join(f'{value:.2f}' for value in values)} |" in page
    for kind, example in found["examples"].items():
        assert f'"{example["said"]}"' in page
        picture = f"{found['recipe']}-{kind}.png"
        assert f"(pictures/{picture})" in page and (DOCS / "pictures" / picture).is_file()
    files = {}
    for entry in found["files"]:
        _, _, kind = entry["name"].split(".", 2)
        files.setdefault(kind, []).append(entry)
    assert len(files) == 4
    for kind, parts in files.items():
        cells = [f"{part['bytes'] / 1024:.0f}" for part in parts] + [f"{part['latency_ms']:.2f}" for part in parts]
        assert f"| {kind} | {' | '.join(cells)} | {100 * parts[0]['metric']:.1f} |" in page
