"""The scheme full_int8: what becomes int8, what stays float, and how far the answers move."""

import keras
import numpy as np
import pytest
from litert_runs import answers, model_answers, randomise, sequences

from zoo import export, layers
from zoo.export.tflite import op_histogram

K = keras.layers
STEPS, FEATURES = 12, 10

# Layers beside the form that they take.
LAYERS = {
    "lstm": (lambda: K.LSTM(24, return_sequences=True), "native"),
    "lstm_backwards": (lambda: K.LSTM(24, go_backwards=True), "native"),
    "peephole_lstm": (lambda: layers.PeepholeLSTM(24, return_sequences=True), "native"),
    "gru_loop": (lambda: K.GRU(24, return_sequences=True), "loop"),
    "gru_unrolled": (lambda: K.GRU(24, return_sequences=True), "unrolled"),
    "gru_backwards": (lambda: K.GRU(24, go_backwards=True), "loop"),
    "gru_reset_before": (lambda: K.GRU(24, reset_after=False), "unrolled"),
    "simple_rnn": (lambda: K.SimpleRNN(24), "loop"),
    "simple_rnn_unrolled": (lambda: K.SimpleRNN(24, return_sequences=True), "unrolled"),
    "lstm_loop": (lambda: K.LSTM(24), "loop"),
    "indrnn": (lambda: layers.IndRNN(24, return_sequences=True), "loop"),
    "min_gru": (lambda: layers.MinGRU(24), "unrolled"),
}


def distance(path, model, inputs):
    """Return the largest rms error of all runs, as a part of the spread of the model's outputs."""
    worst = 0
    for one in range(len(inputs)):
        (expected,) = model_answers(model, {"x": inputs[one : one + 1]}).values()
        found = [next(iter(answer.values())) for answer in answers(path, {"x": inputs[one : one + 1]})]
        worst = max([worst, *(np.sqrt(np.mean((f - expected) ** 2)) / expected.std() for f in found)])
    return worst


def int8(model, path, form=None, examples=None, **options):
    """Write the model in full_int8, its recurrent layers all in one form."""
    examples = sequences(60, STEPS, FEATURES, spread=1.0) if examples is None else examples
    plan = export.plan(model, format="tflite", scheme="full_int8")
    if form:
        plan = plan.override({choice.layer: form for choice in plan.choices})
    return export.to_tflite(model, path, scheme="full_int8", representative_data=examples, plan=plan, **options)


@pytest.mark.parametrize("name", LAYERS)
def test_a_recurrent_layer_computes_in_integers_and_stays_close(name, tmp_path):
    make, form = LAYERS[name]
    model = randomise(keras.Sequential([keras.Input((STEPS, FEATURES), name="x"), make()]), 0.3)
    path = int8(model, tmp_path / "m.tflite", form)
    # An activation is off by 0.29 steps of 1/255 of its range, which is five times its spread: half a percent, at each
    # of about six ops in a step, and again through the state of the step before.
    assert 1e-4 < distance(path, model, sequences(3, STEPS, FEATURES, spread=1.0)) < 0.06
    histogram = op_histogram(path)
    assert histogram.get("WHILE", 0) == (form == "loop")
    assert histogram.get("UNIDIRECTIONAL_SEQUENCE_LSTM", 0) == (form == "native")
    assert histogram["QUANTIZE"] + histogram["DEQUANTIZE"] <= 8 + STEPS  # no op in the steps went back to float
