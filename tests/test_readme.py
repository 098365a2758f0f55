"""What the README shows, run as it stands."""

import json
import re
import shlex
from pathlib import Path

import pytest
import soundfile

from zoo.cli import main
from zoo.data.keywords import load_keywords

README = (Path(__file__).parents[1] / "README.md").read_text()
COMMANDS = re.findall(r"^\$ zoo (.+)$", README.partition("## Your own words")[2], re.MULTILINE)
PYTHON = re.findall(r"```python\n(.+?)```", README, re.DOTALL)


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


def recorded(name):
    return json.loads((Path(__file__).parents[1] / "docs" / "results" / f"{name}.json").read_text())


def test_what_the_demo_prints_is_what_was_recorded():
    printed = [line for step in recorded("demo")["steps"] for line in (f"$ {step['command']}", *step["prints"])]
    assert "```text\n" + "\n".join(printed) + "\n```" in README


def test_the_figures_are_those_that_were_measured():
    keywords, rows = recorded("keyword_spotting-fsdd"), recorded("export_latency")["rows"]
    files = [
        keywords["files"][name]
        for name in ("float32.tflite", "float32.onnx", "dynamic_int8.tflite", "dynamic_int8.onnx")
    ]
    for figures in ([keywords["accuracy"]["mean"]], files):
        assert f"| {', '.join(f'{100 * figure:.1f}%' for figure in figures)} |" in README
    for returns, ratio, names in (
        ("last", "onnx_ratio", ("PeepholeLSTM", "GRU", "SimpleRNN")),
        ("all", "tflite_ratio", ("LSTM", "PeepholeLSTM", "GRU", "SimpleRNN")),
    ):
        table = {row["layer"]: row[ratio] for row in rows if (row["returns"], row["units"]) == (returns, 64)}
        assert f"| {', '.join(f'{table[name]:.1f}' for name in names)} |" in README
