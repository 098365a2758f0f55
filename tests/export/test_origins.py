"""Models from elsewhere leave too: where a GPU is seen, from another backend, in half precision, with many ends."""

import importlib
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from litert_runs import assert_same, randomise, sequences

from zoo import export, layers
from zoo.export import trace
from zoo.export.session import Session
from zoo.export.signature import signature

K = keras.layers
WRITE = {"tflite": export.to_tflite, "onnx": export.to_onnx}
EACH_FORMAT = pytest.mark.parametrize("format", WRITE)


def check(path, inputs, expected):
    """The file gives {output: array} for {input: array} of one row."""
    if path.suffix == ".tflite":
        return assert_same(path, inputs, expected)
    answers = Session(path)(inputs)
    assert answers.keys() == expected.keys()
    for name, array in expected.items():  # float32 sums in another order
        np.testing.assert_allclose(answers[name], array, atol=1e-5, err_msg=name)


# A GPU that is seen


def all_ops(graph):
    """The kinds of all ops of a traced function, those in the functions it calls included."""
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    return {node.op for node in nodes}


def with_cudnn(use_cudnn):
    x = keras.Input((6, 3), name="x")
    y = K.LSTM(4, return_sequences=True, use_cudnn=use_cudnn)(x)
    y = K.Bidirectional(K.GRU(3, return_sequences=True, use_cudnn=use_cudnn))(y)
    return keras.Model(x, K.TimeDistributed(K.Dense(2))(y))


@pytest.fixture
def gpu_seen(monkeypatch):
    """Let Keras believe that there is a GPU, which is what it asks before it takes a cuDNN op."""
    rnn = importlib.import_module("keras.src.backend.tensorflow.rnn")  # the package has a function of that name
    monkeypatch.setattr(rnn, "cudnn_ok", lambda *_, **__: True)
    monkeypatch.setattr(rnn, "_do_lstm_arguments_support_cudnn", lambda **_: True)
    monkeypatch.setattr(rnn, "_do_gru_arguments_support_cudnn", lambda **_: True)
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: ["a GPU"])


@pytest.mark.parametrize("use_cudnn", ["auto", True])
def test_where_a_gpu_is_seen_no_cudnn_op_is_traced(gpu_seen, use_cudnn):
    model = with_cudnn(use_cudnn)
    entry = signature(model, batch_size=1)
    traced = tf.function(entry.call, autograph=False).get_concrete_function(*entry.specs)
    assert any("Cudnn" in op for op in all_ops(traced.graph)), "the test no longer makes Keras take cuDNN"
    with trace.for_inference(model):
        traced = tf.function(entry.call, autograph=False).get_concrete_function(*entry.specs)
    assert not [op for op in all_ops(traced.graph) if "Cudnn" in op]
    assert model.layers[1].use_cudnn == use_cudnn  # and is left as it was


@EACH_FORMAT
def test_where_a_gpu_is_seen_the_file_is_the_same(gpu_seen, monkeypatch, tmp_path, format):
    model = randomise(with_cudnn(True))
    seen = WRITE[format](model, tmp_path / f"seen.{format}")
    monkeypatch.undo()
    plain, inputs = with_cudnn(False), {"x": sequences(1, 6, 3)}
    plain.set_weights(model.get_weights())
    check(seen, inputs, {model.output_names[0]: keras.ops.convert_to_numpy(plain(inputs["x"]))})


# Another backend

TRAINED_ELSEWHERE = """
import sys
import keras, numpy as np
from zoo import layers
keras.utils.set_random_seed(0)
x = keras.Input((5, 3), name="x")
y = keras.layers.GRU(4, return_sequences=True)(layers.PeepholeLSTM(4, return_sequences=True)(x))
model = keras.Model(x, keras.layers.Dense(2)(layers.MinGRU(3)(y)))
model.compile("adam", "mse")
inputs = np.random.normal(size=(8, 5, 3)).astype("float32")
model.fit(inputs, np.ones((8, 2)), epochs=2, verbose=0)
model.save(sys.argv[1])
np.savez(sys.argv[2], x=inputs[:1], y=keras.ops.convert_to_numpy(model(inputs[:1])))
"""


@pytest.mark.parametrize("backend", ["jax", pytest.param("torch", marks=pytest.mark.slow)])
def test_a_model_trained_on_another_backend_leaves_here(tmp_path, backend):
    saved, stored = tmp_path / "model.keras", tmp_path / "answer.npz"
    environment = os.environ | {"KERAS_BACKEND": backend}
    subprocess.run([sys.executable, "-c", TRAINED_ELSEWHERE, saved, stored], env=environment, check=True)
    model = keras.models.load_model(saved)
    with np.load(stored) as answer:
        for format, write in WRITE.items():
            path = write(model, tmp_path / f"m.{format}")
            check(path, {"x": answer["x"]}, {model.output_names[0]: answer["y"]})


# Half precision


@EACH_FORMAT
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_model_of_half_precision_leaves_as_its_weights_compute_in_float32(tmp_path, policy, format):
    def build(dtype):
        x = keras.Input((5, 3), name="x")
        y = K.Bidirectional(K.GRU(3, return_sequences=True, dtype=dtype), dtype=dtype)(x)
        y = layers.LayerNormLSTM(4, return_sequences=True, dtype=dtype)(y)
        return keras.Model(x, K.Dense(2, dtype=dtype, name="y")(layers.PeepholeLSTM(4, dtype=dtype)(y)))

    half, whole = randomise(build(policy)), build("float32")
    for weight, other in zip(whole.weights, half.weights, strict=True):
        weight.assign(keras.ops.cast(other, "float32"))
    inputs = {"x": sequences(1, 5, 3)}
    path = WRITE[format](half, tmp_path / f"m.{format}")
    check(path, inputs, {"y": keras.ops.convert_to_numpy(whole(inputs["x"]))})
    assert half.layers[2].compute_dtype == policy.removeprefix("mixed_")  # and is left as it was


# Several inputs and outputs


def ends(inputs, outputs):
    """A model of two sequences whose inputs and outputs are arranged as told."""
    one, two = keras.Input((5, 3), name="one"), keras.Input((4, 2), name="two")
    first = K.GRU(3, name="first")(one)
    second = layers.PeepholeLSTM(2, return_sequences=True, name="second")(two)
    both = K.Dense(2, name="both")(K.Concatenate()([first, K.Flatten()(second)]))
    return keras.Model(inputs(one, two), outputs(first, second, both))


ARRANGED = {
    "lists": (lambda one, two: [one, two], lambda first, second, both: [first, second, both]),
    "dicts": (
        lambda one, two: {"two": two, "one": one},
        lambda first, second, both: {"z": first, "a": second, "m": both},
    ),
    "a dict in a list": (lambda one, two: [one, {"two": two}], lambda first, second, both: [first, [second, both]]),
    "lists in a dict": (
        lambda one, two: {"p": [two, one]},
        lambda first, second, both: {"p": [second, first], "q": both},
    ),
}


@EACH_FORMAT
@pytest.mark.parametrize("inputs, outputs", ARRANGED.values(), ids=ARRANGED)
def test_ends_in_any_arrangement_keep_their_names(tmp_path, inputs, outputs, format):
    model = randomise(ends(inputs, outputs))
    arrays = {"one": sequences(1, 5, 3), "two": -sequences(1, 4, 2)}
    given = keras.tree.pack_sequence_as(model._inputs_struct, [arrays[tensor.name] for tensor in model.inputs])
    expected = [keras.ops.convert_to_numpy(array) for array in keras.tree.flatten(model(given))]
    path = WRITE[format](model, tmp_path / f"m.{format}")
    session = Session(path)
    assert set(session.inputs) == {"one", "two"}
    assert len(session.outputs) == len(set(session.outputs)) == 3
    names = {"lists": {"first", "second", "both"}, "dicts": {"z", "a", "m"}}
    kind = next(kind for kind, arranged in ARRANGED.items() if arranged == (inputs, outputs))
    assert set(session.outputs) == names.get(kind, set(session.outputs))
    answers = {array.shape: array for array in session(arrays).values()}
    for array in expected:  # no two of one shape
        np.testing.assert_allclose(answers[array.shape], array, atol=1e-5)  # float32 sums in another order
    if kind == "dicts":
        assert [session(arrays)[name].shape for name in ("z", "a", "m")] == [(1, 3), (1, 4, 2), (1, 2)]
    examples = {name: np.concatenate([array, array]) for name, array in arrays.items()}
    assert export.verify(model, path, examples).passed
