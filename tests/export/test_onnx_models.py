"""Models of every kind as ONNX files, each against the Keras model it came from."""

import keras
import numpy as np
import pytest
from keras import layers as keras_layers
from litert_runs import model_answers, randomise, sequences
from onnx_runs import answers, assert_exports, assert_same, session

from zoo import export
from zoo.export.onnx import op_histogram
from zoo.layers import PeepholeLSTM

WORDS = np.random.default_rng(4).integers(0, 4, (3, 8)).astype("int32")


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="subclassed")
        self.encode = keras_layers.LSTM(4, return_sequences=True)
        self.both = keras_layers.Bidirectional(keras_layers.GRU(3, return_state=True))
        self.decide = keras_layers.Dense(2)

    def call(self, inputs):
        last, ahead, back = self.both(self.encode(inputs))
        return [self.decide(last), ahead, back]


def subclassed():
    model = Subclassed()
    model(sequences(2, 6, 5))
    return model, {"input": sequences(3, 6, 5)}, {"LSTM": 1, "GRU": 1}


def nested():
    inner = keras.Sequential([keras.Input((None, 5)), keras_layers.GRU(4, return_sequences=True)], name="inner")
    x = keras.Input((None, 5), name="x")
    outputs = {"decision": keras_layers.LSTM(3)(inner(x)), "track": PeepholeLSTM(2, return_sequences=True)(inner(x))}
    return keras.Model(x, outputs, name="nested"), {"x": sequences(3, 6, 5)}, {"GRU": 2, "LSTM": 2}


def shared():
    first, second = keras.Input((None, 5), name="first"), keras.Input((None, 5), name="second")
    layer = keras_layers.LSTM(4)
    verdict = keras_layers.Dense(2, name="verdict")(keras_layers.concatenate([layer(first), layer(second)]))
    inputs = {"first": sequences(3, 6, 5), "second": -sequences(3, 4, 5)}
    return keras.Model([first, second], verdict, name="shared"), inputs, {"LSTM": 2}


def encoder_decoder():
    frames, words = keras.Input((None, 5), name="frames"), keras.Input((None,), dtype="int32", name="words")
    _, *states = keras_layers.LSTM(6, return_state=True)(frames)
    embedded = keras_layers.Embedding(4, 3)(words)
    decoded, *finals = keras_layers.LSTM(6, return_sequences=True, return_state=True)(embedded, initial_state=states)
    outputs = {"next_word": keras_layers.Dense(4)(decoded), "hidden": finals[0], "cell": finals[1]}
    inputs = {"frames": sequences(3, 6, 5), "words": WORDS}
    return keras.Model([frames, words], outputs, name="encoder_decoder"), inputs, {"LSTM": 2}


def masked_words():
    words = keras.Input((None,), dtype="int32", name="words")
    embedded = keras_layers.Embedding(4, 3, mask_zero=True)(words)
    both = keras_layers.Bidirectional(keras_layers.LSTM(4, return_sequences=True, dropout=0.3))(embedded)
    return keras.Model(words, keras_layers.GRU(3)(both), name="masked_words"), {"words": WORDS}, {"Scan": 3}


def per_frame():
    x = keras.Input((4, 6, 5), name="x")
    pooled = keras_layers.TimeDistributed(keras_layers.LSTM(3))(x)
    return keras.Model(x, keras_layers.GRU(2)(pooled), name="per_frame"), {"x": sequences(3, 4, 6, 5)}, {"GRU": 1}


def convolutional():
    x = keras.Input((32, 8, 1), name="x")
    y = keras_layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(x)
    y = keras_layers.BatchNormalization()(y)
    y = keras_layers.GRU(5)(keras_layers.Reshape((16, 16))(y))
    return keras.Model(x, keras_layers.Softmax()(y), name="crnn"), {"x": sequences(3, 32, 8, 1)}, {"GRU": 1}


def plain():
    model = keras.Sequential([keras.Input((5,), name="x"), keras_layers.Dense(3)], name="plain")
    return model, {"x": sequences(3, 5)}, {"MatMul": 1}


def unrolled():
    x = keras.Input((6, 5), name="x")
    y = keras_layers.GRU(4, unroll=True, activation="gelu")(keras_layers.LSTM(4, unroll=True, return_sequences=True)(x))
    return keras.Model(x, y, name="unrolled"), {"x": sequences(3, 6, 5)}, {"LSTM": 1, "Scan": 1}


def uneven_directions():
    ahead = keras_layers.LSTM(3, return_sequences=True)
    back = keras_layers.LSTM(3, return_sequences=True, go_backwards=True, activation="gelu")
    x = keras.Input((None, 5), name="x")
    model = keras.Model(x, keras_layers.Bidirectional(ahead, backward_layer=back)(x), name="uneven")
    return model, {"x": sequences(3, 6, 5)}, {"LSTM": 1, "Scan": 1}


def double():
    x = keras.Input((None, 5), dtype="float64", name="x")
    model = keras.Model(x, keras_layers.LSTM(3, dtype="float64")(x), name="double")
    return model, {"x": sequences(3, 6, 5).astype("float64")}, {"Scan": 1}


MODELS = [
    subclassed,
    nested,
    shared,
    encoder_decoder,
    masked_words,
    per_frame,
    convolutional,
    plain,
    unrolled,
    uneven_directions,
    double,
]


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_one_file_gives_what_the_model_gives_for_one_and_for_three(make, tmp_path):
    model, inputs, ops = make()
    one = {name: value[:1] for name, value in inputs.items()}
    randomise(model)
    for weight in model.weights:
        if weight.name == "moving_variance":
            weight.assign(keras.ops.abs(weight))
    path = assert_exports(model, tmp_path, inputs, one)
    histogram = op_histogram(path)
    assert {op: histogram.get(op, 0) for op in ops} == ops
    assert "Loop" not in histogram
    assert {value.name for value in session(path).get_inputs()} == set(inputs)


@pytest.mark.parametrize("make", [shared, nested, encoder_decoder, masked_words], ids=lambda make: make.__name__)
def test_int8_comes_close_in_any_model(make, tmp_path):
    model, inputs, _ = make()
    randomise(model, 0.3)
    given = answers(export.to_onnx(model, tmp_path / "m.onnx", scheme="dynamic_int8"), inputs)
    for name, expected in model_answers(model, inputs).items():
        # weights are rounded to 1/254 of their range; a tenth of the spread lets that add up over layers and steps
        np.testing.assert_allclose(given[name], expected, atol=0.1 * expected.std(), rtol=0)


def test_a_stateful_layer_starts_afresh_at_every_run(tmp_path):
    x = keras.Input(batch_shape=(3, 6, 5), name="x")
    y = keras_layers.GRU(4, stateful=True)(PeepholeLSTM(4, stateful=True, return_sequences=True)(x))
    model = randomise(keras.Model(x, y))
    path = export.to_onnx(model, tmp_path / "m.onnx")
    inputs = {"x": sequences(3, 6, 5)}
    for layer in model.layers[1:]:
        layer.reset_state()
    assert_same(path, inputs, model_answers(model, inputs))
    assert model.layers[1].stateful


def test_a_half_precision_model_leaves_in_float32(tmp_path):
    def build(policy):
        x = keras.Input((None, 5), name="x")
        kinds = [keras_layers.LSTM(4, return_sequences=True, dtype=policy), keras_layers.GRU(3, dtype=policy)]
        return keras.Model(x, {"y": keras_layers.Dense(2, dtype=policy)(kinds[1](kinds[0](x)))})

    mixed, single = randomise(build("mixed_float16")), build("float32")
    single.set_weights(mixed.get_weights())
    inputs = {"x": sequences(3, 6, 5)}
    assert_same(export.to_onnx(mixed, tmp_path / "m.onnx"), inputs, model_answers(single, inputs))
    assert mixed.layers[1].compute_dtype == "float16"


def test_the_model_is_left_as_it_was(tmp_path):
    model, inputs, _ = masked_words()
    before = [w.copy() for w in model.get_weights()]
    given, attributes = model_answers(model, inputs), [set(vars(layer)) for layer in model._flatten_layers()]
    export.to_onnx(model, tmp_path / "m.onnx")
    for was, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)
    np.testing.assert_array_equal(list(given.values()), list(model_answers(model, inputs).values()))
    assert [set(vars(layer)) for layer in model._flatten_layers()] == attributes


def test_time_steps_closes_an_open_time_axis(tmp_path):
    model = keras.Sequential([keras.Input((None, 5), name="x"), keras_layers.LSTM(3)])
    path = export.to_onnx(model, tmp_path / "m.onnx", time_steps=7)
    assert session(path).get_inputs()[0].shape == ["batch", 7, 5]
    (last,) = answers(path, {"x": sequences(2, 7, 5)}).values()
    assert last.shape == (2, 3)


@pytest.mark.parametrize("make", [lambda: keras_layers.Dense(3), lambda: keras_layers.LSTM(3)], ids=["Dense", "LSTM"])
def test_a_layer_at_each_of_an_open_number_of_steps_is_right_for_another_batch_than_steps(make, tmp_path):
    inner = make()
    frames = (4, 5) if isinstance(inner, keras_layers.LSTM) else (5,)
    x = keras.Input((None, *frames), name="x")
    model = randomise(keras.Model(x, keras_layers.TimeDistributed(inner)(x)), 0.3)
    path = export.to_onnx(model, tmp_path / "m.onnx")
    for batch, steps in ((3, 6), (6, 2)):
        given = np.random.default_rng(0).normal(size=(batch, steps, *frames)).astype("float32")
        expected = {name: value for name, value in model_answers(model, {"x": given}).items()}
        assert_same(path, {"x": given}, expected, 1e-5)
    assert "Loop" not in op_histogram(path)
