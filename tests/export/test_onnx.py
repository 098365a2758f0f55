"""Recurrent layers as ONNX's own ops: each file against its Keras model, in ONNX Runtime."""

import keras
import numpy as np
import onnx
import onnx.reference
import pytest
from keras import layers as keras_layers
from litert_runs import model_answers, randomise, sequences
from onnx_runs import assert_exports

from zoo import export
from zoo.export.onnx import op_histogram
from zoo.layers import PeepholeLSTM, PeepholeLSTMCell

LAYERS = {
    "lstm": (keras_layers.LSTM, "LSTM", {}),
    "peephole_lstm": (PeepholeLSTM, "LSTM", {}),
    "coupled": (PeepholeLSTM, "LSTM", {"coupled": True}),
    "gru_reset_after": (keras_layers.GRU, "GRU", {"reset_after": True}),
    "gru_reset_before": (keras_layers.GRU, "GRU", {"reset_after": False}),
    "simple_rnn": (keras_layers.SimpleRNN, "RNN", {}),
}
ACTIVATIONS = ["linear", "relu", "tanh", "sigmoid", "hard_sigmoid", "softsign", "softplus", "elu", "leaky_relu"]


def many_uses(kind, arguments):
    """A model with every way of using a layer: stacked, backwards, both ways, with states in and out."""
    x = keras.Input((None, 5), name="x")
    whole = kind(6, return_sequences=True, **arguments)(x)
    back = kind(6, return_sequences=True, go_backwards=True, **arguments)(whole)
    both = keras_layers.Bidirectional(kind(4, return_sequences=True, **arguments))(back)
    last, *states = kind(7, return_state=True, go_backwards=True, **arguments)(both)
    resumed, *finals = kind(7, return_sequences=True, return_state=True, **arguments)(both, initial_state=states)
    outputs = {"back": back, "last": last, "resumed": resumed}
    outputs |= {f"state_{i}": state for i, state in enumerate(states)}
    outputs |= {f"final_{i}": final for i, final in enumerate(finals)}
    return randomise(keras.Model(x, outputs))


@pytest.mark.parametrize("name", LAYERS)
def test_one_file_gives_what_the_model_gives_for_any_batch_and_length(name, tmp_path):
    kind, op, arguments = LAYERS[name]
    batches = [{"x": sequences(1, 9, 5)}, {"x": sequences(3, 4, 5, spread=50.0)}]  # 50: every gate at its limit
    path = assert_exports(many_uses(kind, arguments), tmp_path, *batches)
    histogram = op_histogram(path)
    assert histogram[op] == 5
    assert not {"Loop", "Scan", "If"} & histogram.keys()


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "ave", "mul", None])
@pytest.mark.parametrize("return_sequences", [True, False])
def test_both_directions_are_one_op_in_every_merge_mode(merge_mode, return_sequences, tmp_path):
    x = keras.Input((None, 5), name="x")
    layers = [
        keras_layers.LSTM(4, return_sequences=return_sequences, return_state=True),
        PeepholeLSTM(4, return_sequences=return_sequences),
        keras_layers.GRU(4, return_sequences=return_sequences, return_state=True, reset_after=False),
        keras_layers.SimpleRNN(4, return_sequences=return_sequences, activation="relu"),
    ]
    outputs = [keras_layers.Bidirectional(layer, merge_mode=merge_mode)(x) for layer in layers]
    flat = {f"y{i}": output for i, output in enumerate(keras.tree.flatten(outputs))}
    path = assert_exports(randomise(keras.Model(x, flat), 0.4), tmp_path, {"x": sequences(3, 6, 5)})
    directions = [a.s for node in onnx.load(path).graph.node for a in node.attribute if a.name == "direction"]
    assert directions == [b"bidirectional"] * 4


def test_a_bidirectional_layer_starts_from_the_states_it_is_given(tmp_path):
    x = keras.Input((None, 5), name="x")
    states = [keras.Input((4,), name=f"s{i}") for i in range(4)]
    y = keras_layers.Bidirectional(keras_layers.LSTM(4, return_sequences=True))(x, initial_state=states)
    inputs = {"x": sequences(2, 6, 5)} | {f"s{i}": sequences(2, 4) + i for i in range(4)}
    path = assert_exports(randomise(keras.Model([x, *states], y)), tmp_path, inputs)
    assert op_histogram(path)["LSTM"] == 1


def test_the_two_directions_may_have_activations_of_their_own(tmp_path):
    ahead = keras_layers.SimpleRNN(4, activation="relu", return_sequences=True)
    back = keras_layers.SimpleRNN(4, activation="elu", return_sequences=True, go_backwards=True)
    x = keras.Input((None, 5), name="x")
    model = randomise(keras.Model(x, keras_layers.Bidirectional(ahead, backward_layer=back)(x)), 0.4)
    assert op_histogram(assert_exports(model, tmp_path, {"x": sequences(3, 6, 5)}))["RNN"] == 1


def test_one_op_may_have_coupled_gates_in_one_direction_only(tmp_path):
    pair = (
        PeepholeLSTM(4, return_sequences=True),
        PeepholeLSTM(4, coupled=True, return_sequences=True, go_backwards=True),
    )
    x = keras.Input((None, 5), name="x")
    model = randomise(keras.Model(x, keras_layers.Bidirectional(pair[0], backward_layer=pair[1])(x)))
    assert op_histogram(assert_exports(model, tmp_path, {"x": sequences(3, 6, 5)}))["LSTM"] == 1


def test_two_directions_of_different_kinds_are_two_ops(tmp_path):
    pair = PeepholeLSTM(4), keras_layers.LSTM(4, go_backwards=True)
    x = keras.Input((None, 5), name="x")
    model = randomise(keras.Model(x, keras_layers.Bidirectional(pair[0], backward_layer=pair[1])(x)))
    assert op_histogram(assert_exports(model, tmp_path, {"x": sequences(3, 6, 5)}))["LSTM"] == 2


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activation_that_onnx_knows_stays_native_and_gives_the_same(activation, tmp_path):
    x = keras.Input((None, 5), name="x")
    gate = activation if activation in ("hard_sigmoid", "softsign") else "sigmoid"  # others can grow without limit
    outputs = {
        "lstm": keras_layers.LSTM(4, activation=activation, recurrent_activation=gate)(x),
        "gru": keras_layers.GRU(4, activation=activation, recurrent_activation=gate, use_bias=False)(x),
        "rnn": keras_layers.SimpleRNN(4, activation=activation, use_bias=False)(x),
    }
    model = randomise(keras.Model(x, outputs), 0.3)
    histogram = op_histogram(assert_exports(model, tmp_path, {"x": sequences(2, 5, 5)}))
    assert [histogram[op] for op in ("LSTM", "GRU", "RNN")] == [1, 1, 1]


@pytest.mark.parametrize(
    ("cell", "op"),
    [
        (keras_layers.LSTMCell(4, use_bias=False), "LSTM"),
        (keras_layers.GRUCell(4), "GRU"),
        (keras_layers.SimpleRNNCell(4), "RNN"),
        (PeepholeLSTMCell(4), "LSTM"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_a_cell_in_keras_rnn_is_native_too(cell, op, tmp_path):
    model = randomise(keras.Sequential([keras.Input((None, 5), name="x"), keras_layers.RNN(cell)]))
    assert op_histogram(assert_exports(model, tmp_path, {"x": sequences(2, 6, 5)}))[op] == 1


@pytest.mark.parametrize("variant", [{}, {"coupled": True}])
def test_onnx_own_reference_agrees_on_the_peepholes(variant, tmp_path):
    layer = PeepholeLSTM(4, return_sequences=True, **variant)
    model = randomise(keras.Sequential([keras.Input((None, 5), name="x"), layer], name="peep"))
    x = sequences(2, 6, 5)
    path = export.to_onnx(model, tmp_path / "m.onnx")
    (given,) = onnx.reference.ReferenceEvaluator(str(path)).run(None, {"x": x})
    (expected,) = model_answers(model, {"x": x}).values()
    np.testing.assert_allclose(given, expected, atol=1e-5, rtol=0)  # the project's tolerance for float32


def test_layers_in_a_row_leave_no_transposition_between_them(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((None, 5)),
            keras_layers.LSTM(4, return_sequences=True),
            PeepholeLSTM(4, return_sequences=True),
            keras_layers.GRU(4),
        ]
    )
    histogram = op_histogram(export.to_onnx(model, tmp_path / "m.onnx"))
    assert histogram == {"GRU": 1, "LSTM": 2, "Squeeze": 3, "Transpose": 1}
