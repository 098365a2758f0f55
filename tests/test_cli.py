"""The command `zoo`, as a user meets it: what it prints, where, with which status, and what it leaves behind."""

import dataclasses
import inspect
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time

import pytest

from zoo import recipes
from zoo.cli import main

TINY = ["train", "keyword_spotting", "--network", "small", "--units", "4", "--epochs", "2"]
ZOO = "import sys; from zoo.cli import main; status = main()"  # what the installed script does, less the exit


def zoo(*arguments, then="pass", **options):
    """Run the command in a process of its own, and some Python after it."""
    options = {"capture_output": True, "text": True, "timeout": 300, "stdin": subprocess.DEVNULL} | options
    # the notices that it is to hide come with any other value of this, which tests set for themselves
    options["env"] = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "1", **options.get("env", {})}
    return subprocess.run([sys.executable, "-c", f"{ZOO}; {then}; sys.exit(status)", *map(str, arguments)], **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder of a run, what training it printed)."""
    folder = tmp_path_factory.mktemp("training") / "runs" / "tiny"
    return folder, zoo(*TINY, "--out", folder)


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """(folder of a bundle, what exporting it printed)."""
    folder = tmp_path_factory.mktemp("exporting") / "tiny"
    return folder, zoo("export", trained[0], "--out", folder)


def test_help_shows_every_setting_with_its_help_and_default(capsys):
    assert main(["train", "keyword_spotting", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for field in dataclasses.fields(recipes.KeywordSpotting):
        option = shown.partition(f"--{field.name.replace('_', '-')} ")[2]
        assert option, f"{field.name} is no option"
        default = '""' if field.default == "" else str(field.default)
        if field.type is bool:
            default = ("" if field.default else "no-") + field.name.replace("_", "-")
        assert f"{field.metadata['help']} [default: {default}]" in option


def test_every_command_says_how_it_is_used(capsys):
    for command in (
        [],
        ["train"],
        *([name, "--help"] for name in ("list", "evaluate", "diagnose", "doctor", "export", "verify", "run")),
    ):
        assert main(command) == 0
        assert capsys.readouterr().out.startswith("Usage: zoo")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["frobnicate"], 2, "frobnicate"),
        (["train", "spelling"], 2, "no recipe 'spelling', expected one of keyword_spotting"),
        (["train", "keyword_spotting"], 2, "--out"),
        ([*TINY, "--out", "NEW", "--unit", "3"], 2, "--units"),
        ([*TINY, "--out", "NEW", "--units", "many"], 2, "received 'many', expected a whole number"),
        ([*TINY, "--out", "NEW", "--seconds", "long"], 2, "received 'long', expected a number"),
        ([*TINY, "--out", "NEW", "--seconds", "nan"], 2, "seconds is nan"),
        ([*TINY, "--out", "NEW", "--epochs", "0"], 2, "epochs is 0"),
        ([*TINY, "--out", "NEW", "--network", "transformer"], 2, "'lstm', 'small', 'crnn'"),
        ([*TINY, "--out", "FULL"], 2, "exists already"),
        ([*TINY, "--out", "FULL/file/run"], 2, "not a folder"),
        ([*TINY, "--out", "NEW", "--data", "NOWHERE"], 1, "no such folder"),
        ([*TINY, "--out", "NEW", "--data", "FULL"], 1, "FULL"),
        (
            [*TINY, "--out", "NEW", "--seed", "4294967296"],
            2,
            "seed is 4294967296, expected an int from 0 to 4294967295",
        ),
        ([*TINY, "--out", "NEW" * 100], 1, "cannot be used: File name too long"),
        ([*TINY, "--out", "NEW", "--units", "99999999999999"], 1, "not enough memory"),
        (["evaluate", "NOWHERE"], 1, "is not the folder of a training run"),
        (["evaluate", "NOWHERE" * 100], 1, "cannot be used: File name too long"),
        (["diagnose", ""], 1, "has no diagnosis.json"),
        (["doctor", "NOWHERE"], 1, "NOWHERE is no .keras file"),
        (["doctor", "FULL/file"], 1, "FULL/file is no .keras file"),
        (["export", "NOWHERE", "--out", "NEW"], 1, "is not the folder of a training run"),
        (["export", "NOWHERE"], 2, "--out FOLDER"),
        (["export", "NOWHERE", "--out", "FULL"], 2, "exists already"),
        (["export", "NOWHERE", "--plan", "--format", "coreml"], 2, "'coreml'; expected one of tflite, onnx"),
        (["export", "NOWHERE", "--plan", "--scheme", "int4"], 2, "'int4'; expected one of float32"),
        (["export", "NOWHERE", "--plan", "--target", "fridge"], 2, "'fridge'; expected one of linux"),
        (["verify", "FULL"], 1, "is no bundle"),
        (["run", "FULL", "hello.wav"], 1, "is no bundle"),
    ],
    ids=lambda value: " ".join(value[-4:]) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(arguments, status, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FULL").mkdir()
    (tmp_path / "FULL" / "file").write_text("kept")
    assert main(arguments) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1 and words in printed.err and "Traceback" not in printed.err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["FULL", "file"]


def test_training_prints_a_line_for_each_epoch_and_the_scores(trained):
    folder, done = trained
    assert done.returncode == 0
    lines = done.stderr.splitlines()  # and so no notice of TensorFlow, and no control code without a terminal
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all("loss " in line and "val_accuracy " in line and line.isprintable() for line in lines)
    scores = json.loads((folder / "scores.json").read_text())
    expected = [f"accuracy  {scores['accuracy']:.4g}", f"clips     {scores['clips']}", f"wrote {folder}"]
    assert done.stdout.splitlines() == expected
    assert json.loads((folder / "recipe.json").read_text())["settings"]["units"] == 4
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_run_of_another_backend_is_evaluated_and_exported_as_any(backend, tmp_path):
    pytest.importorskip(backend)
    done = zoo(*TINY[:-1], "1", "--out", tmp_path / "run", env={"KERAS_BACKEND": backend})
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["hardware"]["devices"]
    done = zoo("export", tmp_path / "run", "--out", tmp_path / "files", "--format", "onnx", "--scheme", "float32")
    assert done.returncode == 0, done.stderr


def test_evaluating_a_run_finds_the_scores_of_its_training(trained, capsys):
    assert main(["evaluate", str(trained[0])]) == 0
    assert capsys.readouterr().out.splitlines() == trained[1].stdout.splitlines()[:-1]


@pytest.mark.parametrize(
    "change",
    [{"sample_rate": 16000}, {"recipe": "sentiment"}, {"recipe": "forecasting"}],
    ids=["rate", "sentiment", "forecasting"],
)
@pytest.mark.parametrize("command", [["evaluate"], ["export", "--out", "NEW"]], ids=["evaluate", "export"])
def test_settings_of_another_run_are_one_sentence(change, command, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(trained[0], tmp_path / "run")
    written = json.loads((run / "recipe.json").read_text())
    other = change if "recipe" in change else {"settings": written["settings"] | change}
    (run / "recipe.json").write_text(json.dumps(written | {"settings": {}} | other))
    assert main([command[0], "run", *command[1:]]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1 and "they are not of one run" in printed.err
    assert not (tmp_path / "NEW").exists()


def test_the_plan_is_printed_for_every_format_and_target_and_nothing_written(trained, capsys, monkeypatch):
    monkeypatch.setattr(recipes.KeywordSpotting, "load", None)  # it takes the model alone, wherever its data is
    before = sorted(trained[0].parent.rglob("*"))
    assert main(["export", str(trained[0]), "--plan", "--target", "linux", "--target", "android"]) == 0
    tables = capsys.readouterr().out.split("\n\n")
    heads = [f"{form} for {target}, float32" for form in ("tflite", "onnx") for target in ("linux", "android")]
    assert [table.splitlines()[0] for table in tables] == heads
    assert all("recurrent" in table for table in tables)
    assert sorted(trained[0].parent.rglob("*")) == before


def test_exporting_prints_a_row_for_every_file(exported):
    folder, done = exported
    assert (done.returncode, done.stderr) == (0, "")
    head, model, *files, wrote = done.stdout.splitlines()
    assert head.split() == ["file", "KiB", "ms", "accuracy"]
    assert model.startswith("(the Keras model)")
    assert [line.split()[0] for line in files] == [
        f"keyword_spotting.{scheme}.{form}" for form in ("tflite", "onnx") for scheme in ("float32", "dynamic_int8")
    ]
    assert all((folder / line.split()[0]).is_file() for line in files)
    assert wrote == f"wrote {folder}"


def test_the_command_writes_the_schemes_that_bundle_does():
    from zoo.cli import commands
    from zoo.export import bundling

    offered = inspect.signature(commands.export).parameters["scheme"].default
    assert tuple(offered) == inspect.signature(bundling.bundle).parameters["schemes"].default


def test_running_an_exported_file_takes_neither_tensorflow_nor_keras(exported, demo_wav):
    heavy = "print(sorted({'tensorflow', 'keras', 'torch', 'jax', 'scipy', 'matplotlib'} & set(sys.modules)))"
    done = zoo("run", exported[0], demo_wav, then=heavy)
    assert (done.returncode, done.stderr) == (0, "")
    *answers, imported = done.stdout.splitlines()
    assert imported == "[]"
    labels, probabilities = zip(*(line.split() for line in answers), strict=True)
    assert len(set(labels)) == 3 and set(labels) <= set(json.loads((exported[0] / "labels.json").read_text()))
    assert sorted(map(float, probabilities), reverse=True) == list(map(float, probabilities))


def test_the_file_that_runs_can_be_named(exported, demo_wav, capsys):
    assert main(["run", str(exported[0]), str(demo_wav), "--file", "keyword_spotting.float32.onnx"]) == 0
    onnx = capsys.readouterr().out
    assert main(["run", str(exported[0]), str(demo_wav), "--file", "keyword_spotting.float32.tflite"]) == 0
    assert capsys.readouterr().out == onnx  # to the three digits that are printed
    assert main(["run", str(exported[0]), str(demo_wav), "--file", "other.onnx"]) == 1
    assert "no model file 'other.onnx'" in capsys.readouterr().err


def test_verifying_tells_a_damaged_file_by_status_and_name(exported, tmp_path, capsys):
    folder = shutil.copytree(exported[0], tmp_path / "damaged")
    assert main(["verify", str(folder)]) == 0
    assert "FAILED" not in capsys.readouterr().out
    name = "keyword_spotting.float32.onnx"
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    assert main(["verify", str(folder)]) == 1
    printed = capsys.readouterr()
    assert [line.split()[1] for line in printed.out.splitlines() if line.startswith("FAILED")] == [name]
    assert name in printed.err


def test_a_bundle_for_an_unknown_recipe_imports_nothing(exported, tmp_path, demo_wav, capsys):
    card = json.loads((exported[0] / "card.json").read_text()) | {"recipe": "../evil"}
    (tmp_path / "card.json").write_text(json.dumps(card))
    assert main(["run", str(tmp_path), str(demo_wav)]) == 1
    assert "'../evil', expected one of keyword_spotting" in capsys.readouterr().err


def test_ctrl_c_gives_the_terminal_back_and_leaves_what_it_takes_to_go_on(tmp_path):
    terminal, error = pty.openpty()
    arguments = [*TINY[:-1], "1000", "--out", str(tmp_path / "run")]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    # A shell that starts the tests in the background lets them ignore interrupts, and Python keeps to that.
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{listening}; {ZOO}; sys.exit(status)", *arguments], stderr=error, env=environment
    ) as process:
        os.close(error)
        shown, deadline = "", time.monotonic() + 120
        while "epoch 2/1000" not in shown and time.monotonic() < deadline:
            shown += os.read(terminal, 4096).decode()
        process.send_signal(signal.SIGINT)
        try:
            while more := os.read(terminal, 4096).decode():
                shown += more
        except OSError:  # how a terminal without a writer ends, on Linux
            pass
        assert process.wait(timeout=60) == 130
    os.close(terminal)
    assert "val_accuracy" in shown and "━" in shown  # the bar
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor, hidden and shown again
    last = shown.splitlines()[-1]
    assert "interrupted; the same command goes on from" in last and "Traceback" not in shown
    assert [path.name for path in tmp_path.iterdir()] == ["run.unfinished"]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_is_quiet(unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    environment = {"PYTHONUNBUFFERED": unbuffered}
    done = zoo("list", capture_output=False, stdout=writer, stderr=subprocess.PIPE, env=environment)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.fixture
def demo_wav():
    import zoo

    return os.path.join(os.path.dirname(zoo.__file__), "data", "demo", "seven.wav")
