"""Layers of the zoo that are ONNX's RNN with a recurrent kernel of a special form, and when their loop is better."""

import keras
import pytest
from litert_runs import randomise, sequences
from onnx_runs import assert_exports

from zoo import export
from zoo.export.onnx import op_histogram
from zoo.layers import EchoState, IndRNN


def model_of(*layers, spread=0.4):
    return randomise(keras.Sequential([keras.Input((None, 5), name="x"), *layers]), spread)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_units_that_see_themselves_only_are_a_diagonal(activation, go_backwards, tmp_path):
    layers = [IndRNN(6, activation=activation, return_sequences=True, go_backwards=go_backwards) for _ in range(2)]
    both = keras.layers.Bidirectional(IndRNN(4, activation=activation))
    path = assert_exports(model_of(*layers, both), tmp_path, {"x": sequences(3, 7, 5)}, {"x": sequences(1, 4, 5)})
    assert op_histogram(path)["RNN"] == 3 and "Scan" not in op_histogram(path)


@pytest.mark.parametrize("units", [7, 40])
@pytest.mark.parametrize("connectivity", [0.1, 0.5, 1.0])
def test_a_reservoir_without_leak_is_its_whole_matrix(units, connectivity, tmp_path):
    """Of 7 units, the last group is not full; every weight is another, so that a transposed matrix would show."""
    layer = EchoState(units, connectivity=connectivity, bias_scaling=0.3, seed=2, return_sequences=True)
    path = assert_exports(model_of(layer), tmp_path, {"x": sequences(3, 7, 5)})
    assert op_histogram(path)["RNN"] == 1


def test_a_leak_which_the_op_lacks_is_a_scan_and_the_plan_says_why(tmp_path):
    model = model_of(EchoState(8, leak=0.3, seed=2))
    (choice,) = export.plan(model, format="onnx").choices
    assert (choice.form, choice.reason) == ("loop", "the RNN of ONNX has no leak, here of 0.3")
    assert op_histogram(assert_exports(model, tmp_path, {"x": sequences(3, 7, 5)}))["Scan"] == 1


@pytest.mark.parametrize(
    ("layer", "form"),
    [
        (keras.layers.SimpleRNN(256), "native"),
        (keras.layers.SimpleRNN(384), "loop"),
        (IndRNN(64), "native"),
        (IndRNN(128), "loop"),
        (EchoState(256, connectivity=0.1, seed=1), "native"),
        (EchoState(512, connectivity=0.1, seed=1), "loop"),
        (EchoState(512, connectivity=0.5, seed=1), "native"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_plan_takes_the_quicker_form_and_an_override_the_other(layer, form, tmp_path):
    model = keras.Sequential([keras.Input((6, 5), name="x"), layer])
    plan = export.plan(model, format="onnx")
    assert plan.choices[0].form == form
    other = plan.override({plan.choices[0].layer: "loop" if form == "native" else "native"})
    path = assert_exports(model, tmp_path, {"x": sequences(2, 6, 5, spread=1.0)}, plan=other)
    assert ("Scan" in op_histogram(path)) == (form == "native")


@pytest.mark.parametrize("form", ["unrolled", "step"])
def test_steps_one_after_the_other_need_no_loop(form, tmp_path):
    steps = 1 if form == "step" else 4
    layers = [keras.layers.GRU(6, return_sequences=True), IndRNN(4, go_backwards=True)]
    model = randomise(keras.Sequential([keras.Input((steps, 5), name="x"), *layers]), 0.4)
    plan = export.plan(model, format="onnx")
    plan = plan.override({choice.layer: form for choice in plan.choices})
    histogram = op_histogram(assert_exports(model, tmp_path, {"x": sequences(3, steps, 5)}, plan=plan))
    assert not {"Scan", "Loop", "GRU", "RNN"} & set(histogram)
