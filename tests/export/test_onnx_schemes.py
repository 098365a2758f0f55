"""The schemes of ONNX files: what becomes small, what computes in integers, and how far the answers move."""

import json

import keras
import numpy as np
import onnx
import onnx.reference
import pytest
from keras import layers as keras_layers
from litert_runs import model_answers, randomise, sequences
from onnx_runs import answers, session

from zoo import export, layers
from zoo.errors import DataError, SettingError
from zoo.export.onnx import op_histogram

STEPS, FEATURES = 12, 12
EXAMPLES = sequences(40, STEPS, FEATURES, spread=1.0)

# Layers beside what their loop computes in integers: everything that has a product in its step.
LAYERS = {
    "lstm": lambda: keras_layers.LSTM(24, return_sequences=True),
    "peephole_lstm": lambda: layers.PeepholeLSTM(24, return_sequences=True),
    "coupled": lambda: layers.PeepholeLSTM(24, coupled=True, return_sequences=True),
    "projected": lambda: layers.PeepholeLSTM(32, projection=20, return_sequences=True),
    "both_ways": lambda: keras_layers.Bidirectional(keras_layers.LSTM(24, return_sequences=True)),
    "gru": lambda: keras_layers.GRU(24, return_sequences=True),
    "gru_reset_before": lambda: keras_layers.GRU(24, reset_after=False, return_sequences=True),
    "gru_both_ways": lambda: keras_layers.Bidirectional(keras_layers.GRU(24, return_sequences=True)),
    "simple_rnn": lambda: keras_layers.SimpleRNN(24, return_sequences=True),
    "layer_norm_lstm": lambda: layers.LayerNormLSTM(24, return_sequences=True),
    "indrnn": lambda: layers.IndRNN(32, activation="tanh", return_sequences=True),
    "zoneout_gru": lambda: layers.ZoneoutGRU(24, rate=0.2, return_sequences=True),
}


def model_with(*inner, spread=0.3):
    return randomise(keras.Sequential([keras.Input((STEPS, FEATURES), name="x"), *inner]), spread)


def distance(path, model, inputs=EXAMPLES):
    """Return the rms error, as a part of the spread of the model's outputs."""
    (expected,), (found,) = model_answers(model, {"x": inputs}).values(), answers(path, {"x": inputs}).values()
    return np.sqrt(np.mean((found - expected) ** 2)) / expected.std()


def write(model, path, scheme, **options):
    if scheme == "full_int8":
        options = {"representative_data": EXAMPLES, **options}
    return export.to_onnx(model, path, scheme=scheme, **options)


def float_weights(path):
    """Return how many numbers of float32 matrices are in the file."""
    tensors = [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]
    return sum(t.size for t in tensors if t.dtype == np.float32 and t.ndim > 1 and min(t.shape[-2:]) > 4)


@pytest.mark.parametrize("name", LAYERS)
def test_float16_moves_answers_by_what_eleven_bits_lose(name, tmp_path):
    model = model_with(LAYERS[name]())
    path = write(model, tmp_path / "m.onnx", "float16")
    # a weight moves by 1/4096 of itself in the mean; ten times that is room for it to add up over steps
    assert 1e-6 < distance(path, model) < 0.0025
    assert float_weights(path) == 0
    assert not {"DequantizeLinear", "MatMulInteger"} & set(op_histogram(path))


@pytest.mark.parametrize("name", LAYERS)
def test_weight_int8_moves_answers_by_the_rounding_of_the_weights_alone(name, tmp_path):
    model = model_with(LAYERS[name]())
    path = write(model, tmp_path / "m.onnx", "weight_int8")
    # A weight moves by 0.29 of a step, 1/127 of the largest of about thirty, which is twice their spread: half a
    # percent; four times that is room for it to add up over steps and gates.
    assert 1e-4 < distance(path, model) < 0.02
    assert float_weights(path) == 0
    assert not {"DynamicQuantizeLinear", "MatMulInteger", "com.microsoft.DynamicQuantizeLSTM"} & set(op_histogram(path))


@pytest.mark.parametrize("scheme", ["float16", "weight_int8"])
@pytest.mark.parametrize("name", ["gru", "simple_rnn", "zoneout_gru", "indrnn"])
def test_onnx_own_reference_reads_the_small_weights_too(scheme, name, tmp_path):
    model = model_with(LAYERS[name]())
    path = write(model, tmp_path / "m.onnx", scheme)
    (found,) = onnx.reference.ReferenceEvaluator(str(path)).run(None, {"x": EXAMPLES[:3]})
    (expected,) = answers(path, {"x": EXAMPLES[:3]}).values()
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)  # the same weights: the tolerance for float32


@pytest.mark.parametrize("scheme", ["dynamic_int8", "full_int8"])
@pytest.mark.parametrize("name", LAYERS)
def test_integer_products_stay_close(scheme, name, tmp_path):
    model = model_with(LAYERS[name]())
    path = write(model, tmp_path / "m.onnx", scheme)
    # As above for the weights, and activations of 1/255 of a range that is five times their spread add as much at each
    # product, and again through the state of the step before.
    assert 1e-4 < distance(path, model) < 0.04
    assert float_weights(path) == 0


@pytest.mark.parametrize(
    "name", ["gru", "gru_reset_before", "simple_rnn", "layer_norm_lstm", "zoneout_gru", "projected"]
)
def test_full_int8_has_every_product_of_a_loop_in_integers(name, tmp_path):
    path = write(model_with(LAYERS[name]()), tmp_path / "m.onnx", "full_int8")
    ops = op_histogram(path)
    assert ops["Scan"] == 1
    assert "MatMul" not in ops and not {"GRU", "RNN", "LSTM"} & set(ops)
    assert ops["MatMulInteger"] == (3 if name in ("gru_reset_before", "projected") else 2)


def test_onnx_runtime_joins_the_product_of_a_step_to_one_op(tmp_path):
    """Nodes in this order and of these shapes: else a step costs five ops in place of one."""
    import onnxruntime

    path = write(model_with(LAYERS["gru"]()), tmp_path / "m.onnx", "full_int8")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimised.onnx"), 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    assert op_histogram(tmp_path / "optimised.onnx")["com.microsoft.DynamicQuantizeMatMul"] == 1


def test_an_lstm_in_integers_is_the_op_that_onnx_runtime_has_for_it(tmp_path):
    model = model_with(LAYERS["both_ways"](), LAYERS["peephole_lstm"]())
    for scheme in ("dynamic_int8", "full_int8"):
        ops = op_histogram(write(model, tmp_path / f"{scheme}.onnx", scheme))
        assert ops["com.microsoft.DynamicQuantizeLSTM"] == 2 and "LSTM" not in ops


def test_verify_finds_the_native_op_in_an_int8_file(tmp_path):
    model = model_with(LAYERS["lstm"]())
    path = write(model, tmp_path / "m.onnx", "dynamic_int8")
    assert export.verify(model, path, EXAMPLES[:4], atol=0.1).passed  # a tenth of what a unit can be


def test_a_gru_that_is_no_wider_than_pays_keeps_its_op_with_int8_weights(tmp_path):
    ops = {}
    for units in (24, 600):
        model = keras.Sequential([keras.Input((STEPS, FEATURES)), keras_layers.GRU(units)])
        (choice,) = export.plan(model, format="onnx", scheme="dynamic_int8").choices
        ops[units] = choice.form
        assert export.plan(model, format="onnx").choices[0].form == "native"
    assert ops == {24: "native", 600: "loop"}


def convolutional():
    return model_with(
        keras_layers.Conv1D(16, 3, activation="relu"),
        keras_layers.Conv1D(16, 3),
        keras_layers.BatchNormalization(),
        keras_layers.Bidirectional(keras_layers.LSTM(24)),
        keras_layers.Dense(20, activation="relu"),
        keras_layers.Dense(20),
    )


@pytest.mark.parametrize("scheme", ["float16", "weight_int8", "dynamic_int8", "full_int8"])
def test_convolutions_and_dense_layers_stay_close(scheme, tmp_path):
    model = convolutional()
    path = write(model, tmp_path / "m.onnx", scheme)
    assert distance(path, model) < {"float16": 0.0025, "weight_int8": 0.02}.get(scheme, 0.04)  # as above
    assert float_weights(path) == 0


def test_full_int8_runs_convolutions_in_integers(tmp_path):
    import onnxruntime

    path = write(convolutional(), tmp_path / "m.onnx", "full_int8")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimised.onnx"), 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    ops = op_histogram(tmp_path / "optimised.onnx")
    assert sum(count for op, count in ops.items() if op.endswith("QLinearConv")) == 2
    assert not {"Conv", "FusedConv", "com.microsoft.FusedConv", "Gemm", "MatMul"} & set(ops)


def test_unrolled_steps_take_ranges_seen_before(tmp_path):
    model = model_with(LAYERS["gru"]())
    plan = export.plan(model, format="onnx", scheme="full_int8")
    plan = plan.override({choice.layer: "unrolled" for choice in plan.choices})
    path = write(model, tmp_path / "m.onnx", "full_int8", plan=plan)
    ops = op_histogram(path)
    assert distance(path, model) < 0.04  # as above
    assert ops["MatMulInteger"] == ops["QuantizeLinear"] == STEPS + 1
    assert not {"DynamicQuantizeLinear", "Scan", "Loop", "MatMul"} & set(ops)


def test_the_ends_can_be_int8_and_the_file_tells_their_scales(tmp_path):
    model = convolutional()
    path = write(model, tmp_path / "m.onnx", "full_int8", io_dtype="int8")
    running = session(path)
    assert {one.type for one in (*running.get_inputs(), *running.get_outputs())} == {"tensor(int8)"}
    told = json.loads(running.get_modelmeta().custom_metadata_map["int8"])
    (name,) = (output.name for output in running.get_outputs())
    scale, zero, out_scale, out_zero = (told[end][key] for end in ("x", name) for key in ("scale", "zero_point"))
    x = np.clip(np.round(EXAMPLES / scale) + zero, -128, 127).astype(np.int8)
    found = (answers(path, {"x": x})[name].astype(np.float32) - out_zero) * out_scale
    (expected,) = model_answers(model, {"x": EXAMPLES}).values()
    assert np.sqrt(np.mean((found - expected) ** 2)) < 0.06 * expected.std()  # as above, and twice at the ends


def test_examples_that_show_no_range_are_refused(tmp_path):
    model = model_with(LAYERS["gru"]())
    bad = EXAMPLES.copy()
    bad[3, 2, 1] = np.nan
    for examples, words in ((EXAMPLES[:0], "is empty"), (bad, "is nan at"), (EXAMPLES[..., :4], "expected")):
        with pytest.raises(DataError, match=words):
            write(model, tmp_path / "m.onnx", "full_int8", representative_data=examples)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scheme", ["float16", "weight_int8", "dynamic_int8", "full_int8"])
@pytest.mark.parametrize("form", ["native", "loop"])
def test_a_layer_named_in_keep_float_keeps_its_weights(scheme, form, tmp_path):
    model = model_with(keras_layers.GRU(24, name="kept", return_sequences=True), keras_layers.Dense(30, name="dense"))
    plan = export.plan(model, format="onnx")
    plan = plan.override({choice.layer: form for choice in plan.choices})
    path = write(model, tmp_path / "m.onnx", scheme, keep_float=["kept"], plan=plan)
    assert float_weights(path) == 3 * 24 * (24 + FEATURES)
    with pytest.raises(SettingError, match="'nobody', which is no layer"):
        write(model, tmp_path / "n.onnx", scheme, keep_float=["nobody"])


@pytest.mark.parametrize("scheme", ["weight_int8", "dynamic_int8", "full_int8"])
def test_streaming_files_have_schemes_too(scheme, tmp_path):
    model = model_with(keras_layers.GRU(24, return_sequences=True), keras_layers.LSTM(24), keras_layers.Dense(20))
    path = write(model, tmp_path / "m.onnx", scheme, state="external", time_steps=3)
    running = session(path)
    types = {"tensor(float)": "float32", "tensor(int32)": "int32"}
    states = {i.name: np.zeros([1, *i.shape[1:]], types[i.type]) for i in running.get_inputs()[1:]}
    names = [output.name for output in running.get_outputs()]
    for start in range(0, STEPS, 3):
        said = dict(zip(names, running.run(names, {"x": EXAMPLES[:1, start : start + 3], **states}), strict=True))
        states = {name: said[f"{name}_next"] for name in states}
    (expected,) = model_answers(model, {"x": EXAMPLES}).values()
    assert np.abs(said[names[0]][0] - expected[0]).max() < 0.1 * expected.std()  # three times what is allowed in rms


def test_an_embedding_is_looked_up_in_int8(tmp_path):
    words = keras.Input((STEPS,), dtype="int32", name="words")
    model = randomise(keras.Model(words, keras_layers.GRU(24)(keras_layers.Embedding(50, 16)(words))), 0.3)
    inputs = {"words": np.random.default_rng(0).integers(0, 50, (8, STEPS)).astype("int32")}
    (expected,) = model_answers(model, inputs).values()
    for scheme in ("weight_int8", "dynamic_int8", "full_int8"):
        examples = inputs["words"] if scheme == "full_int8" else None
        path = export.to_onnx(model, tmp_path / f"{scheme}.onnx", scheme=scheme, representative_data=examples)
        assert float_weights(path) == 0
        (found,) = answers(path, inputs).values()
        assert np.sqrt(np.mean((found - expected) ** 2)) < 0.04 * expected.std()  # as above
