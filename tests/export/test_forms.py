"""The forms `unrolled` and `step`: no loop is left, and the file gives what the model gives."""

import cases
import keras
import numpy as np
import pytest
from litert_runs import assert_same, model_answers, randomise, sequences

from zoo import export, layers
from zoo.errors import ExportError, SettingError
from zoo.export.onnx import op_histogram as onnx_ops
from zoo.export.session import Session
from zoo.export.tflite import op_histogram as tflite_ops

K = keras.layers
LOOPS = {"tflite": ("WHILE",), "onnx": ("Loop", "Scan")}
OPS = {"tflite": tflite_ops, "onnx": onnx_ops}
WRITE = {"tflite": export.to_tflite, "onnx": export.to_onnx}


def forms(plan):
    return {choice.layer.rsplit("/", 1)[-1]: choice.form for choice in plan.choices}


def write(model, folder, format, form, **options):
    plan = export.plan(model, format=format)
    plan = plan.override({choice.layer: form for choice in plan.choices})
    path = WRITE[format](model, folder / f"m.{format}", plan=plan, **options)
    histogram = OPS[format](path)
    assert not any(op in histogram for op in LOOPS[format])
    return path


def check(path, inputs, expected):
    if path.suffix == ".tflite":
        assert_same(path, inputs, expected)
        return
    for name, answer in Session(path)(inputs).items():
        np.testing.assert_allclose(answer, expected[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("format", ["tflite", "onnx"])
@pytest.mark.parametrize(("form", "steps"), [("unrolled", 3), ("step", 1)])
def test_every_layer_of_the_table_leaves_without_a_loop(format, form, steps, tmp_path):
    x = keras.Input((steps, 4), name="x")
    whole = {f"layer_{i}": case.make(return_sequences=True)(x) for i, case in enumerate(cases.LAYERS)}
    model = randomise(keras.Model(x, whole), 0.4)
    inputs = {"x": sequences(1, steps, 4)}
    check(write(model, tmp_path, format, form), inputs, model_answers(model, inputs))


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_an_unrolled_layer_is_used_in_every_way(format, tmp_path):
    x = keras.Input((5, 4), name="x")
    masked = K.Masking()(x)
    outputs = {
        "backwards": K.GRU(6, go_backwards=True)(x),
        "masked": K.LSTM(4, return_sequences=True)(masked),
        "masked_backwards": K.SimpleRNN(4, go_backwards=True, return_sequences=True)(masked),
        "zeros": K.RNN(K.GRUCell(3), return_sequences=True, zero_output_for_mask=True)(masked),
    }
    outputs["both"] = K.Bidirectional(layers.PeepholeLSTM(3, return_sequences=True))(x)
    outputs["both_masked"] = K.Bidirectional(K.GRU(3))(masked)
    first, hidden, cell = K.LSTM(4, return_sequences=True, return_state=True)(x)
    outputs["resumed"] = K.LSTM(4)(first, initial_state=[hidden, cell])
    model = randomise(keras.Model(x, outputs))
    inputs = sequences(2, 5, 4)
    inputs[0, 3:] = 0
    inputs[1, :1] = 0
    options = {"batch_size": 2} if format == "tflite" else {}
    check(write(model, tmp_path, format, "unrolled", **options), {"x": inputs}, model_answers(model, {"x": inputs}))


@pytest.mark.parametrize("format", ["tflite", "onnx"])
@pytest.mark.parametrize(("form", "steps"), [("unrolled", 4), ("loop", 4), ("step", 1)])
def test_both_directions_take_the_form_that_is_asked_for_their_wrapper(format, form, steps, tmp_path):
    x = keras.Input((steps, 4), name="x")
    y = K.Bidirectional(K.GRU(6, return_sequences=True))(x)
    y = K.Bidirectional(K.LSTM(5), merge_mode="sum")(y)
    model = randomise(keras.Model(x, {"y": y}))
    plan = export.plan(model, format=format)
    plan = plan.override({choice.layer: form for choice in plan.choices})  # of the wrappers, or of what is in them
    path = WRITE[format](model, tmp_path / f"m.{format}", plan=plan)
    inputs = {"x": sequences(1, steps, 4)}
    check(path, inputs, model_answers(model, inputs))
    ops = OPS[format](path)
    assert not {"LSTM", "GRU", "Loop", "UNIDIRECTIONAL_SEQUENCE_LSTM"} & set(ops)  # as one op, or the loop of Keras
    assert ops.get(LOOPS[format][-1], 0) == (4 if form == "loop" else 0)
    assert export.verify(model, path, inputs, plan=plan).passed


def recurrent(kind, steps, units=8, **options):
    return keras.Sequential([keras.Input((steps, 4), name="x"), kind(units, name="layer", **options)])


@pytest.mark.parametrize(
    ("kind", "steps", "options", "form"),
    [
        (K.GRU, 1, {"target": "linux"}, "step"),
        (K.LSTM, 1, {"target": "android"}, "step"),
        (K.GRU, 4, {"target": "linux"}, "unrolled"),
        (K.LSTM, 4, {"target": "linux"}, "unrolled"),
        (K.LSTM, 4, {"target": "android"}, "native"),
        (K.GRU, 4, {"target": "mcu"}, "loop"),
        (K.LSTM, 1, {"target": "mcu"}, "native"),
        (K.LSTM, 30, {"target": "linux"}, "native"),
        (K.LSTM, 30, {"target": "linux", "scheme": "full_int8"}, "loop"),
        (K.LSTM, 30, {"target": "mcu", "scheme": "full_int8"}, "native"),
        (K.SimpleRNN, 30, {"target": "android", "scheme": "dynamic_int8"}, "native"),
        (K.SimpleRNN, 30, {"target": "android", "scheme": "full_int8"}, "loop"),
    ],
)
def test_a_plan_follows_target_scheme_and_number_of_steps(kind, steps, options, form):
    plan = export.plan(recurrent(kind, steps), format="tflite", **options)
    assert forms(plan) == {"layer": form}
    assert str(plan).startswith(f"tflite for {options['target']}, {options.get('scheme', 'float32')}\n")


def test_a_form_that_cannot_be_is_refused_by_name(tmp_path):
    class Own(K.GRU):
        def inner_loop(self, sequences, initial_state, mask, training=False):
            return super().inner_loop(2 * sequences, initial_state, mask, training=training)

    path = tmp_path / "m.tflite"
    for model, form, options, message in (
        (recurrent(K.GRU, None), "unrolled", {}, "needs a known number of steps; give time_steps="),
        (recurrent(K.GRU, 4), "step", {}, "is to be one step and gets 4"),
        (recurrent(Own, 4), "unrolled", {}, "its class has a loop of its own"),
        (
            recurrent(K.SimpleRNN, 4),
            "native",
            {"scheme": "full_int8"},
            "cannot be native: the op has no kernel for full",
        ),
    ):
        plan = export.plan(model, format="tflite", **options)
        plan = plan.override({choice.layer: form for choice in plan.choices})
        examples = {"representative_data": sequences(4, 4, 4)} if options else {}
        with pytest.raises(ExportError, match=message):
            export.to_tflite(model, path, plan=plan, **options, **examples)
    with pytest.raises(SettingError, match="expected one of native, loop, unrolled, step"):
        plan.override({plan.choices[0].layer: "scan"})
    assert not list(tmp_path.iterdir())
