"""Recurrent layers as TFLite's own ops: each file against its Keras model, in LiteRT."""

import keras
import numpy as np
import pytest
from litert_runs import RESOLVERS, answers, assert_same, model_answers, randomise, sequences
from numpy_rnn import peephole_lstm

from zoo import export
from zoo.export.tflite import op_histogram
from zoo.layers import LayerNormLSTM, PeepholeLSTM, PeepholeLSTMCell

pytest.importorskip("ai_edge_litert")


def projected(units, **options):
    return PeepholeLSTM(units, projection=3, **options)


def coupled(units, **options):
    return PeepholeLSTM(units, coupled=True, **options)


def coupled_and_projected(units, **options):
    return PeepholeLSTM(units, projection=9, coupled=True, **options)  # wider than the memory, which is allowed


LAYERS = {
    "lstm": (keras.layers.LSTM, "UNIDIRECTIONAL_SEQUENCE_LSTM"),
    "peephole_lstm": (PeepholeLSTM, "UNIDIRECTIONAL_SEQUENCE_LSTM"),
    "projected": (projected, "UNIDIRECTIONAL_SEQUENCE_LSTM"),
    "coupled": (coupled, "UNIDIRECTIONAL_SEQUENCE_LSTM"),
    "coupled_and_projected": (coupled_and_projected, "UNIDIRECTIONAL_SEQUENCE_LSTM"),
    "simple_rnn": (keras.layers.SimpleRNN, "UNIDIRECTIONAL_SEQUENCE_RNN"),
}


def many_uses(kind):
    """A model with every way of using a layer: stacked, backwards, both ways, with states in and out."""
    x = keras.Input((9, 5), name="x")
    whole = kind(6, return_sequences=True)(x)
    whole = keras.layers.Bidirectional(kind(4, return_sequences=True))(whole)
    last, *states = kind(7, return_state=True, go_backwards=True)(whole)
    resumed, *finals = kind(7, return_sequences=True, return_state=True)(whole, initial_state=states)
    outputs = {"last": last, "resumed": resumed}
    outputs |= {f"state_{i}": state for i, state in enumerate(states)}
    outputs |= {f"final_{i}": final for i, final in enumerate(finals)}
    return randomise(keras.Model(x, outputs))


@pytest.fixture(scope="module", params=LAYERS)
def exported(request, tmp_path_factory):
    kind, op = LAYERS[request.param]
    model = many_uses(kind)
    path = export.to_tflite(model, tmp_path_factory.mktemp("tflite") / f"{request.param}.tflite", batch_size=2)
    return model, path, op


def test_the_file_gives_what_the_model_gives_at_every_invocation(exported):
    model, path, _ = exported
    x = {"x": sequences(2, 9, 5)}
    assert_same(path, x, model_answers(model, x))


def test_what_came_before_leaves_no_trace(exported):
    model, path, _ = exported
    for spread in (50.0, 1.0):  # first one that drives every state to its limit
        x = {"x": sequences(2, 9, 5, spread=spread)}
        assert_same(path, x, model_answers(model, x))


def test_each_layer_becomes_one_op_and_no_loop(exported):
    _, path, op = exported
    histogram = op_histogram(path)
    assert histogram[op] == 5  # one, two directions, and two more
    assert "WHILE" not in histogram


def test_inputs_and_outputs_keep_their_names(exported):
    from ai_edge_litert.interpreter import Interpreter

    model, path, _ = exported
    interpreter = Interpreter(str(path))
    signature = interpreter.get_signature_list()["serving_default"]
    assert signature["inputs"] == ["x"]
    assert sorted(signature["outputs"]) == sorted(model.output)
    assert [details["name"] for details in interpreter.get_input_details()] == ["x"]


@pytest.mark.parametrize("variant", [{}, {"projection": 2}, {"coupled": True}, {"projection": 2, "coupled": True}])
def test_the_peephole_op_computes_the_formula(variant, tmp_path):
    model = keras.Sequential([keras.Input((9, 5), name="x"), PeepholeLSTM(3, return_sequences=True, **variant)])
    weights = [w.numpy().astype("float64") for w in randomise(model).weights]
    x = sequences(1, 9, 5)
    states = [np.zeros((1, size)) for size in model.layers[0].cell.state_size]
    outputs, *_ = peephole_lstm(x, weights, states)
    path = export.to_tflite(model, tmp_path / "m.tflite")
    assert op_histogram(path)["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 1
    assert_same(path, {"x": x}, {"output": outputs})


def test_a_cell_in_keras_own_rnn_layer_takes_the_native_form(tmp_path):
    cells = [keras.layers.LSTMCell(4, use_bias=False), PeepholeLSTMCell(3)]
    rnns = [keras.layers.RNN(cell, return_sequences=True) for cell in cells]
    model = randomise(keras.Sequential([keras.Input((7, 5), name="x"), *rnns]))
    x = {"x": sequences(1, 7, 5)}
    path = export.to_tflite(model, tmp_path / "m.tflite")
    assert op_histogram(path)["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 2
    assert_same(path, x, model_answers(model, x))


def test_initial_states_that_are_weights_or_zeros_are_written_anew_each_time(tmp_path):
    class Start(keras.layers.Layer):
        def build(self, shape):
            self.start = self.add_weight(shape=(1, 4), initializer="ones")

        def call(self, x):
            start = keras.ops.tile(self.start, (2, 1))
            return start, keras.ops.zeros_like(start)

    x = keras.Input((6, 3), name="x", batch_size=2)
    model = randomise(keras.Model(x, keras.layers.LSTM(4)(x, initial_state=list(Start()(x)))))
    inputs = {"x": sequences(2, 6, 3)}
    path = export.to_tflite(model, tmp_path / "m.tflite", batch_size=2)
    assert_same(path, inputs, model_answers(model, inputs))


def test_an_open_time_axis_stays_open_where_every_layer_is_native(tmp_path):
    model = randomise(keras.Sequential([keras.Input((None, 3), name="x"), keras.layers.LSTM(4)]))
    path = export.to_tflite(model, tmp_path / "m.tflite")
    for steps in (1, 6, 11):
        x = {"x": sequences(1, steps, 3)}
        assert_same(path, x, model_answers(model, x))


def test_the_same_constants_are_stored_once(tmp_path):
    x = keras.Input((6, 64), name="x")
    shared = keras.layers.LSTM(64, return_sequences=True)
    once = export.to_tflite(randomise(keras.Model(x, shared(x))), tmp_path / "once.tflite", target="android")
    twice_model = keras.Model(x, shared(shared(x)))
    twice = export.to_tflite(twice_model, tmp_path / "twice.tflite", target="android")
    inputs = {"x": sequences(1, 6, 64)}
    assert_same(twice, inputs, model_answers(twice_model, inputs))
    assert twice.stat().st_size < 1.1 * once.stat().st_size


def test_nan_in_one_invocation_does_not_reach_the_next(tmp_path):
    model = randomise(keras.Sequential([keras.Input((6, 3), name="x"), keras.layers.LSTM(4)]))
    path = export.to_tflite(model, tmp_path / "m.tflite")
    from ai_edge_litert.interpreter import Interpreter

    for resolver in RESOLVERS:
        signature = Interpreter(str(path), experimental_op_resolver_type=resolver).get_signature_runner()
        signature(x=np.full((1, 6, 3), np.nan, "float32"))
        assert np.isfinite(next(iter(signature(x=sequences(1, 6, 3)).values()))).all()


@pytest.mark.parametrize(
    ("layer", "target", "reason"),
    [
        (keras.layers.LSTM(4, activation="relu"), "linux", "tanh where this layer has relu"),
        (keras.layers.LSTM(4, recurrent_activation="hard_sigmoid"), "linux", "sigmoid where this layer"),
        (keras.layers.SimpleRNN(4, activation="relu"), "linux", "tanh where this layer has relu"),
        (PeepholeLSTM(4), "mcu", "TFLite Micro has no peepholes"),
        (PeepholeLSTM(4, projection=2, coupled=True), "mcu", "TFLite Micro has no peepholes"),
        (keras.layers.SimpleRNN(4), "mcu", "TFLite Micro has no UNIDIRECTIONAL_SEQUENCE_RNN"),
        (keras.layers.GRU(4), "linux", "no native tflite op"),
        (LayerNormLSTM(4), "linux", "normalises each gate on its own"),
    ],
)
def test_what_the_op_cannot_compute_becomes_a_loop_and_the_plan_says_why(layer, target, reason, tmp_path):
    model = randomise(keras.Sequential([keras.Input((6, 3), name="x"), layer]))
    plan = export.plan(model, format="tflite", target=target)
    assert [choice.form for choice in plan.choices] == ["loop"]
    assert reason in plan.choices[0].reason
    x = {"x": sequences(1, 6, 3, spread=1.0)}
    path = export.to_tflite(model, tmp_path / "m.tflite", target=target)
    assert op_histogram(path)["WHILE"] == 1
    assert_same(path, x, model_answers(model, x))


def test_a_plan_that_asks_for_the_loop_is_followed(tmp_path):
    model = randomise(keras.Sequential([keras.Input((6, 3), name="x"), keras.layers.LSTM(4)]))
    plan = export.plan(model, format="tflite")
    plan = plan.override({plan.choices[0].layer: "loop"})
    path = export.to_tflite(model, tmp_path / "m.tflite", plan=plan)
    assert op_histogram(path)["WHILE"] == 1
    assert len(answers(path, {"x": sequences(1, 6, 3)})) == 4


@pytest.mark.parametrize("name", LAYERS)
def test_a_wide_layer_is_a_loop_on_linux_unless_a_plan_asks_for_the_op(name, tmp_path):
    kind, op = LAYERS[name]
    model = randomise(keras.Sequential([keras.Input((6, 3), name="x"), kind(64)]), spread=0.1)
    assert export.plan(model, format="tflite", target="android").choices[0].form == "native"
    plan = export.plan(model, format="tflite")
    assert plan.choices[0].form == "loop"
    assert "quicker than the op" in plan.choices[0].reason
    path = export.to_tflite(model, tmp_path / "m.tflite", plan=plan.override({plan.choices[0].layer: "native"}))
    assert op_histogram(path)[op] == 1
    x = {"x": sequences(1, 6, 3)}
    assert_same(path, x, model_answers(model, x))
