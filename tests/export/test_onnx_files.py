"""What is refused, in which words; int8; the bytes of a file; and reading files of strangers."""

import logging
import os
import subprocess
import sys

import keras
import numpy as np
import onnx
import pytest
from keras import layers as keras_layers
from litert_runs import model_answers, randomise, sequences
from onnx_runs import answers

from zoo import export
from zoo.errors import ExportError, SettingError, VerifyError
from zoo.export.onnx import op_histogram, read_model
from zoo.export.rules import SCHEMES
from zoo.layers import PeepholeLSTM


class FrontEnd(keras_layers.Layer):
    """A layer whose constants must stay float32, with a product and a recurrent layer inside."""

    quantizable = False

    def __init__(self):
        super().__init__(name="front_end")
        self.dense, self.memory = keras_layers.Dense(16), keras_layers.LSTM(16, return_sequences=True)

    def call(self, inputs):
        return self.memory(self.dense(inputs))


@pytest.fixture(scope="module")
def model():
    layers = [
        keras.Input((None, 5), name="x"),
        keras_layers.LSTM(96, return_sequences=True),
        PeepholeLSTM(96),
        keras_layers.Dense(4),
    ]
    return randomise(keras.Sequential(layers, name="two"), 0.1)


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    return export.to_onnx(model, tmp_path_factory.mktemp("onnx") / "m.onnx")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scheme": "int4"}, "expected one of float32, float16"),
        ({"scheme": "full_int8"}, "give representative_data="),
        ({"scheme": "weight_int8", "io_dtype": "int8"}, "leave io_dtype out"),
        ({"keep_float": ["memory"]}, "leave keep_float out"),
        ({"target": "toaster"}, "expected one of linux"),
        ({"target": "mcu"}, "no runtime reads ONNX"),
        ({"state": "internal"}, "no place to keep one"),
        ({"time_steps": 0}, "time_steps is 0"),
        ({"representative_data": [1]}, "does not calibrate"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_before_any_work(tmp_path, options, words):
    with pytest.raises(SettingError, match=words):
        export.to_onnx(keras.Sequential([keras.Input((2, 2))]), tmp_path / "m.onnx", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("old.onnx", "exists already"),
        (".", "is a folder"),
        ("m.tflite", "does not end in .onnx"),
        ("nowhere/m.onnx", "there is no folder"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused_and_what_was_there_stays(model, tmp_path, name, words):
    (tmp_path / "old.onnx").write_bytes(b"precious")
    with pytest.raises(SettingError, match=words):
        export.to_onnx(model, tmp_path / name)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"precious"]


def test_a_plan_of_another_model_or_format_is_refused(model, tmp_path):
    other = keras.Sequential([keras.Input((6, 3)), keras_layers.LSTM(4, name="other")])
    plans = {
        "plan is a str": "native",
        "not of this model": export.plan(other, format="onnx"),
        "expected one for onnx": export.plan(model, format="tflite", time_steps=5),
    }
    for words, plan in plans.items():
        with pytest.raises(SettingError, match=words):
            export.to_onnx(model, tmp_path / "m.onnx", plan=plan)


def test_a_native_form_that_a_layer_cannot_take_is_an_error(tmp_path):
    model = keras.Sequential([keras.Input((6, 3)), keras_layers.GRU(4, activation="gelu", name="memory")])
    plan = export.plan(model, format="onnx")
    with pytest.raises(ExportError, match=r"memory cannot be native.*no activation gelu"):
        export.to_onnx(model, tmp_path / "m.onnx", plan=plan.override({plan.choices[0].layer: "native"}))


def test_an_operation_that_onnx_lacks_is_named(tmp_path):
    x = keras.Input((3, 3), name="x")
    with pytest.raises(ExportError, match="Cholesky, which ONNX has no form for"):
        export.to_onnx(keras.Model(x, keras.ops.cholesky(x)), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_int8_is_a_third_of_the_size_and_close(model, file, tmp_path):
    path = export.to_onnx(model, tmp_path / "m.onnx", scheme="dynamic_int8")
    x = {"x": sequences(8, 20, 5, spread=1.0)}
    (expected,), (given,) = model_answers(model, x).values(), answers(path, x).values()
    assert op_histogram(path)["com.microsoft.DynamicQuantizeLSTM"] == 2
    assert path.stat().st_size < file.stat().st_size / 3
    # weights are rounded to 1/254 of their range; 0.1 deviations allow that error to add up over 20 steps
    assert np.sqrt(np.mean((given - expected) ** 2)) < 0.1 * expected.std()


@pytest.mark.parametrize(
    ("variant", "op"),
    [({"coupled": True}, "com.microsoft.DynamicQuantizeLSTM"), ({"projection": 24, "coupled": True}, "Scan")],
    ids=["coupled", "coupled and projected"],
)
def test_int8_files_of_variants_of_the_peephole_lstm_are_close_too(variant, op, tmp_path):
    model = keras.Sequential([keras.Input((None, 16), name="x"), PeepholeLSTM(64, return_sequences=True, **variant)])
    randomise(model, 0.1)
    x = {"x": sequences(8, 20, 16, spread=1.0)}
    path = export.to_onnx(model, tmp_path / "m.onnx", scheme="dynamic_int8")
    (expected,), (given,) = model_answers(model, x).values(), answers(path, x).values()
    assert op_histogram(path)[op] == 1
    assert np.sqrt(np.mean((given - expected) ** 2)) < 0.1 * expected.std()  # as above


def test_a_layer_that_is_not_quantizable_stays_float(tmp_path):
    x = keras.Input((None, 5), name="x")
    model = randomise(keras.Model(x, keras_layers.Dense(32)(keras_layers.LSTM(16)(FrontEnd()(x)))))
    path = export.to_onnx(model, tmp_path / "m.onnx", scheme="dynamic_int8")
    ops = op_histogram(path)
    assert {op: ops.get(op) for op in ("LSTM", "MatMul", "com.microsoft.DynamicQuantizeLSTM", "MatMulInteger")} == {
        "LSTM": 1,
        "MatMul": 1,
        "com.microsoft.DynamicQuantizeLSTM": 1,
        "MatMulInteger": 1,
    }


def looping():
    """A model with native ops, two loops that share constants, and an output that is another's copy."""
    x = keras.Input((None, 5), name="x")
    y = keras_layers.Bidirectional(keras_layers.GRU(4, activation="gelu", return_sequences=True))(x)
    return randomise(keras.Model(x, [keras_layers.LSTM(3)(y), y, y], name="looping"))


def test_the_same_model_gives_the_same_bytes_in_any_process(tmp_path):
    model = looping()
    model.save(tmp_path / "m.keras")
    first, second = (export.to_onnx(model, tmp_path / f"{name}.onnx").read_bytes() for name in "ab")
    assert first == second
    code = "import sys, keras; from zoo import export;export.to_onnx(keras.saving.load_model(sys.argv[1]), sys.argv[2])"
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    subprocess.run([sys.executable, "-c", code, tmp_path / "m.keras", tmp_path / "c.onnx"], check=True, env=environment)
    assert (tmp_path / "c.onnx").read_bytes() == first


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_file_is_valid_and_tells_nothing_of_where_it_was_made(model, tmp_path, scheme):
    examples = sequences(4, 6, 5) if scheme == "full_int8" else None
    path = export.to_onnx(model, tmp_path / "m.onnx", scheme=scheme, representative_data=examples)
    written = onnx.load(path)
    onnx.checker.check_model(written)
    assert written.opset_import[0].version == 17
    assert written.producer_name == "recurrent-zoo" and not written.doc_string and not written.metadata_props
    assert not any(node.doc_string for node in written.graph.node)
    for secret in (str(tmp_path), os.getcwd(), sys.prefix):
        assert secret.encode() not in path.read_bytes()


def test_logging_is_left_as_it_was(model, tmp_path):
    before = logging.root.level, logging.root.manager.disable, list(logging.root.handlers)
    export.to_onnx(model, tmp_path / "m.onnx", scheme="dynamic_int8")
    assert (logging.root.level, logging.root.manager.disable, list(logging.root.handlers)) == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no ONNX model"),
        (b"\x1c\x00\x00\x00TFL3 not at all", "no ONNX"),
        (b"\xff" * 100, "cannot be parsed"),
    ],
)
def test_a_file_that_is_no_model_is_named(tmp_path, content, words):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(VerifyError, match=words):
        op_histogram(path)


def test_a_damaged_file_is_an_error_or_read_never_a_crash(file, tmp_path):
    content, path = file.read_bytes(), tmp_path / "m.onnx"
    generator = np.random.default_rng(5)
    for _ in range(200):
        damaged = bytearray(content[: generator.integers(len(content))])
        for place in generator.integers(0, max(1, min(len(damaged), 500)), 3):
            damaged[place : place + 1] = generator.bytes(1)
        path.write_bytes(damaged)
        try:
            op_histogram(path)
        except VerifyError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize("location", ["../../secret", "/etc/hostname"])
@pytest.mark.parametrize("inside_a_loop", [False, True])
def test_a_strangers_file_that_reaches_out_of_its_folder_is_refused(tmp_path, location, inside_a_loop):
    path = export.to_onnx(looping(), tmp_path / "m.onnx")
    hostile = onnx.load(path)
    graph = hostile.graph
    if inside_a_loop:
        graph = next(a.g for node in graph.node if node.op_type == "Scan" for a in node.attribute if a.name == "body")
    tensor = onnx.numpy_helper.from_array(np.zeros(4, np.float32), "stolen")
    onnx.external_data_helper.set_external_data(tensor, location)
    graph.initializer.append(tensor)
    path.write_bytes(hostile.SerializeToString())
    with pytest.raises(VerifyError, match="outside its folder"):
        read_model(path)


def test_the_histogram_counts_what_is_inside_of_loops(tmp_path):
    path = export.to_onnx(looping(), tmp_path / "m.onnx")
    histogram = op_histogram(path)
    assert histogram["Scan"] == 2 and histogram["LSTM"] == 1
    assert histogram["Erf"] == 2  # one in each step
