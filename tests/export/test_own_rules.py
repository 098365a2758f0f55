"""A rule that somebody registers from outside of the package: what the plan says of it, and what is written."""

import keras
import numpy as np
import pytest
from keras import ops
from litert_runs import assert_same, model_answers, randomise, sequences

from zoo import export, layers
from zoo.errors import ExportError, SettingError
from zoo.export import rules
from zoo.export.rules import Unsuitable
from zoo.export.tflite import op_histogram
from zoo.export.tflite.fuse import RNN
from zoo.export.tflite.rules import one_op

STEPS, FEATURES, UNITS = 7, 3, 5


class DoubledCell(layers.Cell):
    """h[t] = 2 tanh(x[t] W + h[t-1] U)"""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
        self.recurrent_kernel = self.add_weight(shape=(self.units, self.units), name="recurrent_kernel")

    @property
    def recur_weights(self):
        return [self.recurrent_kernel]

    def project(self, inputs):
        return ops.matmul(inputs, self.kernel)

    def recur(self, states, weights):
        return ops.matmul(states[0], weights[0])

    def advance(self, projected, recurrent, states, weights, noise=None):
        hidden = 2 * ops.tanh(projected + recurrent)
        return hidden, [hidden]


class ThinnedCell(DoubledCell):
    """Another cell: a rule is for one class, not for what inherits from it."""


@pytest.fixture
def ruled(monkeypatch):
    """Registers a rule for the cell in TFLite, which is forgotten after the test; gives what registers it again."""
    monkeypatch.setitem(rules._RULES, "tflite", dict(rules._RULES["tflite"]))

    def register():
        @export.rule(
            DoubledCell,
            format="tflite",
            unless=lambda use, target, scheme: "android's loop was quicker" if target == "android" else None,
            schemes=("float32", "dynamic_int8"),
        )
        def doubled(use, target):
            """TFLite's RNN, doubled

            The second line is for readers of the code.
            """
            if target == "mcu":
                raise Unsuitable("TFLite Micro has no RNN")
            kernel, recurrent = (ops.convert_to_numpy(w).T for w in (use.cell.kernel, use.cell.recurrent_kernel))
            op = one_op(use.layer, lambda: [kernel, 2 * recurrent, np.zeros(UNITS, "float32")], RNN)

            def run(sequences, initial_state, mask):
                last, outputs, states = op(sequences, initial_state and [initial_state[0] / 2], mask)
                return 2 * last, 2 * outputs, [2 * states[0]]

            return run

    register()
    return register


def model_of(cell, **options):
    inputs = keras.Input((STEPS, FEATURES), name="x")
    layer = layers.Recurrent(cell, return_sequences=True, return_state=True, name="memory", **options)
    start = keras.layers.Dense(UNITS, name="start")(inputs[:, 0])
    return randomise(keras.Model(inputs, dict(zip(("all", "last"), layer(inputs, initial_state=[start]), strict=True))))


@pytest.mark.parametrize("backwards", [False, True])
def test_the_file_has_the_op_and_gives_what_the_model_gives(tmp_path, ruled, backwards):
    model, x = model_of(DoubledCell(UNITS), go_backwards=backwards), sequences(4, STEPS, FEATURES)
    plan = export.plan(model, format="tflite")
    assert [(c.layer, c.form, c.reason) for c in plan.choices] == [("memory", "native", "TFLite's RNN, doubled")]
    path = export.to_tflite(model, tmp_path / "m.tflite")
    assert op_histogram(path)["UNIDIRECTIONAL_SEQUENCE_RNN"] == 1 and "WHILE" not in op_histogram(path)
    assert_same(path, {"x": x[:1]}, model_answers(model, {"x": x[:1]}))
    assert export.verify(model, path, x).passed


def test_without_the_rule_it_is_a_loop_that_gives_the_same(tmp_path):
    model, x = model_of(DoubledCell(UNITS)), sequences(4, STEPS, FEATURES)
    path = export.to_tflite(model, tmp_path / "m.tflite")
    assert op_histogram(path)["WHILE"] == 1
    assert export.verify(model, path, x).passed


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"target": "mcu"}, "TFLite Micro has no RNN"),
        ({"target": "android"}, "android's loop was quicker"),
        ({"scheme": "float16"}, "the op has no kernel for float16"),
    ],
)
def test_the_plan_takes_the_loop_where_the_rule_does_not_suit_and_says_why(ruled, options, reason):
    (choice,) = export.plan(model_of(DoubledCell(UNITS)), format="tflite", **options).choices
    assert (choice.form, choice.reason) == ("loop", reason)


def test_an_override_takes_the_op_where_it_can_and_is_refused_where_it_cannot(tmp_path, ruled):
    model = model_of(DoubledCell(UNITS))
    plan = export.plan(model, format="tflite", target="android").override({"memory": "native"})
    path = export.to_tflite(model, tmp_path / "m.tflite", target="android", plan=plan)
    assert "UNIDIRECTIONAL_SEQUENCE_RNN" in op_histogram(path)
    plan = export.plan(model, format="tflite", target="mcu").override({"memory": "native"})
    with pytest.raises(ExportError, match="memory cannot be native: TFLite Micro has no RNN"):
        export.to_tflite(model, tmp_path / "micro.tflite", target="mcu", plan=plan)


def test_a_rule_is_for_one_class_one_format_and_is_registered_once(ruled):
    (choice,) = export.plan(model_of(ThinnedCell(UNITS)), format="tflite").choices
    assert choice.form == "loop"
    (choice,) = export.plan(model_of(DoubledCell(UNITS)), format="onnx").choices
    assert choice.form == "loop"
    with pytest.raises(SettingError, match="DoubledCell has a rule for tflite already"):
        ruled()
