"""The scheme full_int8: what becomes int8, what stays float, and how far the answers move."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.schema_py_generated import TensorType
from litert_runs import answers, model_answers, randomise, sequences

from zoo import export, layers
from zoo.errors import DataError, ExportError
from zoo.export.session import Session
from zoo.export.tflite import op_histogram
from zoo.export.tflite.flatbuffer import ABSENT, Editor
from zoo.export.tflite.integer_ops import SAME

K = keras.layers
STEPS, FEATURES = 12, 10

# Layers beside the form that they take.
LAYERS = {
    "lstm": (lambda: K.LSTM(24, return_sequences=True), "native"),
    "lstm_backwards": (lambda: K.LSTM(24, go_backwards=True), "native"),
    "peephole_lstm": (lambda: layers.PeepholeLSTM(24, return_sequences=True), "native"),
    "coupled": (lambda: layers.PeepholeLSTM(24, coupled=True, return_sequences=True), "native"),
    "projected": (lambda: layers.PeepholeLSTM(24, projection=12, return_sequences=True), "loop"),
    "projected_coupled": (lambda: layers.PeepholeLSTM(24, projection=12, coupled=True), "loop"),
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


def mean_error(path, model, examples):
    """Return the mean absolute error of a file, as a part of the spread of the model's outputs."""
    session, expected = Session(path), model.predict(examples, verbose=0)
    got = np.concatenate([next(iter(session({"x": one[None]}).values())) for one in examples])
    return np.abs(got - expected).mean() / expected.std()


def int8(model, path, form=None, examples=None, **options):
    """Write the model in full_int8, its recurrent layers all in one form."""
    examples = sequences(60, STEPS, FEATURES, spread=1.0) if examples is None else examples
    plan = export.plan(model, format="tflite", scheme="full_int8", target=options.get("target", "linux"))
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
    assert floats_in(path) <= {"ADD", "MUL", "SUB"}


def floats_in(path):
    """Return the ops that compute in float32, in all graphs."""
    editor, ops = Editor(path.read_bytes()), set()
    for graph in editor.model.subgraphs:
        for operator in graph.operators:
            ends = [i for i in [*operator.inputs, *operator.outputs] if i != ABSENT]
            if any(graph.tensors[i].type == TensorType.FLOAT32 for i in ends):
                ops.add(editor.name(operator))
    return ops - {*SAME, "DEQUANTIZE", "QUANTIZE", "WHILE", "ZEROS_LIKE"}


@pytest.mark.parametrize("form", ["loop", "unrolled"])
@pytest.mark.parametrize("kind", [K.GRU, layers.PeepholeLSTM, layers.MinGRU])
def test_for_a_microcontroller_nothing_computes_in_float(kind, form, tmp_path):
    model = randomise(keras.Sequential([keras.Input((STEPS, FEATURES), name="x"), kind(12)]), 0.3)
    path = int8(model, tmp_path / "m.tflite", form, target="mcu")
    assert not floats_in(path)
    histogram = op_histogram(path)
    assert histogram["DEQUANTIZE"] == 1
    assert histogram["QUANTIZE"] > 1  # from int8 to int16 and back, around the memory
    x = sequences(3, STEPS, FEATURES, spread=1.0)
    assert 1e-4 < distance(path, model, x) < 0.06  # as above


@pytest.mark.parametrize("target", ["linux", "mcu"])
@pytest.mark.parametrize("form", ["loop", "unrolled"])
def test_a_memory_of_many_steps_is_not_rounded_to_eight_bits_in_each(form, target, tmp_path):
    """A small input beside the large ones that set the ranges: what is added is far less than half a step of int8."""
    steps, largest, small = 60, 2.0, 6 * 4.0 / 255  # in int8 the small one is exact
    model = keras.Sequential([keras.Input((steps, 3), name="x"), layers.MinGRU(4)])
    kernel, bias = np.zeros((3, 8), "float32"), np.zeros(8, "float32")
    kernel[0, 4:] = 1
    bias[:4] = np.log(1 / 255)  # the update gate lets 1/256 in, which int8 has too
    model.set_weights([kernel, bias])
    x = np.ones((20, steps, 3), "float32") * np.linspace(-largest, largest, 20, dtype="float32")[:, None, None]
    path = int8(model, tmp_path / "m.tflite", form, examples=x, target=target)
    x = np.full((1, steps, 3), small, "float32")
    (expected,) = model_answers(model, {"x": x}).values()
    (got,) = Session(path)({"x": x}).values()
    # What comes in shares the scale of the gate, 7.5 / 255: the small input is off by up to half of that, a sixth. In a
    # loop a sum in int8 would never leave 0; unrolled steps have scales of their own.
    np.testing.assert_allclose(got, expected, rtol=0.17)


@pytest.mark.parametrize("target", ["linux", "mcu"])
@pytest.mark.parametrize("kind", [layers.MinLSTM, layers.SLSTM])
def test_sums_of_exponentials_are_not_rounded_to_eight_bits(kind, target, tmp_path):
    """Between an exponential and a logarithm the numbers span magnitudes: in equal steps the small are lost."""
    model = randomise(keras.Sequential([keras.Input((24, 4), name="x"), kind(6)]), 1.0)
    x = sequences(40, 24, 4, spread=1.0)
    path = int8(model, tmp_path / "m.tflite", examples=x, target=target)
    assert mean_error(path, model, x) < 0.03  # 0.01 to 0.02 here, 0.3 and more if the sums are int8


def test_the_decays_of_a_scan_are_multiplied_in_more_than_eight_bits(tmp_path):
    """All steps at once are products of products, with slices and stacks in between."""
    model = keras.Sequential([keras.Input((64, 6), name="x"), layers.MinGRU(12)])
    generator = np.random.default_rng(0)
    kernel, bias = (generator.normal(size=weight.shape) * 0.5 for weight in model.weights)
    bias[:12] -= 2.5  # it remembers for long
    model.set_weights([kernel, bias])
    x = generator.normal(size=(32, 64, 6)).astype("float32")
    path = int8(model, tmp_path / "m.tflite", examples=x)
    # Gates in steps of 1/256 move what is kept by a hundredth; each of six products in int8 would as much again.
    assert mean_error(path, model, x) < 0.012


def test_the_zero_points_of_weights_are_stored_once(tmp_path):
    """Each channel of a kernel has one of eight bytes, always 0, and so has each bias: more than a narrow kernel."""
    channels = 1000
    dense = [K.Dense(channels), K.Dense(4), K.Dense(channels)]
    model = randomise(keras.Sequential([keras.Input((4,), name="x"), *dense]), 0.3)
    path = int8(model, tmp_path / "m.tflite", examples=np.random.default_rng(0).normal(size=(9, 4)).astype("float32"))
    weights, biases, scales = 3 * 4 * channels, 2 * 4 * channels, 2 * 2 * 4 * channels
    zeros = 8 * channels
    assert 0 < path.stat().st_size - weights - biases - scales - zeros < zeros  # once, and a little for the graph


def test_a_projected_lstm_with_peepholes_is_no_op_in_integers(tmp_path):
    """LiteRT's integer kernel has peepholes for the first cells only, as many as the projection is wide."""
    model = keras.Sequential([keras.Input((STEPS, FEATURES), name="x"), layers.PeepholeLSTM(24, projection=12)])
    for scheme, form in (("float32", "native"), ("full_int8", "loop")):
        (choice,) = export.plan(model, format="tflite", target="android", scheme=scheme).choices
        assert choice.form == form
    assert "has peepholes for as many cells" in choice.reason
    with pytest.raises(ExportError, match="cannot be native: the op's integer kernel has peepholes for as many cells"):
        int8(model, tmp_path / "m.tflite", "native")


class FrontEnd(K.Layer):
    """Features that eight bits would spoil."""

    quantizable = False

    def call(self, x):
        return keras.ops.log(keras.ops.square(x) + 1e-4)


def test_a_front_end_and_layers_in_keep_float_stay_float32(tmp_path):
    x = keras.Input((STEPS, FEATURES), name="x")
    features = FrontEnd()(x)
    exempt = K.GRU(16, return_sequences=True, name="exempt")(features)
    inner = K.LSTM(16, return_sequences=True)(exempt)
    outputs = {"features": features, "exempt_out": exempt, "out": K.Dense(4, activation="softmax")(inner)}
    model = randomise(keras.Model(x, outputs), 0.2)
    path = int8(model, tmp_path / "m.tflite", "loop", keep_float=["exempt"])
    inputs = {"x": sequences(1, STEPS, FEATURES, spread=1.0)}
    expected = model_answers(model, inputs)
    for answer in answers(path, inputs):
        for name in ("features", "exempt_out"):
            np.testing.assert_allclose(answer[name], expected[name], atol=1e-5)  # as for float32
        # Probabilities in steps of 1/256, and what the LSTM before them lost.
        assert 1e-5 < np.abs(answer["out"] - expected["out"]).max() < 0.03


def test_ends_are_float32_unless_io_dtype_says_int8(tmp_path):
    model = randomise(keras.Sequential([keras.Input((STEPS, FEATURES), name="x"), K.LSTM(8), K.Dense(3)]), 0.3)
    x = sequences(1, STEPS, FEATURES, spread=1.0)
    (expected,) = model_answers(model, {"x": x}).values()
    for io_dtype in ("float32", "int8"):
        path = int8(model, tmp_path / f"{io_dtype}.tflite", io_dtype=io_dtype)
        interpreter = Interpreter(str(path))
        ends = [interpreter.get_input_details()[0], interpreter.get_output_details()[0]]
        assert [end["dtype"] for end in ends] == [np.dtype(io_dtype)] * 2
        assert [end["name"] for end in ends] == ["x", "output"]
        (got,) = Session(path)({"x": x}).values()  # takes and gives real numbers in any case
        assert np.abs(got - expected).max() < 0.05 * np.abs(expected).max()


def test_the_ranges_are_those_of_the_examples_and_what_is_beyond_is_cut_off(tmp_path):
    model = keras.Sequential([keras.Input((4,), name="x"), K.Dense(4, kernel_initializer="identity")])
    examples = np.linspace(-2, 3, 40, dtype="float32").reshape(10, 4)
    path = export.to_tflite(model, tmp_path / "m.tflite", scheme="full_int8", representative_data=examples)
    (got,) = Session(path)({"x": np.array([[-50, -2, 3, 50]], "float32")}).values()
    # Half a step of the input, of 5/255, and half of the output.
    np.testing.assert_allclose(got, [[-2, -2, 3, 3]], atol=1.01 * 5 / 255)


@pytest.mark.parametrize("kind", [K.GRU, K.LSTM])
@pytest.mark.parametrize("state", ["external", "internal"])
def test_a_file_that_streams_is_calibrated_on_whole_sequences(kind, state, tmp_path):
    x = keras.Input((STEPS, FEATURES), name="x")
    model = randomise(keras.Model(x, K.Dense(3)(kind(16)(x))), 0.3)
    path = export.to_tflite(
        *(model, tmp_path / "m.tflite"),
        scheme="full_int8",
        representative_data=sequences(40, STEPS, FEATURES, spread=1.0),
        state=state,
        time_steps=3,
    )
    session, inputs = Session(path), sequences(5, STEPS, FEATURES, spread=1.0)
    for each in inputs:
        session.reset()
        for start in range(0, STEPS, 3):
            (got,) = session({"x": each[None, start : start + 3]}).values()
        (expected,) = model_answers(model, {"x": each[None]}).values()
        # As of a whole sequence, see above; the largest of three numbers in place of their root mean square.
        assert np.abs(got - expected).max() < 0.1 * np.abs(expected).max() + 0.03


def test_a_model_whose_numbers_have_no_range_is_refused_by_the_name_of_the_layer(tmp_path):
    class Reciprocal(K.Layer):
        def call(self, x):
            return keras.ops.sum(1 / x, axis=-1) * 2

    model = keras.Sequential([keras.Input((6, 4), name="x"), Reciprocal(name="reciprocal"), K.Dense(3)])
    examples = sequences(5, 6, 4)
    examples[2, 1, 1] = 0
    with pytest.raises(DataError, match=r"reciprocal.* becomes .* to 3.4e\+38 .*keep_float"):
        export.to_tflite(model, tmp_path / "m.tflite", scheme="full_int8", representative_data=examples)
    assert not list(tmp_path.iterdir())
