"""Any Keras model as a TFLite file: however it is put together, and whatever its recurrent layers are."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from litert_runs import assert_same, model_answers, randomise, sequences

from zoo import export, layers
from zoo.export.tflite import op_histogram

K = keras.layers


class Subclassed(keras.Model):
    """Layers in a list, one of them used twice, called on one tensor."""

    def __init__(self):
        super().__init__()
        self.recurrent = [K.LSTM(4, return_sequences=True), K.GRU(5, return_sequences=True)]
        self.again = K.LSTM(5, return_sequences=True)
        self.out = K.Dense(3)

    def call(self, x):
        for layer in [*self.recurrent, self.again, self.again]:
            x = layer(x)
        return self.out(x)


class Leaky(layers.Cell):
    """A user's own cell, of which no rule knows."""

    def __init__(self, units):
        super().__init__()
        self.units = self.state_size = self.output_size = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units))
        self.recurrent = self.add_weight(shape=(self.units,))

    @property
    def recur_weights(self):
        return [self.recurrent]

    def project(self, x):
        return keras.ops.matmul(x, self.kernel)

    def recur(self, states, weights):
        return states[0] * weights[0]

    def advance(self, projected, recurrent, states, weights, noise=None):
        new = 0.3 * states[0] + 0.7 * keras.ops.tanh(projected + recurrent)
        return new, [new]


def subclassed():
    model = Subclassed()
    model(sequences(2, 6, 3))
    return model, {"input": sequences(1, 6, 3)}


def nested():
    inner_input = keras.Input((6, 3))
    inner = keras.Model(inner_input, K.LSTM(4, return_sequences=True)(inner_input))
    return keras.Sequential([keras.Input((6, 3), name="x"), inner, keras.Sequential([K.GRU(3), K.Dense(2)])])


def convolutional():
    return keras.Sequential(
        [keras.Input((9, 3), name="x"), K.Conv1D(4, 3, padding="causal"), K.LSTM(4), K.Dense(2, activation="softmax")]
    )


def encoder_decoder():
    source, target = keras.Input((7, 4), name="source"), keras.Input((5, 3), name="target")
    _, hidden, cell = K.LSTM(4, return_state=True)(source)
    outputs, *_ = K.LSTM(4, return_sequences=True, return_state=True)(target, initial_state=[hidden, cell])
    return keras.Model([target, source], K.Dense(3)(outputs))


def tokens():
    words = keras.Input((6,), dtype="int32", name="words")
    return keras.Model(words, K.LSTM(4)(K.Embedding(9, 5)(words))), {"words": np.array([[1, 0, 8, 3, 3, 2]], "int32")}


def masked_tokens():
    words = keras.Input((6,), dtype="int32", name="words")
    x = K.Embedding(9, 5, mask_zero=True)(words)
    x = K.Bidirectional(K.LSTM(4, return_sequences=True))(x)
    return keras.Model(words, layers.PeepholeLSTM(3)(x)), {"words": np.array([[1, 0, 8, 3, 0, 0]], "int32")}


def masked_anywhere():
    x = sequences(1, 6, 3)
    x[:, [0, 3, 5]] = 0
    return keras.Sequential([keras.Input((6, 3), name="x"), K.Masking(), K.LSTM(4), K.Dense(2)]), {"x": x}


def stateful():
    return keras.Sequential([keras.Input(batch_shape=(2, 6, 3), name="x"), K.LSTM(4, stateful=True)])


def over_pictures():
    return keras.Sequential([keras.Input((4, 6, 6, 2), name="x"), K.ConvLSTM2D(3, 3), K.Flatten(), K.Dense(2)])


def loop_after_the_zoos_own():
    own = layers.Recurrent(Leaky(4), return_sequences=True)
    return keras.Sequential(
        [keras.Input((6, 3), name="x"), own, layers.PeepholeLSTM(4, return_sequences=True), K.GRU(3)]
    )


def cells():
    both = K.RNN([K.LSTMCell(4), K.GRUCell(3)], return_sequences=True)
    return keras.Sequential([keras.Input((6, 3), name="x"), both, layers.Recurrent(Leaky(4))])


def per_frame():
    return keras.Sequential([keras.Input((3, 6, 4), name="x"), K.TimeDistributed(K.LSTM(3)), K.LSTM(2)])


def passed_through():
    x = keras.Input((6, 3), name="two words")
    return keras.Model(x, {"same": x, "last": K.LSTM(4)(x)})


MODELS = (
    subclassed,
    nested,
    convolutional,
    encoder_decoder,
    tokens,
    masked_tokens,
    masked_anywhere,
    stateful,
    over_pictures,
    loop_after_the_zoos_own,
    cells,
    per_frame,
    passed_through,
)


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_the_file_gives_what_the_model_gives(make, tmp_path):
    made = make()
    model, inputs = made if isinstance(made, tuple) else (made, None)
    randomise(model)
    batch = model.inputs[0].shape[0] or 1 if getattr(model, "inputs", None) else 1
    inputs = inputs or {tensor.name: sequences(batch, *tensor.shape[1:]) for tensor in model.inputs}
    path = export.to_tflite(model, tmp_path / "m.tflite", batch_size=batch)
    expected = model_answers(model, inputs)
    assert_same(path, inputs, expected)


def test_inputs_and_outputs_keep_the_order_of_the_model(tmp_path):
    first, second = keras.Input((5,), name="zebra"), keras.Input((6, 3), name="ant")
    model = keras.Model([first, second], [K.Dense(2, name="z")(first), K.LSTM(4, name="a")(second)])
    interpreter = Interpreter(str(export.to_tflite(model, tmp_path / "m.tflite")))
    assert [details["name"] for details in interpreter.get_input_details()] == ["zebra", "ant"]
    assert [details["name"] for details in interpreter.get_output_details()] == ["z", "a"]


@pytest.mark.parametrize("policy", ["mixed_float16", "float16"])
def test_a_model_of_half_precision_leaves_in_float32(policy, tmp_path):
    def build():
        return keras.Sequential([keras.Input((6, 3), name="x"), K.LSTM(4), K.Dense(2)])

    keras.config.set_dtype_policy(policy)
    try:
        half = randomise(build())
    finally:
        keras.config.set_dtype_policy("float32")
    whole = build()
    whole.set_weights(half.get_weights())
    inputs = {"x": sequences(1, 6, 3)}
    path = export.to_tflite(half, tmp_path / "m.tflite")
    ((expected,), name) = model_answers(whole, inputs).values(), next(iter(model_answers(half, inputs)))
    assert_same(path, inputs, {name: expected})
    assert half.layers[0].compute_dtype == "float16"  # and is left as it was


def test_a_model_without_recurrent_layers_exports_too(tmp_path):
    model = randomise(keras.Sequential([keras.Input((6,), name="x"), K.Dense(3)]))
    path = export.to_tflite(model, tmp_path / "m.tflite")
    assert_same(path, {"x": sequences(1, 6)}, model_answers(model, {"x": sequences(1, 6)}))
    assert op_histogram(path) == {"FULLY_CONNECTED": 1}


def test_time_steps_closes_an_open_time_axis(tmp_path):
    model = randomise(keras.Sequential([keras.Input((None, 3), name="x"), K.GRU(4)]))
    path = export.to_tflite(model, tmp_path / "m.tflite", time_steps=5)
    x = {"x": sequences(1, 5, 3)}
    assert_same(path, x, model_answers(model, x))


def test_the_model_is_left_as_it_was(tmp_path):
    model = randomise(keras.Sequential([keras.Input((6, 3), name="x"), K.LSTM(4), K.Dense(2)]))
    x = sequences(2, 6, 3)
    before, settings = model(x), model.layers[0].get_config()
    export.to_tflite(model, tmp_path / "m.tflite")
    np.testing.assert_array_equal(before, model(x))
    assert model.layers[0].get_config() == settings
    assert "call" not in vars(model.layers[0])
