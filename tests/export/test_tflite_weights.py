"""The schemes float16 and weight_int8: smaller weights, float32 arithmetic."""

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
LAYERS = {
    "lstm": lambda: K.LSTM(32, return_sequences=True),
    "peephole_lstm": lambda: PeepholeLSTM(32, return_sequences=True),
    "simple_rnn": lambda: K.SimpleRNN(32),
    "gru_in_a_loop": lambda: K.GRU(32, return_sequences=True),
    "conv1d": lambda: K.Conv1D(32, 3),
    "dense": lambda: K.Dense(32),
}


def model_of(name):
    model = keras.Sequential([keras.Input((12, 32), name="x"), LAYERS[name](), K.Flatten(), K.Dense(9)])
    return randomise(model, 0.2)


def stored(path, dtype):
    """Return how many numbers of `dtype` the constants of the file hold."""
    interpreter = Interpreter(str(path))
    details = [d for graph in range(interpreter.num_subgraphs()) for d in interpreter.get_tensor_details(graph)]
    return sum(int(np.prod(d["shape"])) for d in details if d["dtype"] == dtype)


@pytest.mark.parametrize("name", LAYERS)
def test_float16_gives_what_the_model_gives_with_rounded_weights(name, tmp_path):
    model = model_of(name)
    path = export.to_tflite(model, tmp_path / "m.tflite", scheme="float16")
    model.set_weights([w if w.size < 256 else w.astype("float16").astype("float32") for w in model.get_weights()])
    inputs = {"x": sequences(1, 12, 32, spread=1.0)}
    # Fused gates, whose matrices a file may hold one by one, are below the 256 numbers that are worth it in none.
    assert_same(path, inputs, model_answers(model, inputs), atol=2e-5)
    assert stored(path, np.float16) >= 0.9 * model.count_params()


@pytest.mark.parametrize("name", LAYERS)
def test_weight_int8_rounds_each_weight_by_half_a_step_at_most(name, tmp_path):
    model = model_of(name)
    path = export.to_tflite(model, tmp_path / "m.tflite", scheme="weight_int8")
    whole = export.to_tflite(model, tmp_path / "whole.tflite")
    interpreter = Interpreter(str(path))
    for graph in range(interpreter.num_subgraphs()):
        for detail in interpreter.get_tensor_details(graph):
            if detail["dtype"] == np.int8:
                scales = detail["quantization_parameters"]["scales"]
                assert len(scales) in detail["shape"]  # one for each output channel
    inputs = {"x": sequences(1, 12, 32, spread=1.0)}
    (expected,) = model_answers(model, inputs).values()
    for answer in answers(path, inputs):
        (got,) = answer.values()
        # A weight is off by 0.3 steps, 0.23% of the largest of its channel, about 0.6% of a usual one; twelve steps of
        # a layer that feeds itself multiply it.
        assert 1e-4 < np.sqrt(np.mean((got - expected) ** 2)) / expected.std() < 0.04
    assert stored(path, np.int8) >= 0.9 * model.count_params()
    assert path.stat().st_size < 0.6 * whole.stat().st_size


def test_what_is_restored_once_gives_the_same_at_every_invocation_and_in_every_turn(tmp_path):
    model = model_of("gru_in_a_loop")
    path = export.to_tflite(model, tmp_path / "m.tflite", scheme="float16")
    assert op_histogram(path)["WHILE"] == 1
    first, *others = answers(path, {"x": sequences(1, 12, 32)})
    for other in others:
        np.testing.assert_allclose(next(iter(other.values())), next(iter(first.values())), atol=1e-5)


@pytest.mark.parametrize("scheme", ["float16", "weight_int8", "dynamic_int8"])
def test_a_layer_named_in_keep_float_stays_float32(scheme, tmp_path):
    model = keras.Sequential(
        [keras.Input((64,), name="x"), K.Dense(64, name="first"), K.Dense(64, activation="tanh", name="second")]
    )
    path = export.to_tflite(model, tmp_path / "m.tflite", scheme=scheme, keep_float=["first"])
    assert stored(path, np.float16 if scheme == "float16" else np.int8) == 64 * 64
    everything = export.to_tflite(model, tmp_path / "n.tflite", scheme=scheme, keep_float=["first", "second"])
    inputs = {"x": sequences(1, 64)}
    assert_same(everything, inputs, model_answers(model, inputs))


def test_mistakes_are_one_sentence(tmp_path):
    model, path = model_of("dense"), tmp_path / "m.tflite"
    for options, message in (
        ({"scheme": "float16", "keep_float": ["third"]}, "keep_float names 'third', which is no layer"),
        ({"scheme": "float16", "keep_float": "dense"}, "expected a list of names"),
        ({"keep_float": ["dense"]}, "leave keep_float out"),
        ({"scheme": "weight_int8", "target": "mcu"}, "for mcu take 'float32' or 'full_int8'"),
        ({"scheme": "weight_int8", "io_dtype": "int8"}, "leave io_dtype out"),
        ({"scheme": "float16", "representative_data": np.zeros((1, 12, 32))}, "leave representative_data out"),
        ({"scheme": "full_int8"}, "give representative_data="),
        ({"scheme": "full_int8", "io_dtype": "int4"}, "expected one of float32, int8"),
    ):
        with pytest.raises(SettingError, match=message):
            export.to_tflite(model, path, **options)
    assert not list(tmp_path.iterdir())
