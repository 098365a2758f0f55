"""What neither format can write is refused in one sentence, before any work, and leaves nothing behind."""

import keras
import numpy as np
import pytest
from test_bundling import Pitch

from zoo import export
from zoo.errors import DataError, ExportError, SettingError

K = keras.layers
WRITE = {"tflite": export.to_tflite, "onnx": export.to_onnx}
EACH_FORMAT = pytest.mark.parametrize("format", WRITE)


def assert_refused(error, words, model, folder, format, **options):
    with pytest.raises(error, match=words) as caught:
        WRITE[format](model, folder / f"m.{format}", **options)
    assert "\n" not in str(caught.value)
    assert not list(folder.iterdir())


def recurrent(*shape, **options):
    return keras.Sequential([keras.Input(shape, name="x"), K.GRU(3, **options)])


def strings():
    words = keras.Input((), dtype="string", name="words")
    return keras.Model(words, K.StringLookup(vocabulary=["a"])(words))


@EACH_FORMAT
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (strings, "input 'words' takes strings"),
        (lambda: keras.Sequential([K.GRU(3)]), "was never built"),
        (lambda: K.GRU(3), "is a GRU; expected a keras.Model"),
        (lambda: "m.keras", "is a str; expected a keras.Model"),
    ],
)
def test_a_model_that_no_file_can_hold(tmp_path, format, make, words):
    assert_refused(ExportError, words, make(), tmp_path, format)


def spoilt(value):
    """A model with one bad number in the middle of a weight."""
    model = keras.Sequential([keras.Input((5, 3), name="x"), K.LSTM(4, name="memory"), K.Dense(2)])
    kernel = model.get_layer("memory").cell.recurrent_kernel
    kernel.assign(np.where(np.arange(64).reshape(4, 16) == 33, value, kernel))
    return model


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused_by_layer_and_weight(tmp_path, value):
    words = "layer 'memory' holds NaN or infinity in its weight '.*memory/lstm_cell/recurrent_kernel'"
    model, pruning = spoilt(value), export.Pruning(0.5, end=1, frequency=1)
    model.compile("sgd", "mse")
    for call in (
        lambda: export.to_tflite(model, tmp_path / "m.tflite"),
        lambda: export.to_onnx(model, tmp_path / "m.onnx", state="external", time_steps=5),
        lambda: export.plan(model, format="onnx"),
        lambda: export.bundle(Pitch(), model, tmp_path / "bundle"),
        lambda: export.prune(model, sparsity=0.5),
        lambda: export.prune(model, sparsity=0.5, structure="units"),
        lambda: model.fit(NORMAL, np.zeros((4, 2)), verbose=0, callbacks=[pruning]),
    ):
        with pytest.raises(ExportError, match=words):
            call()
    assert not list(tmp_path.iterdir())


@EACH_FORMAT
@pytest.mark.parametrize("options", [{}, {"state": "external", "time_steps": 2}], ids=["whole", "stream"])
def test_a_stateful_layer_that_goes_on_within_the_model_is_refused(tmp_path, format, options):
    x, layer = keras.Input(batch_shape=(1, 4, 3), name="x"), K.GRU(3, stateful=True, return_sequences=True)
    model = keras.Model(x, layer(layer(x)))
    assert_refused(ExportError, "is stateful and used more than once", model, tmp_path, format, **options)


def test_another_batch_than_the_models_own_is_refused(tmp_path):
    fixed = keras.Sequential([keras.Input(batch_shape=(2, 4, 3)), K.GRU(3)])
    assert_refused(ExportError, "give batch_size=2", fixed, tmp_path, "tflite", batch_size=4)


def test_an_open_time_axis_is_refused_where_the_form_or_scheme_needs_it_fixed(tmp_path):
    examples = {"scheme": "full_int8", "representative_data": np.random.normal(size=(4, 5, 3))}
    assert_refused(ExportError, "known number of steps; give time_steps=", recurrent(None, 3), tmp_path, "tflite")
    assert_refused(
        ExportError, "full_int8 needs it fixed; give time_steps=", recurrent(None, 3), tmp_path, "tflite", **examples
    )
    for format in WRITE:
        plan = export.plan(model := recurrent(None, 3), format=format)
        plan = plan.override({plan.choices[0].layer: "unrolled"})
        assert_refused(ExportError, "known number of steps; give time_steps=", model, tmp_path, format, plan=plan)
        assert_refused(ValueError, "give time_steps=", model, tmp_path, format, state="external")


NORMAL = np.random.default_rng(0).normal(size=(4, 5, 3))


@EACH_FORMAT
@pytest.mark.parametrize(
    ("examples", "words"),
    [
        ([], "is empty"),
        (NORMAL[:0], "is empty"),
        (NORMAL[..., :2], r"has shape \(4, 5, 2\); expected \(examples, 5, 3\)"),
        (NORMAL[:, :4], r"has shape \(4, 4, 3\)"),
        (np.ones((4, 5, 3)), "is 1.0 everywhere"),
        (np.where(NORMAL > 1, np.nan, NORMAL), r"is nan at \[\d, \d, \d\]"),
        (np.where(NORMAL > 1, np.inf, NORMAL), "is inf at"),
        (NORMAL.astype(str), "expected numbers"),
        ({"y": NORMAL}, "is for the inputs y; the model has x"),
        (3, "is a int; expected an array"),
    ],
    ids=["no list", "no rows", "features", "steps", "constant", "NaN", "infinity", "text", "name", "number"],
)
def test_examples_that_show_no_ranges(tmp_path, format, examples, words):
    assert_refused(
        DataError, words, recurrent(5, 3), tmp_path, format, scheme="full_int8", representative_data=examples
    )


@EACH_FORMAT
def test_examples_of_which_the_model_makes_infinity_before_a_layer_that_bounds_it(tmp_path, format):
    model = keras.Sequential([keras.Input((5, 3), name="x"), K.Rescaling(1e38), K.LSTM(4), K.Dense(2)])
    words = r"becomes .* on representative_data; expected numbers of at most 1e\+19"
    assert_refused(DataError, words, model, tmp_path, format, scheme="full_int8", representative_data=100 * NORMAL)


@EACH_FORMAT
def test_an_example_of_which_the_model_makes_no_number_before_others_of_which_it_does(tmp_path, format):
    class Root(K.Layer):
        def call(self, x):
            return keras.ops.sqrt(x)

    model = keras.Sequential([keras.Input((5, 3), name="x"), Root(), K.Conv1D(4, 3)])
    examples = np.where(np.arange(60).reshape(4, 5, 3) == 0, -1, np.abs(NORMAL))
    words = "becomes nan to nan on representative_data"
    assert_refused(DataError, words, model, tmp_path, format, scheme="full_int8", representative_data=examples)


@pytest.mark.parametrize("scheme", ["float16", "dynamic_int8", "weight_int8"])
def test_schemes_whose_ops_a_microcontroller_lacks(tmp_path, scheme):
    assert_refused(
        SettingError, "TFLite Micro does not have", recurrent(5, 3), tmp_path, "tflite", scheme=scheme, target="mcu"
    )


@EACH_FORMAT
def test_another_number_of_steps_than_the_models_own_is_refused(tmp_path, format):
    assert_refused(SettingError, r"time_steps is 9.*have \[5\] steps", recurrent(5, 3), tmp_path, format, time_steps=9)


def test_a_layer_of_float64_is_refused_for_tflite(tmp_path):
    """LiteRT loads no recurrent file of it."""
    model = recurrent(5, 3, dtype="float64", name="precise")
    assert_refused(ExportError, "layer 'precise' computes in float64", model, tmp_path, "tflite")
