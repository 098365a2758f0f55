"""Masks in every form: with holes through the loop, and padding at the end through native ops where it is promised."""

import keras
import numpy as np
import onnx
import onnx.reference
import onnx_runs
import pytest
from keras import layers as keras_layers
from litert_runs import assert_same, model_answers, randomise, sequences
from onnx_runs import assert_exports

from zoo import export
from zoo.errors import SettingError
from zoo.export import onnx as to_onnx
from zoo.export import tflite as to_tflite
from zoo.layers import MinGRU, PeepholeLSTM

STEPS, FEATURES = 7, 5
LENGTHS = np.array([7, 3, 0, 1])
PADDED = np.arange(STEPS) < LENGTHS[:, None]
HOLES = np.random.default_rng(3).random((4, STEPS)) < 0.5
HOLES[:2] = [[False, False, True, True, False, True, False], [False] * STEPS]

KINDS = {
    "lstm": keras_layers.LSTM,
    "peephole_lstm": PeepholeLSTM,
    "gru": keras_layers.GRU,
    "simple_rnn": keras_layers.SimpleRNN,
}


def model_of(*layers, spread=0.7):
    """A model of a sequence and its mask."""
    x, mask = keras.Input((STEPS, FEATURES), name="x"), keras.Input((STEPS,), dtype="bool", name="mask")
    y = x
    for layer in layers:
        y = layer(y, mask=mask)
    outputs = y if isinstance(y, (list, tuple)) else [y]
    return randomise(keras.Model([x, mask], {f"y{i}": output for i, output in enumerate(outputs)}), spread)


def given(mask):
    return {"x": sequences(len(mask), STEPS, FEATURES), "mask": mask}


def assert_onnx(model, tmp_path, *masks, promise="any"):
    plan = export.plan(model, format="onnx", masks=promise)
    path = assert_exports(model, tmp_path, *map(given, masks), plan=plan)
    return to_onnx.op_histogram(path)


def assert_tflite(model, tmp_path, *masks, promise="any"):
    plan = export.plan(model, format="tflite", target="android", masks=promise)
    path = export.to_tflite(model, tmp_path / "m.tflite", target="android", batch_size=len(masks[0]), plan=plan)
    for mask in masks:
        assert_same(path, given(mask), model_answers(model, given(mask)))
    return to_tflite.op_histogram(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_padding_that_is_promised_goes_through_onnx_own_op(kind, return_sequences, go_backwards, tmp_path):
    layer = KINDS[kind](4, return_sequences=return_sequences, return_state=True, go_backwards=go_backwards)
    ops = assert_onnx(model_of(layer), tmp_path, PADDED, promise="right_padded")
    assert sum(ops.get(op, 0) for op in ("LSTM", "GRU", "RNN")) == 1
    assert not {"Scan", "Loop"} & set(ops)


@pytest.mark.parametrize("kind", ["lstm", "peephole_lstm", "simple_rnn"])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_padding_that_is_promised_goes_through_tflites_own_op(kind, return_sequences, go_backwards, tmp_path):
    layer = KINDS[kind](
        4, return_sequences=return_sequences, return_state=kind == "simple_rnn", go_backwards=go_backwards
    )
    ops = assert_tflite(model_of(layer), tmp_path, PADDED, promise="right_padded")
    assert sum(count for op, count in ops.items() if op.startswith("UNIDIRECTIONAL")) == 1
    assert "WHILE" not in ops


@pytest.mark.parametrize("kind", ["lstm", "peephole_lstm", "gru"])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("merge_mode", ["concat", "sum"])
def test_promised_padding_in_both_directions_is_one_onnx_op(kind, return_sequences, merge_mode, tmp_path):
    inner = KINDS[kind](4, return_sequences=return_sequences, return_state=True)
    model = model_of(keras_layers.Bidirectional(inner, merge_mode=merge_mode))
    ops = assert_onnx(model, tmp_path, PADDED, promise="right_padded")
    assert ops.get("LSTM", 0) + ops.get("GRU", 0) == 1 and "Scan" not in ops


@pytest.mark.parametrize("return_sequences", [False, True])
def test_promised_padding_in_both_directions_is_two_tflite_ops(return_sequences, tmp_path):
    model = model_of(keras_layers.Bidirectional(keras_layers.LSTM(4, return_sequences=return_sequences)))
    ops = assert_tflite(model, tmp_path, PADDED, promise="right_padded")
    assert ops["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 2 and "WHILE" not in ops


@pytest.mark.parametrize("zero_output", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_a_row_of_padding_only_keeps_the_states_it_was_given(zero_output, return_sequences, tmp_path):
    x, mask = keras.Input((STEPS, FEATURES), name="x"), keras.Input((STEPS,), dtype="bool", name="mask")
    start = [keras.Input((4,), name=f"s{i}") for i in range(2)]
    cell = keras_layers.LSTMCell(4)
    layer = keras_layers.RNN(
        cell, return_sequences=return_sequences, return_state=True, zero_output_for_mask=zero_output
    )
    y, hidden, memory = layer(x, mask=mask, initial_state=start)
    model = randomise(keras.Model([x, mask, *start], {"y": y, "hidden": hidden, "memory": memory}))
    inputs = {**given(PADDED), "s0": sequences(4, 4), "s1": -sequences(4, 4)}
    path = assert_exports(model, tmp_path, inputs, plan=export.plan(model, format="onnx", masks="right_padded"))
    assert to_onnx.op_histogram(path)["LSTM"] == 1


@pytest.mark.parametrize("masks", ["any", "right_padded"])
def test_the_final_cell_state_of_a_masked_tflite_lstm_takes_a_loop(masks, tmp_path):
    ops = assert_tflite(model_of(keras_layers.LSTM(4, return_state=True)), tmp_path, PADDED, promise=masks)
    assert ops["WHILE"] == 1


@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("make", [keras_layers.LSTM, keras_layers.GRU, MinGRU, PeepholeLSTM])
def test_a_mask_with_holes_is_right_without_a_promise(make, return_sequences, tmp_path):
    model = model_of(make(4, return_sequences=True), make(3, return_sequences=return_sequences))
    assert_onnx(model, tmp_path, HOLES, PADDED)
    assert_tflite(model, tmp_path, HOLES, PADDED)


def test_an_unrolled_layer_backwards_has_its_zeros_at_the_steps_that_are_masked(tmp_path):
    """Keras itself has them there in its loop only: unrolled it does not turn the mask around with the steps."""

    def make(unroll):
        options = {"return_sequences": True, "go_backwards": True, "zero_output_for_mask": True, "unroll": unroll}
        return model_of(keras_layers.SimpleRNN(4, **options))

    unrolled, loop = make(True), make(False)
    loop.set_weights(unrolled.get_weights())
    inputs, expected = given(HOLES), model_answers(loop, given(HOLES))
    assert_same(export.to_tflite(unrolled, tmp_path / "m.tflite", batch_size=len(HOLES)), inputs, expected)
    onnx_runs.assert_same(export.to_onnx(unrolled, tmp_path / "m.onnx"), inputs, expected)


@pytest.mark.parametrize("return_sequences", [False, True])
def test_a_mask_with_holes_in_both_directions_is_right_without_a_promise(return_sequences, tmp_path):
    model = model_of(keras_layers.Bidirectional(keras_layers.GRU(4, return_sequences=return_sequences)))
    assert_onnx(model, tmp_path, HOLES)
    assert_tflite(model, tmp_path, HOLES)


def embedded(layer):
    words = keras.Input((STEPS,), dtype="int32", name="words")
    x = keras_layers.Embedding(9, FEATURES, mask_zero=True)(words)
    return randomise(keras.Model(words, {"y": layer(x)}))


@pytest.mark.parametrize("masks", ["any", "right_padded"])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_words_of_an_embedding_that_masks_zeros_are_right(masks, return_sequences, tmp_path):
    model = embedded(keras_layers.Bidirectional(keras_layers.LSTM(4, return_sequences=return_sequences)))
    mask = HOLES if masks == "any" else PADDED
    words = {"words": (1 + np.arange(mask.size, dtype="int32").reshape(mask.shape) % 8) * mask}
    plans = {f: export.plan(model, format=f, masks=masks) for f in ("onnx", "tflite")}
    ops = to_onnx.op_histogram(assert_exports(model, tmp_path, words, plan=plans["onnx"]))
    assert ("Scan" in ops) == (masks == "any")
    path = export.to_tflite(model, tmp_path / "m.tflite", batch_size=4, plan=plans["tflite"])
    assert_same(path, words, model_answers(model, words))
    assert ("WHILE" in to_tflite.op_histogram(path)) == (masks == "any")


@pytest.mark.parametrize("masks", ["any", "right_padded"])
def test_a_masking_layer_in_front_is_right(masks, tmp_path):
    layers = [
        keras.Input((STEPS, FEATURES), name="x"),
        keras_layers.Masking(9.0),
        PeepholeLSTM(4),
        keras_layers.Dense(2),
    ]
    model = randomise(keras.Sequential(layers))
    x = sequences(4, STEPS, FEATURES)
    x[~(HOLES if masks == "any" else PADDED)] = 9.0
    plans = {f: export.plan(model, format=f, masks=masks) for f in ("onnx", "tflite")}
    assert_exports(model, tmp_path, {"x": x}, plan=plans["onnx"])
    path = export.to_tflite(model, tmp_path / "m.tflite", batch_size=4, plan=plans["tflite"])
    assert_same(path, {"x": x}, model_answers(model, {"x": x}))


@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_the_plan_says_what_a_promise_would_change(format):
    (choice,) = export.plan(model_of(keras_layers.LSTM(4)), format=format).choices
    assert choice.form == "loop" and "masks='right_padded'" in choice.reason
    (choice,) = export.plan(model_of(keras_layers.LSTM(4)), format=format, masks="right_padded").choices
    assert choice.form == "native"
    with pytest.raises(SettingError, match="expected one of any, right_padded"):
        export.plan(model_of(keras_layers.LSTM(4)), format=format, masks="left_padded")


def test_masks_are_loops_on_a_microcontroller(tmp_path):
    (choice,) = export.plan(model_of(keras_layers.LSTM(4)), format="tflite", target="mcu", masks="right_padded").choices
    assert choice.form == "loop"


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_onnx_own_reference_agrees_on_the_loop(kind, tmp_path):
    """Its recurrent ops know no lengths, so that only the loop can be asked of it."""
    model = model_of(KINDS[kind](4, return_sequences=True))
    path = export.to_onnx(model, tmp_path / "m.onnx")
    (found,) = onnx.reference.ReferenceEvaluator(str(path)).run(None, given(HOLES))
    (expected,) = model_answers(model, given(HOLES)).values()
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)  # the project's tolerance for float32
