"""A bundle from a stranger, or a damaged file, is a sentence: never a stack trace, a crash, or a look elsewhere."""

import copy
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import wave
import zipfile
from dataclasses import dataclass

import hypothesis
import keras
import numpy as np
import onnx
import pytest
from hypothesis import strategies as st
from test_bundling import Pitch, model  # noqa: F401  a fixture

from zoo import export
from zoo.cli import main
from zoo.errors import DataError, ExportError, VerifyError, ZooError
from zoo.export import contents, runner
from zoo.export.session import Session
from zoo.recipes.keyword_spotting import device as task


@dataclass(frozen=True)
class Keywords(Pitch):
    """Under a name that `zoo run` knows."""

    name = "keyword_spotting"


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("bundles") / "made"
    return export.bundle(Keywords(), model, folder, schemes=["float32"])


@pytest.fixture
def bundle(made, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(made, tmp_path / "bundle")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sounds") / "tone.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 1000, 0, "NONE", ""))
        file.writeframes(np.round(Pitch().held_out(2)[0][1] * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture
def in_this_process(monkeypatch):
    """Checks without a process each: quick, and what they raise is seen."""
    monkeypatch.setattr(runner, "_in_own_process", lambda _, folder, __, name, about: runner._check_model(folder, name))


def card_of(folder):
    return json.loads((folder / contents.CARD).read_text())


def forge(folder, name, data):
    """Put `data` in place of the bundle's file `name`, with its size and sha256 on the card."""
    (folder / name).write_bytes(data)
    card = card_of(folder)
    entry = next(entry for entry in [*card["models"], *card["files"]] if entry["name"] == name)
    entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / contents.CARD).write_text(json.dumps(card))


def in_one_sentence(error):
    return "\n" not in str(error) and "Traceback" not in str(error) and str(error).isprintable()


# The device: no TensorFlow


def test_the_command_verifies_a_bundle_without_tensorflow_keras_or_onnx(bundle):
    blocked = ("tensorflow", "keras", "jax", "torch", "onnx", "tf2onnx", "scipy", "matplotlib", "tf_keras")
    code = f"import sys\nfor name in {blocked}: sys.modules[name] = None\n"
    code += "from zoo import cli\nsys.exit(cli.main(['verify', sys.argv[1]]))"

    def verify():
        return subprocess.run([sys.executable, "-c", code, bundle], capture_output=True, text=True)

    done = verify()
    assert done.returncode == 0, done.stderr
    names = {entry["name"] for part in ("models", "files") for entry in card_of(bundle)[part]}
    lines = done.stdout.splitlines()
    assert {line.split()[1] for line in lines if line.startswith("ok ")} == names
    assert sum(" ms here" in line and "example within" in line for line in lines) == 2
    data = bytearray((bundle / "labels.json").read_bytes())
    data[3] ^= 1
    (bundle / "labels.json").write_bytes(data)
    done = verify()
    assert done.returncode == 1
    assert "FAILED  labels.json" in done.stdout and "sha256" in done.stderr and "Traceback" not in done.stderr


# The card


def places(value, path=()):
    """Every place in a JSON value, as a path of keys."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


def spoilt(card, path, value):
    """Return `card` with `value` at `path`; without the place if the value is `...`."""
    if not path:
        return {} if value is ... else value
    card = copy.deepcopy(card)
    part = card
    for key in path[:-1]:
        part = part[key]
    if value is ...:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return card


READ = ("models", "files", "recipe", "settings")  # what is read of a card; a change elsewhere only has to do no harm
STRANGE = st.one_of(
    st.just(...),
    st.sampled_from(
        [None, True, False, -1, 0, 1, 2**31, 10**400, -0.5, 1e308, float("nan"), float("inf"), -float("inf")]
    ),
    st.sampled_from(
        ["", ".", "..", "../secret", "/etc/passwd", "a/b", "a\x00b", "\x1b[31m", "\ud800", "x" * 5000, "1"]
    ),
    st.sampled_from(["card.json", "run.py", "example.npz", "keyword_spotting.float32.onnx", "labels.json"]),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
        max_leaves=5,
    ),
)


@hypothesis.settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(data=st.data())
def test_a_card_with_anything_in_any_field_is_read_or_refused_in_one_sentence(
    made, bundle, sound, in_this_process, data
):
    card = card_of(made)
    where = [path for path in places(card) if not path or path[0] in READ]
    changed = spoilt(card, data.draw(st.sampled_from(where)), data.draw(STRANGE))
    (bundle / contents.CARD).write_text(json.dumps(changed))
    for read in (
        lambda: runner.run(bundle, sound, task),
        lambda: list(runner.run_in_chunks(bundle, sound, task)),
        lambda: export.verify(bundle),
    ):
        try:
            read()
        except (DataError, VerifyError) as error:
            assert in_one_sentence(error)


OPENED, WATCHED = [], []


def watch(event, arguments):
    if event == "open" and WATCHED:
        OPENED.append(str(arguments[0]))


sys.addaudithook(watch)


@pytest.mark.parametrize("kind", ["models", "files"])
@pytest.mark.parametrize("name", ["../secret.json", "{}/secret.json", "link.json"])
def test_nothing_outside_of_the_folder_is_opened(bundle, sound, in_this_process, monkeypatch, kind, name):
    secret = bundle.parent / "secret.json"
    secret.write_text("[]")
    (bundle / "link.json").symlink_to(secret)
    card = card_of(bundle)
    card[kind][0] |= {"name": name.format(bundle.parent), "bytes": 2, "sha256": hashlib.sha256(b"[]").hexdigest()}
    (bundle / contents.CARD).write_text(json.dumps(card))
    monkeypatch.setattr(sys.modules[__name__], "WATCHED", [True])
    with pytest.raises((DataError, VerifyError), match=r"plain name|is missing"):
        export.verify(bundle)
    if kind == "models":
        with pytest.raises(DataError, match=r"plain name|is missing"):
            runner.run(bundle, sound, task)
    opened = [path for path in OPENED if "secret" in path or "link" in path]
    assert OPENED and not opened


def test_a_card_that_is_a_link_a_pipe_or_a_folder_is_none(bundle):
    path, elsewhere = bundle / contents.CARD, bundle.parent / "card.json"
    path.rename(elsewhere)
    for make in (lambda: path.symlink_to(elsewhere), lambda: os.mkfifo(path), path.mkdir):
        make()
        with pytest.raises(DataError, match="is no bundle"):
            export.verify(bundle)
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    "text",
    [
        b'{"models": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"models": ' + b"9" * 100_000 + b"}",
        b"\xff\xfe{",
        b"\x00" * 100,
        b'"' + b"x" * (1 << 25) + b'"',
    ],
    ids=["deep", "long number", "no UTF-8", "zeros", "large"],
)
def test_a_bomb_of_json_is_refused(bundle, text):
    (bundle / contents.CARD).write_bytes(text)
    with pytest.raises(DataError, match=r"card\.json") as caught:
        export.verify(bundle)
    assert in_one_sentence(caught.value)


# The stored example and the labels


def unpacking(size):
    def write(path):
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("input_samples.npy", "w") as file,
        ):
            for _ in range(size >> 20):
                file.write(bytes(1 << 20))

    return write


def claiming(path):
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 99999999999999)}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("input_samples.npy", header.ljust(127) + b"\n" + bytes(16))


@pytest.mark.parametrize(
    "write",
    [
        lambda path: np.savez(path, input_samples=np.array([{}], dtype=object)),
        lambda path: np.savez(path, input_samples=np.array(["text"]), output_dense=np.zeros((1, 2))),
        lambda path: path.write_bytes(b"\x93NUMPY" + bytes(100)),
        lambda path: path.write_bytes(b"PK\x03\x04" + bytes(50)),
        lambda path: path.write_bytes(b""),
        lambda path: np.savez(path, input_other=np.zeros(3)),
        lambda path: np.savez(path, input_samples=np.zeros((1, 7), "float32"), output_dense=np.zeros((1, 2))),
        lambda path: np.savez(path, input_samples=np.zeros((1, 200), "float32"), output_dense=np.zeros((0, 2))),
        claiming,
        unpacking(9 << 20),
    ],
    ids=["pickle", "text", "npy", "zip head", "empty", "other names", "shape", "no rows", "claims", "bomb"],
)
def test_a_forged_example_is_a_failed_check(bundle, in_this_process, monkeypatch, write):
    monkeypatch.setattr(contents, "LARGEST", 8 << 20)
    write(bundle / contents.EXAMPLE)
    forge(bundle, contents.EXAMPLE, (bundle / contents.EXAMPLE).read_bytes())
    with pytest.raises(VerifyError, match=r"\.onnx: ") as caught:
        export.verify(bundle)
    assert in_one_sentence(caught.value)


@pytest.mark.parametrize("labels", [{"low": 1}, ["low"], ["low", 3], ["low", "\x1b]0;owned\x07"], 7])
def test_forged_labels_are_refused(bundle, sound, labels):
    forge(bundle, contents.LABELS, json.dumps(labels).encode())
    with pytest.raises(DataError) as caught:
        runner.run(bundle, sound, task)
    assert in_one_sentence(caught.value)


@pytest.mark.parametrize("setting", ["sample_rate", "seconds"])
@pytest.mark.parametrize("value", [None, 0, -1, "8000", True, 1e30, float("nan"), 10**400])
def test_forged_settings_are_refused(bundle, sound, setting, value):
    card = card_of(bundle)
    card["settings"][setting] = value
    (bundle / contents.CARD).write_text(json.dumps(card))
    with pytest.raises(DataError, match=f"the card's {setting} is"):
        runner.run(bundle, sound, task)


# Model files

NAMES = ("keyword_spotting.float32.tflite", "keyword_spotting.float32.onnx")
FOREIGN = {
    "empty": b"",
    "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "zip": b"PK\x03\x04" + bytes(100),
    "head only": b"\x1c\x00\x00\x00TFL3",
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_file_is_refused_in_one_sentence(tmp_path, suffix, content):
    path = tmp_path / f"m{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"m{suffix}") as caught:
        Session(path)
    assert in_one_sentence(caught.value)


@pytest.mark.parametrize("suffix", [".tflite", ".onnx", ".wav"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink(path, path), lambda path: None])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, suffix, make):
    path = tmp_path / f"m{suffix}"
    make(path)
    with pytest.raises(DataError, match="there is no file"):
        task.read(path, {"settings": {"sample_rate": 8, "seconds": 1}}) if suffix == ".wav" else Session(path)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_cut_at_any_sixteenth_is_refused(made, tmp_path, name):
    data = (made / name).read_bytes()
    path = tmp_path / name
    for part in range(16):
        path.write_bytes(data[: len(data) * part // 16])
        with pytest.raises(DataError, match=name) as caught:
            Session(path)
        assert in_one_sentence(caught.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("word", [b"samples", b"dense", b"serving_default"])
def test_a_name_that_is_no_text_is_refused(made, tmp_path, name, word):
    """Each place by itself: a tensor has another copy of the name that its signature has."""
    data = (made / name).read_bytes()
    places = [found.start() for found in re.finditer(word, data)]
    assert places or name.endswith(".onnx")  # which has no signatures
    path, refused = tmp_path / name, 0
    for place in places:
        path.write_bytes(data[:place] + b"\xed\xff" + data[place + 2 :])
        try:
            runner._try_out(path)  # a name that nobody asks for does no harm
        except DataError as error:
            assert name in str(error) and in_one_sentence(error)
            refused += 1
    assert refused >= bool(places)


def test_a_reset_that_fails_is_one_sentence(tmp_path, monkeypatch):
    from ai_edge_litert.interpreter import SignatureRunner

    def fail(*_, **__):
        raise RuntimeError("Invalid tensor index -4514\nNode number 3")

    layers = [keras.Input((4, 3)), keras.layers.LSTM(2)]
    path = export.to_tflite(keras.Sequential(layers), tmp_path / "m.tflite", state="internal", time_steps=2)
    session = Session(path)
    monkeypatch.setattr(SignatureRunner, "__call__", fail)  # as a damaged subgraph does
    with pytest.raises(DataError, match=r"^m\.tflite fails in LiteRT: Invalid tensor index -4514$"):
        session.reset()


@pytest.mark.parametrize("shape", [[1, 2**20, 2**20], [2**31 - 1, 2**31 - 1]])
def test_an_input_of_absurd_size_is_refused_before_anybody_makes_room_for_it(tmp_path, shape):
    ends = [onnx.helper.make_tensor_value_info(name, 1, shape) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(DataError, match=r"m\.onnx has an input 'x' of shape"):
        Session(tmp_path / "m.onnx")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_with_flipped_bits_is_run_or_refused_in_one_sentence(made, tmp_path, name):
    """In a process of its own: about one flip in a thousand crashes a runtime. What else is said, is a sentence."""
    code = """
import sys, numpy as np
from zoo.export import contents, runner
path, data = sys.argv[1], open(sys.argv[1], "rb").read()
for seed in range(150):
    random, changed = np.random.default_rng(seed), bytearray(data)
    for bit in random.integers(0, 8 * len(data), 1 + seed % 3):
        changed[bit // 8] ^= 1 << bit % 8
    open(path, "wb").write(changed)
    try:
        runner._try_out(path)
    except contents.DataError as error:
        print("refused", flush=True)
        if not str(error).isprintable():
            raise
    else:
        print("run", flush=True)
"""
    path = shutil.copy(made / name, tmp_path)
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.returncode <= 0, done.stderr  # negative: ended by a signal
    assert "Traceback" not in done.stderr
    assert done.stdout.count("refused") > 5


def crash(module, folder, monkeypatch):
    """Let a runtime crash in processes to come, whatever the file."""
    (folder / "broken" / module).mkdir(parents=True)
    (folder / "broken" / module / "__init__.py").write_text("import os; os.abort()")
    monkeypatch.setenv("PYTHONPATH", str(folder / "broken"))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_crashes_its_runtime_is_a_failed_check(bundle, monkeypatch, name, tmp_path, model):  # noqa: F811
    crash({"tflite": "ai_edge_litert", "onnx": "onnxruntime"}[name.rsplit(".", 1)[1]], tmp_path, monkeypatch)
    with pytest.raises(VerifyError, match=rf"^{name}: {name} crashes its runtime \(status -6\)") as caught:
        export.verify(bundle)
    assert sum(not check.passed for check in caught.value.report.checks) == 1
    with pytest.raises(DataError, match="crashes its runtime"):
        export.verify(model, bundle / name, np.zeros((1, 200), "float32"))


def test_a_file_just_written_that_crashes_its_runtime_ends_no_bundle_or_report_but_itself(
    monkeypatch,
    tmp_path,
    model,  # noqa: F811
):
    crash("onnxruntime", tmp_path, monkeypatch)
    with pytest.raises(VerifyError, match=r"float32\.onnx crashes its runtime .* or leave scheme 'float32' out$"):
        export.bundle(Pitch(), model, tmp_path / "out", formats=["onnx"], schemes=["float32"])
    assert not (tmp_path / "out").exists()
    with pytest.raises(ExportError, match=r"^a file with all layers in weight_int8 cannot be measured: .* crashes"):
        export.quantization_error(model, np.ones((1, 200), "float32"), format="onnx", scheme="weight_int8")


def test_a_check_that_hangs_is_ended(bundle, monkeypatch, tmp_path):
    (tmp_path / "slow" / "onnxruntime").mkdir(parents=True)
    (tmp_path / "slow" / "onnxruntime" / "__init__.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "slow"))
    monkeypatch.setattr(runner, "PATIENCE", 0.5)
    with pytest.raises(DataError, match=r"takes longer than 0\.5 seconds"):
        runner.check_loads(bundle / NAMES[1])


@pytest.mark.parametrize("place", ["secret.bin", "../secret.bin", "{}/secret.bin", "link.bin"])
def test_an_onnx_file_reads_no_other(bundle, monkeypatch, place):
    folder = bundle / "work"
    folder.mkdir()
    for path in (folder / "secret.bin", bundle / "secret.bin"):
        np.ones(4, np.float32).tofile(path)
    (folder / "link.bin").symlink_to(bundle / "secret.bin")
    weights = onnx.TensorProto(name="w", dims=[4], data_type=1, data_location=onnx.TensorProto.EXTERNAL)
    for key, value in {"location": place.format(bundle), "offset": "0", "length": "16"}.items():
        weights.external_data.add(key=key, value=value)
    ends = [onnx.helper.make_tensor_value_info(name, 1, [4]) for name in "xy"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weights]
    )
    hostile = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    (folder / "m.onnx").write_bytes(hostile.SerializeToString())
    monkeypatch.chdir(folder)
    with pytest.raises(DataError, match=r"[Ee]xternal data"):
        Session("m.onnx")


# The command line


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_say_one_sentence_of_a_damaged_file(bundle, sound, name, capsys):
    path = bundle / name
    path.write_bytes(path.read_bytes()[:-100])
    before = sorted(bundle.parent.rglob("*"))
    assert main(["run", str(bundle), str(sound), "--file", name]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and name in printed.err
    assert main(["verify", str(bundle)]) == 1
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and name in printed.err
    assert [line.split()[1] for line in printed.out.splitlines() if line.startswith("FAILED")] == [name]
    assert sorted(bundle.parent.rglob("*")) == before


def test_the_commands_say_one_sentence_of_what_is_no_bundle_or_sound(bundle, sound, tmp_path, capsys):
    (tmp_path / "file").write_text("text")
    os.mkfifo(tmp_path / "pipe")
    for folder in (tmp_path, tmp_path / "file", tmp_path / "pipe", tmp_path / "none"):
        assert main(["verify", str(folder)]) == 1
        assert main(["run", str(folder), str(sound)]) == 1
    for path in (bundle, tmp_path / "file", tmp_path / "pipe", tmp_path / "none"):
        assert main(["run", str(bundle), str(path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 12 and not any("Traceback" in line for line in lines)


def test_a_damaged_sound_is_read_or_refused_in_one_sentence(sound, tmp_path):
    data, path = sound.read_bytes(), tmp_path / "damaged.wav"
    random = np.random.default_rng(0)
    for trial in range(200):
        changed = bytearray(data[: random.integers(len(data))] if trial % 2 else data)
        for place in random.integers(0, max(1, min(44, len(changed))), 3):
            changed[place : place + 1] = random.bytes(1)
        path.write_bytes(changed)
        try:
            assert task.read(path, {"settings": {"sample_rate": 1000, "seconds": 0.2}})["samples"].shape == (1, 200)
        except ZooError as error:
            assert in_one_sentence(error)
