"""A converter that crashes, hangs or does not start is an error that says where, and the next export works."""

import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

from zoo import export
from zoo.errors import ExportError, SettingError
from zoo.export import child

K = keras.layers
POISON, REAL = "poisonous", "real"
# A worker that also knows some functions for tests, and whose converter dies of a POISON layer.
WORKER = f"""
import os, signal, sys, time, types
from zoo.errors import SettingError
from zoo.export import child
tests = sys.modules["zoo.export.tests"] = types.ModuleType("tests")

def die(number):
    os.kill(os.getpid(), number)

def leave(status):
    print("the last words", file=sys.stderr, flush=True)
    os._exit(status)

def refuse():
    raise SettingError("units is 0")

def shout():
    print("not an answer")
    os.write(1, b"nor is this")
    return "an answer"

def convert(saved_model, out, **arguments):
    with open(saved_model + "/saved_model.pb", "rb") as file:
        names = file.read()
    if b"{POISON}" in names:
        die(signal.SIGSEGV)
    if b"{REAL}" in names:
        fake = sys.modules.pop("zoo.export.tflite.convert")
        from zoo.export.tflite import convert as real
        sys.modules["zoo.export.tflite.convert"] = fake
        return real.convert(saved_model, out, **arguments)
    if arguments["scheme"] == "full_int8":
        open(arguments["examples"]).close()
    open(out, "w").close()  # as quick as a test needs it

def measure(folder, names, **others):
    with open(folder + "/model.onnx", "rb") as file:
        if b"{POISON}" in file.read():
            die(signal.SIGSEGV)
    return dict.fromkeys(names, [-1.0, 1.0])

tests.die, tests.leave, tests.refuse, tests.shout = die, leave, refuse, shout
tests.sleep = lambda: time.sleep(60)
tests.divide = lambda a, b: a / b
sys.modules["zoo.export.tflite.convert"] = types.SimpleNamespace(convert=convert)
sys.modules["zoo.export.onnx.ranges"] = types.SimpleNamespace(measure=measure)
child._serve()
"""


@pytest.fixture(autouse=True, scope="module")
def own_worker():
    """Workers of this file only, and after it those of the package again."""
    before, child._worker, child._COMMAND = (child._worker, child._COMMAND), None, (sys.executable, "-c", WORKER)
    yield
    if child._worker is not None:
        child._stop(child._worker)
    child._worker, child._COMMAND = before


def alive():
    assert child.run("tests:divide", a=6, b=3) == 2


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_crash_is_an_error_that_names_the_signal_and_the_next_call_works(number):
    with pytest.raises(ExportError, match=rf"was ended by {number.name} in tests:die") as caught:
        child.run("tests:die", number=number)
    assert "\n" not in str(caught.value)
    alive()


def test_what_the_process_said_last_is_a_note_of_the_error():
    with pytest.raises(child.CrashError, match="ended with status 3") as caught:
        child.run("tests:leave", status=3)
    assert "the last words" in caught.value.__notes__[0]
    alive()


def test_errors_pass_through_as_what_they_are_and_prints_are_no_answers():
    with pytest.raises(SettingError, match="units is 0"):
        child.run("tests:refuse")
    with pytest.raises(ExportError, match="ZeroDivisionError"):
        child.run("tests:divide", a=1, b=0)
    assert child.run("tests:shout") == "an answer"


def test_a_process_that_hangs_is_ended(monkeypatch):
    alive()  # so that what is waited for is the sleep
    monkeypatch.setattr(child, "LONGEST", 0.3)
    with pytest.raises(ExportError, match=r"gave no answer in 0\.3 seconds in tests:sleep"):
        child.run("tests:sleep")
    monkeypatch.undo()
    alive()


def test_an_interrupted_call_leaves_no_answer_to_the_next():
    def interrupt(*_):
        raise KeyboardInterrupt

    alive()
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            child.run("tests:sleep")
    finally:
        signal.signal(signal.SIGALRM, before)
    alive()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ((sys.executable, "-c", "raise SystemExit('no module named zoo')"), "ended with status 1"),
        (("/no/such/python",), "cannot be started"),
        ((sys.executable, "-c", "print('half an ans', end='')"), "ended with status 0"),
    ],
)
def test_a_process_that_dies_at_its_start_is_an_error(monkeypatch, command, words):
    monkeypatch.setattr(child, "_worker", None)
    monkeypatch.setattr(child, "_COMMAND", command)
    with pytest.raises(ExportError, match=words):
        child.run("tests:divide", a=6, b=3)


def model_of(*names):
    layers = [K.GRU(3, name=name, return_sequences=True) for name in names]
    return keras.Sequential([keras.Input((4, 2)), *layers, K.Dense(2)])


@pytest.mark.parametrize("scheme", ["float32", "full_int8"])
def test_the_layer_on_which_the_converter_crashes_is_named(tmp_path, scheme):
    examples = {"representative_data": [[[0.0, 1.0]] * 4, [[2.0, -1.0]] * 4]} if scheme == "full_int8" else {}
    model = model_of("harmless", POISON)
    plan = export.plan(model, format="tflite", scheme=scheme)
    with pytest.raises(
        ExportError, match=rf"SIGSEGV .*on layer '(sequential.*/)?{POISON}', a GRU.*plan\.override"
    ) as caught:
        export.to_tflite(model, tmp_path / "m.tflite", scheme=scheme, plan=plan, **examples)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    assert export.to_tflite(model_of("harmless"), tmp_path / "m.tflite").exists()


def test_the_layer_on_which_onnx_runtime_crashes_in_calibration_is_named(tmp_path):
    options = {"scheme": "full_int8", "representative_data": [[[0.0, 1.0]] * 4, [[2.0, -1.0]] * 4]}
    with pytest.raises(ExportError, match=rf"SIGSEGV .*on layer '(sequential.*/)?{POISON}', a GRU") as caught:
        export.to_onnx(model_of("harmless", POISON), tmp_path / "m.onnx", **options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    assert export.to_onnx(model_of("harmless"), tmp_path / "m.onnx", **options).exists()


def test_after_a_crash_a_model_is_exported_as_ever(tmp_path):
    model = model_of(REAL)
    with pytest.raises(child.CrashError):
        child.run("tests:die", number=signal.SIGSEGV)
    path = export.to_tflite(model, tmp_path / "m.tflite")
    assert export.verify(model, path, np.random.normal(size=(2, 4, 2))).passed


def test_where_no_layer_crashes_alone_all_are_named(tmp_path):
    model = keras.Sequential([keras.Input((4, 2)), K.GRU(3, name="one"), K.Dense(2, name=POISON)])
    with pytest.raises(ExportError, match=r"SIGSEGV .*on none of the recurrent layers alone \('(sequential.*/)?one'\)"):
        export.to_tflite(model, tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


# Files are whole or not there


def test_a_killed_write_leaves_nothing_under_the_name(tmp_path):
    code = """
import os, pathlib, signal, sys
from zoo.export import options
options.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
options.write(pathlib.Path(sys.argv[1]), b"half")
"""
    path = tmp_path / "m.tflite"
    assert subprocess.run([sys.executable, "-c", code, path]).returncode == -signal.SIGKILL
    assert not path.exists()


def test_a_killed_bundle_leaves_nothing_under_the_name(tmp_path):
    code = """
import dataclasses, os, signal, sys
import keras
from zoo.export import bundling
def fill(folder, *_):
    (folder / "card.json").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
bundling._fill = fill
recipe = dataclasses.dataclass(type("Recipe", (), dict.fromkeys(bundling.FACE, "some")))()
bundling.bundle(recipe, keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]), sys.argv[1])
"""
    path = tmp_path / "bundle"
    assert subprocess.run([sys.executable, "-c", code, path]).returncode == -signal.SIGKILL
    assert not path.exists()


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    code = """
import pathlib, resource, sys
from zoo.export import options
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
options.write(pathlib.Path(sys.argv[1]), bytes(1000))
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "m.tflite"], capture_output=True, text=True)
    assert "ExportError" in done.stderr and "m.tflite could not be written: File too large" in done.stderr
    assert not list(tmp_path.iterdir())
