"""What the README shows, run as it stands."""

import re
import shlex
from pathlib import Path

import pytest
import soundfile

from zoo.cli import main
from zoo.data.keywords import load_keywords

README = (Path(__file__).parents[1] / "README.md").read_text()
COMMANDS = re.findall(r"^\$ zoo (.+)$", README, re.MULTILINE)
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
