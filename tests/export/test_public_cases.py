"""What users report that Keras' own export cannot do: each as a file in both formats, held against its model."""

import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as keras_layers
from litert_runs import assert_same, model_answers, randomise, sequences
from onnx_runs import assert_exports, session

from zoo import export
from zoo.export import onnx, tflite
from zoo.export.session import Session

pytestmark = pytest.mark.on_tensorflow


def assert_both(model, tmp_path, inputs, native=None, **plan):
    """Export in both formats and hold the files against the model; return the histograms of their ops."""
    batch = len(next(iter(inputs.values())))
    planned = {f: export.plan(model, format=f, target="android", **plan) for f in ("onnx", "tflite")}
    options = {"target": "android"}
    path = assert_exports(model, tmp_path, inputs, plan=planned["onnx"], **options)
    in_onnx = onnx.op_histogram(path)
    path = export.to_tflite(model, tmp_path / "m.tflite", batch_size=batch, plan=planned["tflite"], **options)
    assert_same(path, inputs, model_answers(model, inputs))
    in_tflite = tflite.op_histogram(path)
    # what a plain runtime refuses: ops of TensorFlow's in TFLite, of a vendor's in ONNX
    assert not [op for op in [*in_onnx, *in_tflite] if "Flex" in op or op.startswith("CUSTOM") or "." in op]
    return in_onnx, in_tflite


def test_four_lstms_of_128_units_over_100_steps_are_four_ops(tmp_path):
    lstms = [keras_layers.LSTM(128, return_sequences=True) for _ in range(3)]
    x = keras.Input((100, 16), name="x")
    model = keras.Sequential([x, *lstms, keras_layers.LSTM(128), keras_layers.Dense(4)])
    randomise(model, 0.08)  # so that sums of 128 stay within what a float32 sum is exact to
    in_onnx, in_tflite = assert_both(model, tmp_path, {"x": sequences(1, 100, 16, spread=1.0)})
    assert in_onnx["LSTM"] == in_tflite["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 4


def test_a_stack_of_grus_needs_no_tensor_lists(tmp_path):
    x = keras.Input((30, 8), name="x")
    grus = [keras_layers.GRU(24, return_sequences=True), keras_layers.GRU(24, return_sequences=True, reset_after=False)]
    model = randomise(keras.Sequential([x, *grus, keras_layers.GRU(12), keras_layers.Dense(3)]), 0.3)
    in_onnx, _ = assert_both(model, tmp_path, {"x": sequences(1, 30, 8)})
    assert in_onnx["GRU"] == 3


def test_a_bidirectional_lstm_after_a_convolution_leaves_whole(tmp_path):
    x = keras.Input((40, 6), name="x")
    y = keras_layers.Conv1D(16, 5, strides=2, activation="relu")(x)
    y = keras_layers.Bidirectional(keras_layers.LSTM(12, return_sequences=True))(keras_layers.MaxPooling1D(2)(y))
    y = keras_layers.Dense(5, activation="softmax")(keras_layers.Bidirectional(keras_layers.LSTM(8))(y))
    model = randomise(keras.Model(x, y), 0.4)
    in_onnx, in_tflite = assert_both(model, tmp_path, {"x": sequences(1, 40, 6, spread=1.0)})
    assert in_onnx["LSTM"] == 2 and in_tflite["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 4


def test_a_stateful_lstm_goes_on_from_chunk_to_chunk(tmp_path):
    """Its file keeps no state of its own by default; asked for, the states are inputs and outputs."""
    x = keras.Input(batch_shape=(1, 5, 3), name="x")
    model = randomise(keras.Model(x, keras_layers.LSTM(6, stateful=True, name="memory")(x)))
    chunks = sequences(4, 1, 5, 3)
    expected = [keras.ops.convert_to_numpy(model(chunk)) for chunk in chunks]
    afresh = export.to_onnx(model, tmp_path / "m.onnx"), export.to_tflite(model, tmp_path / "m.tflite")
    for path in afresh:
        for _ in range(2):
            (found,) = Session(path)({"x": chunks[0]}).values()
            np.testing.assert_allclose(found, expected[0], atol=1e-5, rtol=0)  # the project's tolerance for float32
    files = [export.to_onnx(model, tmp_path / "s.onnx", state="external", time_steps=5)]
    files.append(export.to_tflite(model, tmp_path / "s.tflite", state="external", time_steps=5))
    for path in files:
        running = Session(path)
        for chunk, value in zip(chunks, expected, strict=True):
            (found,) = running({"x": chunk}).values()
            np.testing.assert_allclose(found, value, atol=1e-5, rtol=0)  # as above


def test_an_lstm_that_returns_its_states_gives_all_three(tmp_path):
    x = keras.Input((9, 4), name="x")
    y, hidden, cell = keras_layers.LSTM(6, return_sequences=True, return_state=True)(x)
    model = randomise(keras.Model(x, {"y": y, "hidden": hidden, "cell": cell}))
    in_onnx, in_tflite = assert_both(model, tmp_path, {"x": sequences(1, 9, 4)})
    assert in_onnx["LSTM"] == in_tflite["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 1


def test_an_encoders_states_start_its_decoder(tmp_path):
    source, target = keras.Input((7, 4), name="source"), keras.Input((5, 3), name="target")
    _, *states = keras_layers.LSTM(6, return_state=True)(source)
    y = keras_layers.Dense(4)(keras_layers.LSTM(6, return_sequences=True)(target, initial_state=states))
    model = randomise(keras.Model([source, target], {"y": y}))
    in_onnx, in_tflite = assert_both(model, tmp_path, {"source": sequences(1, 7, 4), "target": sequences(1, 5, 3)})
    assert in_onnx["LSTM"] == in_tflite["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 2


@pytest.mark.parametrize("masks", ["any", "right_padded"])
def test_masked_words_through_two_lstms(masks, tmp_path):
    words = keras.Input((8,), dtype="int32", name="words")
    y = keras_layers.Embedding(9, 5, mask_zero=True)(words)
    y = keras_layers.Bidirectional(keras_layers.LSTM(6, return_sequences=True))(y)
    model = randomise(keras.Model(words, {"y": keras_layers.Dense(3)(keras_layers.LSTM(4)(y))}))
    rows = [[1, 8, 3, 3, 2, 0, 0, 0], [0] * 8, [4, 5, 6, 7, 8, 1, 2, 3]]
    if masks == "any":
        rows += [[0, 0, 1, 0, 2, 2, 0, 0]]
    in_onnx, in_tflite = assert_both(model, tmp_path, {"words": np.array(rows, "int32")}, masks=masks)
    assert ("Scan" in in_onnx) == ("WHILE" in in_tflite) == (masks == "any")


@pytest.mark.parametrize("kind", [keras_layers.LSTM, keras_layers.GRU])
@pytest.mark.parametrize("form", ["native", "loop"])
def test_a_visible_gpu_leaves_no_op_of_its_own_in_the_file(kind, form, tmp_path, monkeypatch):
    """Keras takes cuDNN's op where it sees a GPU, and no device has that; here it is made to believe in one."""
    model = randomise(keras.Sequential([keras.Input((6, 4), name="x"), kind(5, return_sequences=True), kind(3)]))
    inputs = {"x": sequences(1, 6, 4)}
    expected = model_answers(model, inputs)
    rnn = importlib.import_module("keras.src.backend.tensorflow.rnn")  # whose question to TensorFlow has no public name
    monkeypatch.setattr(rnn, "_is_gpu_available", lambda: True)
    plain = tf.function(lambda x: model(x, training=False)).get_concrete_function(tf.TensorSpec((1, 6, 4)))
    inner = [node.op for function in plain.graph.as_graph_def().library.function for node in function.node_def]
    assert "CudnnRNNV3" in [*inner, *(op.type for op in plain.graph.get_operations())]  # or the test would show nothing
    for format, write, suffix in (("onnx", export.to_onnx, "onnx"), ("tflite", export.to_tflite, "tflite")):
        plan = export.plan(model, format=format)
        forms = {c.layer: form for c in plan.choices if (format, form, kind) != ("tflite", "native", keras_layers.GRU)}
        path = write(model, tmp_path / f"m.{suffix}", plan=plan.override(forms))
        (assert_same if format == "tflite" else assert_same_onnx)(path, inputs, expected)


def assert_same_onnx(path, inputs, expected):
    running = session(path)
    names = [output.name for output in running.get_outputs()]
    for name, value in zip(names, running.run(names, inputs), strict=True):
        np.testing.assert_allclose(value, expected[name], atol=1e-5, rtol=0)  # the project's tolerance for float32
