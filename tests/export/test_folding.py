"""A cell that folds leaves as the plain cell: as the format's own op, or as that cell's loop."""

import keras
import numpy as np
import pytest
from litert_runs import assert_same, model_answers, randomise, sequences
from onnx_runs import assert_exports

from zoo import export
from zoo.export import onnx, tflite
from zoo.layers import (
    BatchNormLSTM,
    GRUCell,
    IndRNNCell,
    LSTMCell,
    PeepholeLSTMCell,
    Recurrent,
    VariationalDropout,
)

TIME, FEATURES = 6, 4

pytestmark = pytest.mark.on_tensorflow


def model_of(*layers, steps=TIME):
    return randomise(keras.Sequential([keras.Input((steps, FEATURES), name="x"), *layers]), spread=0.4)


def shared(**options):
    return BatchNormLSTM(5, **options)


def test_shared_batch_norm_is_one_lstm_in_tflite(tmp_path):
    model, inputs = model_of(shared(return_sequences=True)), {"x": sequences(1, TIME, FEATURES)}
    path = export.to_tflite(model, tmp_path / "m.tflite")
    assert tflite.op_histogram(path)["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 1
    assert "WHILE" not in tflite.op_histogram(path)
    assert_same(path, inputs, model_answers(model, inputs))


@pytest.mark.parametrize("wrap", [lambda layer: layer, keras.layers.Bidirectional], ids=["one way", "both ways"])
def test_shared_batch_norm_is_one_lstm_in_onnx(wrap, tmp_path):
    model = model_of(wrap(shared(return_sequences=True)))
    path = assert_exports(model, tmp_path, {"x": sequences(1, TIME, FEATURES)}, {"x": sequences(3, TIME, FEATURES)})
    histogram = onnx.op_histogram(path)
    assert histogram["LSTM"] == 1
    assert not {"Scan", "Loop"} & set(histogram)


def test_a_masked_one_is_the_loop_of_the_plain_lstm(tmp_path):
    """The mask keeps it from the op, and no norm is left in the loop."""
    model, x = model_of(keras.layers.Masking(), shared()), sequences(1, TIME, FEATURES)
    x[:, 4:] = 0
    files = []
    for name, one in (("norm", model), ("plain", model_of(keras.layers.Masking(), keras.layers.LSTM(5)))):
        files.append(export.to_tflite(one, tmp_path / f"{name}.tflite"))
    assert_same(files[0], {"x": x}, model_answers(model, {"x": x}))
    assert tflite.op_histogram(files[0]) == tflite.op_histogram(files[1])


def test_the_file_has_the_weights_of_the_time_of_export(tmp_path):
    """A plan made before does not keep those that it saw."""
    model, inputs = model_of(shared()), {"x": sequences(1, TIME, FEATURES)}
    plan = export.plan(model, format="onnx")
    model.layers[0].cell.mean.assign_add(np.ones(model.layers[0].cell.mean.shape))
    assert_exports(model, tmp_path, inputs, plan=plan)


def test_a_norm_with_statistics_per_step_keeps_its_place_in_a_loop(tmp_path):
    """For any number of steps up to those that have statistics, in ONNX; past them the file refuses."""
    model = model_of(BatchNormLSTM(5, steps=TIME, return_sequences=True), steps=None)
    x = sequences(2, TIME, FEATURES)
    path = assert_exports(model, tmp_path, {"x": x}, {"x": x[:, :3]})
    assert onnx.op_histogram(path)["Scan"] == 1


@pytest.mark.parametrize(
    ("cell", "op"),
    [
        (lambda: LSTMCell(5), "LSTM"),
        (lambda: GRUCell(5), "GRU"),
        (lambda: VariationalDropout(LSTMCell(5), 0.2, 0.3), "LSTM"),
        (lambda: VariationalDropout(GRUCell(5), 0.2, 0.3), "GRU"),
        (lambda: VariationalDropout(PeepholeLSTMCell(5), 0.2), "LSTM"),
        (lambda: VariationalDropout(IndRNNCell(5), 0.2), "RNN"),
    ],
)
def test_what_is_a_plain_cell_at_inference_is_its_op(cell, op, tmp_path):
    both = keras.layers.Bidirectional(Recurrent(cell(), return_sequences=True))
    model, x = model_of(both, Recurrent(cell(), return_sequences=True)), sequences(3, TIME, FEATURES)
    histogram = onnx.op_histogram(assert_exports(model, tmp_path, {"x": x}))
    assert histogram[op] == 2 and "Scan" not in histogram
    path = export.to_tflite(model, tmp_path / "m.tflite", target="android", batch_size=3)
    assert_same(path, {"x": x}, model_answers(model, {"x": x}))
    assert tflite.op_histogram(path).get("UNIDIRECTIONAL_SEQUENCE_LSTM", 0) == (3 if op == "LSTM" else 0)
