"""What the README and the pages of docs/ show, run as it stands."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile

from zoo.cli import main
from zoo.data.keywords import load_keywords

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^\$ zoo (.+)$", README.partition("## Your own words")[2], re.MULTILINE)
PYTHON = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
PAGES = sorted((ROOT / "docs").glob("*.md"))
TRAINS_A_RECIPE = ("keyword_spotting", "sentiment", "forecasting", "speech_recognition", "image_captioning")


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """A folder that holds what the README takes for granted: recordings of three words, and a wav."""
    keywords = load_keywords("demo", sample_rate=8000, seconds=1.0)
    for index, (samples, label) in enumerate(zip(keywords.samples, keywords.labels, strict=True)):
        if label < 3:
            folder = tmp_path / "recordings" / keywords.label_names[label]
            folder.mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / f"{index}.wav", samples, 8000)
    soundfile.write(tmp_path / "hello.wav", keywords.samples[0], 8000)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_commands_work_in_their_order(recordings):
    assert [command.split()[0] for command in COMMANDS] == ["train", "export", "verify", "run"]
    for command in COMMANDS:
        assert main(shlex.split(command)) == 0, command


@pytest.mark.slow
def test_the_recipe_works_from_python(recordings):
    exec(PYTHON[0], {})
    assert (recordings / "dist" / "small" / "card.json").is_file()


def test_an_own_model_is_exported_and_verified(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(PYTHON[1], {})
    shown = capsys.readouterr().out
    assert "native" in shown and "FAILED" not in shown
    assert {path.name for path in tmp_path.iterdir()} == {"model.tflite", "model.onnx"}


def test_no_other_example_goes_untested():
    assert len(PYTHON) == 2


def given_to_pruning():
    """What the page on pruning takes for granted: a model that was compiled, its data, and a smaller one."""
    import keras

    model = keras.Sequential([keras.Input((9, 4)), keras.layers.LSTM(8), keras.layers.Dense(3, activation="softmax")])
    model.compile("adam", "categorical_crossentropy")
    x = np.random.normal(size=(64, 9, 4))
    return {"model": model, "pruned": keras.models.clone_model(model), "x": x, "y": np.eye(3)[np.arange(64) % 3]}


GIVEN = {"pruning": given_to_pruning}
NEEDS = {"export": "tflite_micro", "layers": "nir"}


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow if page.stem in TRAINS_A_RECIPE else ()) for page in PAGES],
    ids=lambda page: page.stem,
)
def test_the_examples_of_a_page_run_one_after_the_other(page, recordings, monkeypatch, capsys):
    if page.stem in NEEDS:
        pytest.importorskip(NEEDS[page.stem], reason=f"an example of {page.name} needs it")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names = {"__name__": page.stem, **GIVEN.get(page.stem, dict)()}
    for example in re.findall(r"```python\n(.+?)```", page.read_text(), re.DOTALL):
        exec(compile(example, page.name, "exec"), names)
    printed = capsys.readouterr().out
    for shown in re.findall(r"```text\n(.+?)```", page.read_text(), re.DOTALL):
        assert shown in printed


def test_the_table_of_forms_is_what_is_planned():
    import keras

    from zoo import export, layers

    table = (ROOT / "docs" / "export.md").read_text().partition("| layer | ONNX | TFLite | TFLite Micro |\n")[2]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.partition("\n\n")[0].split("\n")[1:]]
    assert len(rows) > 5
    for names, *forms in rows:
        for name, options in re.findall(r"`(\w+)(?:\((.*?)\))?`", names):
            kind = getattr(layers, name, None) or getattr(keras.layers, name)
            model = keras.Sequential([keras.Input((20, 8)), kind(32, **eval(f"dict({options})"))])
            for form, (format, target) in zip(
                forms, (("onnx", "linux"), ("tflite", "android"), ("tflite", "mcu")), strict=True
            ):
                (choice,) = export.plan(model, format=format, target=target).choices
                assert choice.form == ("loop" if form == "loop" else "native"), (name, options, format, target)


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.stem)
def test_links_lead_to_what_there_is(page):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        path, _, heading = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            assert heading in [re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles], target


def recorded(name):
    return json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text())


def test_what_the_demo_prints_is_what_was_recorded():
    printed = [line for step in recorded("demo")["steps"] for line in (f"$ {step['command']}", *step["prints"])]
    assert "```text\n" + "\n".join(printed) + "\n```" in README


def test_the_figures_are_those_that_were_measured():
    keywords, rows = recorded("keyword_spotting-fsdd"), recorded("export_latency")["rows"]
    files = [
        keywords["files"][name]["accuracy"]
        for name in (
            *("float32.tflite", "float32.onnx", "dynamic_int8.tflite", "dynamic_int8.onnx"),
            *("full_int8.tflite", "float32.stream.tflite"),
        )
    ]
    for figures in ([keywords["accuracy"]["mean"]], files):
        assert f"| {', '.join(f'{100 * figure:.1f}%' for figure in figures)} |" in README
    pruned = recorded("pruning")
    assert f"| {pruned['gzipped_share']:.3f}, {abs(pruned['points_lost']):.1f} |" in README
    speech, small = (
        recorded("speech_recognition-an4"),
        recorded("image_captioning-flickr8k")["files"]["tflite dynamic_int8"],
    )
    rates, m4 = speech["test"]["mean"]["greedy"], recorded("forecasting-m4-weekly")
    accuracy = recorded("sentiment-sst2")["test_accuracy"]["mean"]
    for figures in (
        f"| {100 * rates['cer']:.1f}%, {100 * rates['wer']:.1f}% |",
        f"{small['bytes']['encoder'] / 1024:,.0f} KiB, one seed: BLEU-4, CIDEr-D | "
        f"{100 * small['bleu_4']:.1f}, {100 * small['cider']:.1f} |",
        f"| {m4['mean']['smape']:.3f}, {m4['mean']['mase']:.3f}; 7.817, 2.356 |",
        f"accuracy | {100 * accuracy:.1f}% |",
    ):
        assert figures in README
    for returns, ratio, names in (
        ("last", "onnx_ratio", ("PeepholeLSTM", "GRU", "SimpleRNN")),
        ("all", "tflite_ratio", ("LSTM", "PeepholeLSTM", "GRU", "SimpleRNN")),
    ):
        table = {row["layer"]: row[ratio] for row in rows if (row["returns"], row["units"]) == (returns, 64)}
        assert f"| {', '.join(f'{table[name]:.1f}' for name in names)} |" in README


def test_the_page_on_export_says_what_was_measured_of_training_with_rounding():
    means = recorded("quantize_aware")["mean"]
    after, on, aware = (means[name] for name in ("after training", "trained on", "trained on, aware"))
    added, lost = ([each[key] for each in (after, aware, on)] for key in ("cross_entropy_gained", "points_lost"))
    page = " ".join((ROOT / "docs" / "export.md").read_text().split())
    said = "adds {} to the cross-entropy of a `MinGRU` of 40 units after training alone, {} after twelve more epochs "
    said += "that know of the rounding, and {} after as many that do not"
    assert said.format(*added) in page
    assert "it takes {}, {} and {} points of accuracy".format(*(round(each, 1) for each in lost)) in page


def test_the_page_on_export_says_how_many_random_models_left_without_a_mismatch():
    found = recorded("fuzz")
    page = " ".join((ROOT / "docs" / "export.md").read_text().split())
    assert f"{found['models']} random ones" in page
    assert f"Of {found['files']:,} files the float32 ones answer within {found['tolerance']['absolute']}" in page
    assert not found["mismatches"]
