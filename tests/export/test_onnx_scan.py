"""Every cell that no ONNX op computes, as a Scan: each file against its Keras model, in ONNX Runtime."""

import keras
import numpy as np
import onnx
import pytest
from keras import layers as keras_layers
from keras import ops
from litert_runs import model_answers, randomise, sequences
from onnx_runs import answers, assert_exports

from zoo import export
from zoo.export.onnx import op_histogram
from zoo.export.onnx.graphs import subgraphs
from zoo.layers import PeepholeLSTM, PeepholeLSTMCell


class LeakyCell(keras_layers.Layer):
    """A user's cell whose output is none of its states, nor of their shape."""

    def __init__(self, units):
        super().__init__()
        self.units = self.state_size = units
        self.output_size = 2 * units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")

    def call(self, inputs, states):
        state = 0.7 * states[0] + 0.3 * ops.tanh(ops.matmul(inputs, self.kernel))
        return ops.concatenate([state, ops.square(state)], axis=-1), [state]


class AttentiveCell(keras_layers.Layer):
    """A user's cell that reads a tensor of the model around it."""

    def __init__(self, units):
        super().__init__()
        self.units = self.state_size = self.output_size = units
        self.memory = None

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")

    def call(self, inputs, states):
        weights = ops.softmax(ops.einsum("bu,btu->bt", states[0], self.memory))
        state = ops.tanh(ops.matmul(inputs, self.kernel) + ops.einsum("bt,btu->bu", weights, self.memory))
        return state, [state]


class Attentive(keras.Model):
    def __init__(self):
        super().__init__(name="attentive")
        self.encoder = keras_layers.GRU(4, return_sequences=True)
        self.decoder = keras_layers.RNN(AttentiveCell(4), return_sequences=True)

    def call(self, inputs):
        self.decoder.cell.memory = self.encoder(inputs)
        return self.decoder(inputs)


def assert_loops(model, tmp_path, *batches, **options):
    """Check the exported model; return the graph of its only Scan."""
    path = assert_exports(model, tmp_path, *batches, **options)
    bodies = subgraphs(onnx.load(path).graph)[1:]
    assert op_histogram(path)["Scan"] == len(bodies) == 1
    return bodies[0]


def looped(layer, shape=(None, 5)):
    return randomise(keras.Sequential([keras.Input(shape, name="x"), layer]))


@pytest.mark.parametrize(
    "layer",
    [
        keras_layers.LSTM(4, activation="gelu", return_sequences=True, go_backwards=True),
        keras_layers.GRU(4, activation="silu", dropout=0.4, recurrent_dropout=0.3),
        keras_layers.RNN(keras_layers.StackedRNNCells([keras_layers.LSTMCell(4), keras_layers.GRUCell(3)])),
        keras_layers.RNN(LeakyCell(3), return_sequences=True),
        keras_layers.RNN(LeakyCell(3), go_backwards=True),
    ],
    ids=["lstm", "gru", "stacked", "users", "users_backwards"],
)
def test_any_cell_becomes_a_scan_for_any_batch_and_length(layer, tmp_path):
    assert_loops(looped(layer), tmp_path, {"x": sequences(1, 7, 5)}, {"x": sequences(3, 4, 5, spread=50.0)})


def test_a_convolutional_lstm_becomes_a_scan(tmp_path):
    layer = keras_layers.ConvLSTM2D(3, 3, padding="same", return_sequences=True)
    assert_loops(looped(layer, (None, 6, 5, 2)), tmp_path, {"x": sequences(2, 4, 6, 5, 2)})


def test_all_states_go_in_and_come_out(tmp_path):
    x = keras.Input((None, 5), name="x")
    states = [keras.Input((4,), name=f"s{i}") for i in range(2)]
    y, *finals = keras_layers.LSTM(4, activation="gelu", return_state=True)(x, initial_state=states)
    model = keras.Model([x, *states], {"y": y, "hidden": finals[0], "cell": finals[1]})
    assert_loops(randomise(model), tmp_path, {"x": sequences(2, 6, 5), "s0": sequences(2, 4), "s1": -sequences(2, 4)})


@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("kind", [keras_layers.LSTM, PeepholeLSTM])
def test_masked_steps_hold_the_state_and_repeat_the_output(kind, return_sequences, go_backwards, tmp_path):
    x, mask = keras.Input((None, 5), name="x"), keras.Input((None,), dtype="bool", name="mask")
    layer = kind(4, return_sequences=return_sequences, return_state=True, go_backwards=go_backwards)
    outputs = layer(x, mask=mask)
    model = randomise(keras.Model([x, mask], {f"y{i}": output for i, output in enumerate(outputs)}))
    holes = np.random.default_rng(3).random((4, 7)) < 0.5
    holes[0] = [False, False, True, True, False, True, False]  # masked at both ends and in between
    holes[1] = False
    assert_loops(model, tmp_path, {"x": sequences(4, 7, 5), "mask": holes})


@pytest.mark.parametrize("coupled", [False, True])
def test_a_projection_which_the_op_lacks_is_a_scan_and_the_plan_says_why(coupled, tmp_path):
    x = keras.Input((None, 5), name="x")
    y, hidden, memory = PeepholeLSTM(4, projection=3, coupled=coupled, return_sequences=True, return_state=True)(x)
    both = keras_layers.Bidirectional(PeepholeLSTM(4, projection=2, coupled=coupled))(y)
    model = randomise(keras.Model(x, {"both": both, "hidden": hidden, "memory": memory}))
    choices = export.plan(model, format="onnx").choices
    assert [(c.form, c.reason) for c in choices] == [("loop", "the LSTM of ONNX has no projection")] * 3
    path = assert_exports(model, tmp_path, {"x": sequences(1, 6, 5)}, {"x": sequences(3, 4, 5)})
    histogram = op_histogram(path)
    assert histogram["Scan"] == 3 and "LSTM" not in histogram


def test_masked_steps_can_give_zeros(tmp_path):
    x, mask = keras.Input((None, 5), name="x"), keras.Input((None,), dtype="bool", name="mask")
    layer = keras_layers.RNN(keras_layers.GRUCell(4), return_sequences=True, zero_output_for_mask=True)
    model = randomise(keras.Model([x, mask], layer(x, mask=mask)))
    assert_loops(model, tmp_path, {"x": sequences(4, 7, 5), "mask": np.random.default_rng(3).random((4, 7)) < 0.5})


def test_a_masked_nan_does_not_get_through(tmp_path):
    x, mask = keras.Input((None, 5), name="x"), keras.Input((None,), dtype="bool", name="mask")
    model = randomise(keras.Model([x, mask], {"y": PeepholeLSTM(4)(x, mask=mask)}))
    frames = sequences(2, 5, 5)
    frames[:, 3] = np.nan
    inputs = {"x": frames, "mask": np.arange(5)[None] != [[3], [3]]}
    given = answers(export.to_onnx(model, tmp_path / "m.onnx"), inputs)["y"]
    assert np.isfinite(given).all()
    np.testing.assert_allclose(given, model_answers(model, inputs)["y"], atol=1e-5, rtol=0)  # the project's tolerance


def test_the_input_projection_of_a_zoo_cell_is_one_product_before_the_loop(tmp_path):
    model = looped(PeepholeLSTM(4, return_sequences=True))
    plan = export.plan(model, format="onnx")
    plan = plan.override({choice.layer: "loop" for choice in plan.choices})
    body = assert_loops(model, tmp_path, {"x": sequences(3, 6, 5)}, plan=plan)
    assert [node.op_type for node in body.node].count("MatMul") == 1  # the recurrent one


def test_a_zoo_cell_in_keras_rnn_loops_too(tmp_path):
    model = looped(keras_layers.RNN(keras_layers.StackedRNNCells([PeepholeLSTMCell(4), PeepholeLSTMCell(3)])))
    assert_loops(model, tmp_path, {"x": sequences(3, 6, 5)})


def test_a_cell_that_reads_the_model_around_it_keeps_a_loop_and_its_values(tmp_path):
    model = Attentive()
    model(sequences(2, 6, 5))
    path = assert_exports(randomise(model, 0.5), tmp_path, {"input": sequences(3, 6, 5)})
    assert op_histogram(path)["Loop"] == 1
