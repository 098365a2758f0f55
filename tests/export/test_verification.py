"""Verification passes right files and fails wrong ones, each for its own reason."""

import keras
import numpy as np
import pytest

from zoo import export
from zoo.errors import DataError, VerifyError
from zoo.export.session import Session

FORMATS = ("tflite", "onnx")


def small_model(units=4, name="x"):
    inputs = keras.Input((6, 3), name=name)
    return keras.Model(inputs, keras.layers.Dense(2, name="y")(keras.layers.LSTM(units, name="lstm")(inputs)))


def write(model, path):
    return (export.to_tflite if path.suffix == ".tflite" else export.to_onnx)(model, path)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """{format: (model, its file)}, and the inputs to compare on."""
    keras.utils.set_random_seed(0)
    folder, model = tmp_path_factory.mktemp("written"), small_model()
    return {format: (model, write(model, folder / f"m.{format}")) for format in FORMATS}


@pytest.fixture
def inputs():
    return 3 * np.random.normal(size=(5, 6, 3)).astype("float32")


@pytest.mark.parametrize("format", FORMATS)
def test_a_right_file_passes_every_check(written, inputs, format):
    report = export.verify(*written[format], inputs)
    assert report.passed
    assert len(report.checks) == 4  # ends, values, a second invocation, ops
    assert "ok" in str(report)


def test_a_file_is_held_against_the_plan_of_its_scheme(tmp_path, inputs):
    model = keras.Sequential([keras.Input((6, 3)), keras.layers.GRU(8)])
    path = export.to_onnx(model, tmp_path / "m.onnx", scheme="full_int8", representative_data=inputs)
    assert export.verify(model, path, inputs, atol=0.1, scheme="full_int8").passed  # its loop is in that plan
    with pytest.raises(VerifyError, match="loops where the plan says native"):
        export.verify(model, path, inputs, atol=0.1)


@pytest.mark.parametrize("format", FORMATS)
def test_changed_weights_fail_and_the_worst_element_is_named(written, inputs, format):
    model, path = written[format]
    other = small_model()
    other.set_weights(model.get_weights())
    dense = other.get_layer("y")
    bias = dense.bias.numpy()
    bias[1] += 0.25
    dense.bias.assign(bias)
    with pytest.raises(VerifyError, match=r"difference 2\.5e-01 .*y\[\d, 1\] is .* the model's") as caught:
        export.verify(other, path, inputs)
    assert [check.passed for check in caught.value.report.checks] == [True, False, True, True]


def test_other_names_or_shapes_of_inputs_fail(written, inputs):
    with pytest.raises(VerifyError, match=r"inputs are \['x'\]; the model's are \['z'\]"):
        export.verify(small_model(name="z"), written["onnx"][1], inputs)
    longer = keras.Input((9, 3), name="x")
    longer = keras.Model(longer, keras.layers.LSTM(2)(longer))
    with pytest.raises(VerifyError, match="input 'x' is"):
        export.verify(longer, written["tflite"][1], inputs)


@pytest.mark.parametrize("format", FORMATS)
def test_a_loop_where_the_plan_says_native_fails(tmp_path, inputs, format):
    model = small_model()
    plan = export.plan(model, format=format)
    path = tmp_path / f"m.{format}"
    (export.to_tflite if format == "tflite" else export.to_onnx)(model, path, plan=plan.override({"lstm": "loop"}))
    with pytest.raises(VerifyError, match="plan says native"):
        export.verify(model, path, inputs, plan=plan)


def test_a_file_that_keeps_its_state_fails(tmp_path, inputs, monkeypatch):
    """The trap of the fused op, provoked: a session that answers otherwise each time."""
    model = small_model()
    path = write(model, tmp_path / "m.tflite")
    original = Session.__call__
    calls = []

    def drifting(self, arrays):
        calls.append(1)
        return {name: value + 0.1 * (len(calls) > 5) for name, value in original(self, arrays).items()}

    monkeypatch.setattr(Session, "__call__", drifting)
    with pytest.raises(VerifyError, match="state is not reset"):
        export.verify(model, path, inputs)


def test_a_stateful_model_is_compared_from_its_start(tmp_path):
    inputs = keras.Input(batch_shape=(1, 6, 3))
    model = keras.Model(inputs, keras.layers.LSTM(4, stateful=True)(inputs))
    examples = np.random.normal(size=(1, 6, 3)).astype("float32")
    model.predict(examples, verbose=0)  # leaves a state behind
    path = write(model, tmp_path / "m.onnx")
    assert export.verify(model, path, examples).passed
    assert export.verify(model, path, examples).passed


def test_what_keras_computes_otherwise_for_a_single_example_is_found(tmp_path):
    """Keras' `add` takes (1, 1, n, 1) for a bias of n channels; of a larger batch it does not."""
    x, y = keras.Input((3, 4, 4), name="x"), keras.Input((1, 4, 1), name="y")
    given = {"x": np.zeros((1, 3, 4, 4), "float32"), "y": np.arange(4, dtype="float32").reshape(1, 1, 4, 1)}
    model = keras.Model([x, y], x + y)
    path = export.to_tflite(model, tmp_path / "wrong.tflite")
    with pytest.raises(VerifyError, match=r"wrong\.tflite"):
        export.verify(model, path, given)
    model = keras.Model([x, y], y + x)
    path = export.to_tflite(model, tmp_path / "right.tflite")
    assert export.verify(model, path, given).passed


def test_nan_is_no_match(written, inputs, monkeypatch):
    model, path = written["onnx"]
    original = Session.__call__
    monkeypatch.setattr(
        Session, "__call__", lambda self, arrays: {n: v * np.nan for n, v in original(self, arrays).items()}
    )
    with pytest.raises(VerifyError, match="difference inf"):
        export.verify(model, path, inputs)


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty", "missing"])
def test_damaged_files_give_one_sentence(written, inputs, tmp_path, suffix, damage):
    model, good = written[suffix[1:]]
    path = tmp_path / f"bad{suffix}"
    data = {"truncated": good.read_bytes()[: good.stat().st_size // 2], "foreign": b"GIF89a" * 50, "empty": b""}
    if damage in data:
        path.write_bytes(data[damage])
    with pytest.raises(DataError, match=r"bad|there is no file") as caught:
        export.verify(model, path, inputs)
    assert "\n" not in str(caught.value)


def test_inputs_are_needed(written):
    with pytest.raises(DataError, match="give a few examples"):
        export.verify(*written["onnx"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((5, 6, 2)), r"'x' is given \(5, 6, 2\) of float64; expected examples of shape \(None, 6, 3\)"),
        (np.zeros((5, 4, 3)), r"'x' is given \(5, 4, 3\)"),
        (np.zeros((6, 3)), r"'x' is given \(6, 3\)"),
        (np.zeros((0, 6, 3)), r"'x' is given \(0, 6, 3\)"),
        (np.full((5, 6, 3), "a"), r"'x' is given \(5, 6, 3\) of <U1; .*numbers"),
        ({"z": np.zeros((5, 6, 3))}, "inputs is for z; the model takes x"),
        ([np.zeros((5, 6, 3))] * 2, "inputs is a list of 2; expected an array for each of x"),
    ],
    ids=["features", "steps", "no batch", "no rows", "text", "name", "number"],
)
def test_inputs_that_the_model_does_not_take_are_one_sentence(written, given, words):
    with pytest.raises(DataError, match=words):
        export.verify(*written["onnx"], given)
