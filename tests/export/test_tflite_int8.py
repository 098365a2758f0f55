"""The scheme dynamic_int8: what becomes int8, what stays float, and how far the answers move."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from litert_runs import answers, assert_same, model_answers, randomise, sequences

from zoo import export
from zoo.errors import SettingError
from zoo.export.tflite import op_histogram
from zoo.layers import PeepholeLSTM

K = keras.layers

# One layer each, with at least 1024 weights in one op, beside the shape of its input.
LAYERS = {
    "lstm": (lambda: K.LSTM(32, return_sequences=True), (12, 16)),
    "peephole_lstm": (lambda: PeepholeLSTM(32, return_sequences=True), (12, 16)),
    "projected": (lambda: PeepholeLSTM(32, projection=16, return_sequences=True), (12, 4)),
    "coupled": (lambda: PeepholeLSTM(32, coupled=True, return_sequences=True), (12, 16)),
    "coupled_and_projected": (lambda: PeepholeLSTM(32, 16, True, return_sequences=True), (12, 4)),
    "simple_rnn": (lambda: K.SimpleRNN(32, return_sequences=True), (12, 16)),
    "gru_in_a_loop": (lambda: K.GRU(32, return_sequences=True), (12, 16)),
    "dense": (lambda: K.Dense(32), (64,)),
    "dense_over_time": (lambda: K.Dense(32), (12, 64)),
    "conv1d": (lambda: K.Conv1D(32, 3), (12, 16)),
    "dilated_conv1d": (lambda: K.Conv1D(32, 3, dilation_rate=2, padding="causal"), (12, 16)),
    "depthwise_conv1d": (lambda: K.DepthwiseConv1D(9), (12, 128)),
    "grouped_conv2d": (lambda: K.Conv2D(32, 3, groups=2), (7, 7, 16)),
    "conv_lstm": (lambda: K.ConvLSTM2D(12, 3, return_sequences=True), (4, 6, 6, 12)),
}


def int8_weights(path):
    """Return how many weights the file holds in int8, in all its subgraphs."""
    interpreter = Interpreter(str(path))
    details = [d for graph in range(interpreter.num_subgraphs()) for d in interpreter.get_tensor_details(graph)]
    return sum(int(np.prod(d["shape"])) for d in details if d["dtype"] == np.int8 and d["name"].endswith("_int8"))


def distance(path, model, inputs):
    """Return the largest rms error of all runs, as a part of the spread of the model's outputs."""
    (expected,) = model_answers(model, inputs).values()
    errors = [np.sqrt(np.mean((next(iter(answer.values())) - expected) ** 2)) for answer in answers(path, inputs)]
    return max(errors) / expected.std()


@pytest.mark.parametrize("name", LAYERS)
def test_the_weights_of_a_layer_become_int8_and_its_answers_stay_close(name, tmp_path):
    make, shape = LAYERS[name]
    model = keras.Sequential([keras.Input(shape, name="x"), make()])
    path = export.to_tflite(model, tmp_path / "m.tflite", scheme="dynamic_int8")
    # A rounded weight is off by 0.29 steps of 1/127 of the largest, which is two to four times the usual one, and a
    # rounded activation likewise: up to 1% in all. Twice that leaves room for what recurrence adds up.
    assert 1e-4 < distance(path, model, {"x": sequences(1, *shape, spread=1.0)}) < 0.02
    assert int8_weights(path) >= 0.85 * model.count_params()  # the rest is biases


def test_an_embedding_table_becomes_int8(tmp_path):
    words = keras.Input((6,), dtype="int32", name="words")
    model = keras.Model(words, K.Embedding(50, 32)(words))
    path = export.to_tflite(model, tmp_path / "m.tflite", scheme="dynamic_int8")
    assert distance(path, model, {"words": np.arange(6, dtype="int32")[None] * 9}) < 0.01  # no activation is rounded
    assert int8_weights(path) == 50 * 32


def test_the_fused_op_stays_and_the_file_is_a_third(tmp_path):
    model = keras.Sequential([keras.Input((12, 32), name="x"), PeepholeLSTM(64), K.Dense(64)])
    whole = export.to_tflite(model, tmp_path / "whole.tflite", target="android")
    small = export.to_tflite(model, tmp_path / "small.tflite", target="android", scheme="dynamic_int8")
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in op_histogram(small)
    assert op_histogram(small) == op_histogram(whole)
    assert small.stat().st_size < whole.stat().st_size / 3  # a quarter, and what is not weights


def test_small_ops_and_their_answers_stay_as_they_are(tmp_path):
    model = randomise(keras.Sequential([keras.Input((6, 3), name="x"), K.LSTM(4), K.Dense(2)]))
    path = export.to_tflite(model, tmp_path / "m.tflite", scheme="dynamic_int8")
    inputs = {"x": sequences(1, 6, 3)}
    assert_same(path, inputs, model_answers(model, inputs))


class FrontEnd(keras.layers.Layer):
    """Constants and a layer within, which must not lose precision."""

    quantizable = False

    def __init__(self):
        super().__init__()
        self.constant = np.random.default_rng(3).normal(size=(64, 64)).astype("float32")
        self.inner = K.Dense(64)

    def call(self, x):
        return self.inner(keras.ops.tanh(keras.ops.matmul(x, self.constant)))


def test_a_layer_that_is_not_quantizable_stays_float_with_all_that_is_in_it(tmp_path):
    x = keras.Input((64,), name="x")
    features = FrontEnd()(x)
    model = keras.Model(x, {"features": features, "out": K.Dense(64)(features)})
    path = export.to_tflite(model, tmp_path / "m.tflite", scheme="dynamic_int8")
    inputs = {"x": sequences(1, 64, spread=1.0)}
    expected = model_answers(model, inputs)
    for answer in answers(path, inputs):
        np.testing.assert_allclose(answer["features"], expected["features"], atol=1e-5)  # as for float32
        assert np.abs(answer["out"] - expected["out"]).max() > 1e-4
    assert int8_weights(path) == 64 * 64


def test_a_fused_layer_that_is_not_quantizable_stays_float(tmp_path):
    model = keras.Sequential([keras.Input((12, 16), name="x"), K.LSTM(32, return_sequences=True)])
    model.layers[0].quantizable = False
    path = export.to_tflite(model, tmp_path / "m.tflite", scheme="dynamic_int8")
    assert op_histogram(path)["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 1
    assert int8_weights(path) == 0


def test_tflite_micro_is_not_given_ops_that_it_lacks(tmp_path):
    model = keras.Sequential([keras.Input((6, 3), name="x"), K.LSTM(4)])
    with pytest.raises(SettingError, match="take 'float32'"):
        export.to_tflite(model, tmp_path / "m.tflite", scheme="dynamic_int8", target="mcu")
