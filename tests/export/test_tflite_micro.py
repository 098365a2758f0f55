"""Files for a microcontroller, run by TFLite Micro's own interpreter, and what a program there needs to know."""

import contextlib
import os
import re
import shutil
import subprocess
import sys

import cases
import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from litert_runs import model_answers, randomise, sequences

from zoo import export, layers
from zoo.errors import ExportError, SettingError, VerifyError
from zoo.export.tflite import op_histogram
from zoo.export.tflite.micro import OPS, registrations
from zoo.export.tflite.micro_runtime import run_micro

runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime", reason="needs the extra `micro`")
K = keras.layers


def stacked_lstm():
    x = keras.Input((9, 4), name="x")
    y = K.LSTM(6, return_sequences=True)(x)
    _, hidden, cell = K.LSTM(5, return_state=True)(y)
    return keras.Model(x, K.LSTM(5, go_backwards=True)(y, initial_state=[hidden, cell]))


def one(make):
    return lambda: keras.Sequential([keras.Input((9, 4), name="x"), make()])


def words():
    x = keras.Input((9, 4), name="x")
    y = K.Conv1D(6, 3, activation="relu", padding="same")(x)
    y = K.Bidirectional(K.GRU(5, return_sequences=True))(K.MaxPooling1D(2)(y))
    return keras.Model(x, K.Dense(3, activation="softmax")(K.LSTM(6)(y)))


MODELS = {
    "lstm": (stacked_lstm, "native", "UNIDIRECTIONAL_SEQUENCE_LSTM"),
    "peephole": (one(lambda: layers.PeepholeLSTM(5, return_sequences=True)), "loop", "WHILE"),
    "peephole_unrolled": (one(lambda: layers.PeepholeLSTM(5)), "unrolled", "LOGISTIC"),
    "gru": (one(lambda: K.GRU(5, return_sequences=True)), "loop", "WHILE"),
    "gru_unrolled": (one(lambda: K.GRU(5, return_sequences=True)), "unrolled", "LOGISTIC"),
    "simple_rnn": (one(lambda: K.SimpleRNN(5)), "loop", "WHILE"),
    "indrnn": (one(lambda: layers.IndRNN(5, return_sequences=True)), "loop", "WHILE"),
    "one_step": (lambda: keras.Sequential([keras.Input((1, 4), name="x"), layers.PeepholeLSTM(5)]), "step", "TANH"),
    "words": (words, None, "WHILE"),
}


(STATISTICS_OF_STEPS,) = [c for c in cases.LAYERS if c.layer is layers.BatchNormLSTM and "steps" in c.arguments]


def write(name, folder, **options):
    make, form, op = MODELS[name]
    model = randomise(make(), 0.5)
    scheme = options.get("scheme", "float32")
    plan = export.plan(model, format="tflite", target="mcu", scheme=scheme)
    if form:
        plan = plan.override({choice.layer: form for choice in plan.choices})
    path = export.to_tflite(model, folder / f"{name}.tflite", target="mcu", plan=plan, **options)
    assert op in op_histogram(path)
    return model, path


@pytest.mark.parametrize("name", MODELS)
def test_float32_gives_what_the_model_gives_at_every_invocation(name, tmp_path):
    model, path = write(name, tmp_path)
    x = sequences(3, *model.input_shape[1:], spread=2.0)
    for each, answer in zip(x, run_micro(path, [{"x": each[None]} for each in x]), strict=True):
        (answer,), (expected,) = answer.values(), model_answers(model, {"x": each[None]}).values()
        # TFLite Micro's tanh and sigmoid are approximations of float32, good to a few of its last places.
        np.testing.assert_allclose(answer, expected, atol=1e-5)


@pytest.mark.parametrize("case", [case for case in cases.LAYERS if case != STATISTICS_OF_STEPS], ids=str)
def test_every_layer_of_the_table_gives_what_the_model_gives(case, tmp_path):
    layer = case.make(return_sequences=True, name="layer")
    model = randomise(keras.Sequential([keras.Input((5, 4), name="x"), layer]), 0.4)
    path = export.to_tflite(model, tmp_path / "m.tflite", target="mcu")
    x = sequences(1, 5, 4)
    (answer,), (expected,) = run_micro(path, [{"x": x}])[0].values(), model_answers(model, {"x": x}).values()
    # As above; a norm divides such an error by a deviation of a tenth.
    np.testing.assert_allclose(answer, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


def test_statistics_of_each_step_are_refused(tmp_path):
    """Its interpreter has no choice between whole numbers, by which they are looked up."""
    model = keras.Sequential([keras.Input((5, 4), name="x"), STATISTICS_OF_STEPS.make()])
    with pytest.raises(ExportError, match="TFLite Micro has no SELECT"):
        export.to_tflite(model, tmp_path / "m.tflite", target="mcu")


@pytest.mark.parametrize("name", MODELS)
def test_full_int8_gives_what_litert_gives_within_a_step(name, tmp_path):
    steps = MODELS[name][0]().input_shape[1]
    examples = sequences(40, steps, 4, spread=1.0)
    model, path = write(name, tmp_path, scheme="full_int8", representative_data=examples, io_dtype="int8")
    interpreter = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    interpreter.allocate_tensors()
    (given,), (said,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert given["dtype"] == said["dtype"] == np.int8
    (scale, zero), (out_scale, out_zero) = given["quantization"], said["quantization"]
    x = examples[:3]
    for each, answer in zip(x, run_micro(path, [{"x": each[None]} for each in x]), strict=True):
        interpreter.set_tensor(given["index"], np.clip(np.round(each[None] / scale + zero), -128, 127).astype(np.int8))
        interpreter.invoke()
        (answer,) = answer.values()
        litert = (interpreter.get_tensor(said["index"]).astype("float32") - out_zero) * out_scale
        # Their kernels round sums differently, by one step in an op; a recurrence may pass it on, which makes two.
        assert np.abs(answer - litert).max() <= 2.01 * out_scale
    (expected,) = model_answers(model, {"x": x[2:]}).values()
    # A few percent of the output's range, which is that of 255 steps of about six ops in each of nine time steps.
    assert np.abs(answer - expected).max() < 0.1 * np.abs(expected).max() + 4 * out_scale


def test_verification_runs_tflite_micro_too(tmp_path):
    model, path = write("gru", tmp_path)
    plan = export.plan(model, format="tflite", target="mcu")
    report = export.verify(model, path, sequences(6, 9, 4), plan=plan)
    assert "TFLite Micro, in" in report.checks[-1].sentence
    other = randomise(keras.models.clone_model(model), 0.4)
    with pytest.raises(VerifyError, match=r"TFLite Micro, in .* bytes: largest difference"):
        export.verify(other, path, sequences(6, 9, 4), plan=plan)


def test_verification_takes_real_numbers_where_the_file_has_integers(tmp_path):
    examples = sequences(40, 9, 4, spread=1.0)
    model, path = write("words", tmp_path, scheme="full_int8", representative_data=examples, io_dtype="int8")
    plan = export.plan(model, format="tflite", target="mcu", scheme="full_int8")
    assert export.verify(model, path, examples[:4], plan=plan, atol=0.05).passed  # of probabilities


def test_an_lstm_is_native_and_what_the_op_lacks_is_a_loop():
    forms = {}
    for name in ("lstm", "peephole", "gru", "simple_rnn"):
        plan = export.plan(MODELS[name][0](), format="tflite", target="mcu", scheme="full_int8")
        forms[name] = {choice.form for choice in plan.choices}
    assert forms == {"lstm": {"native"}, "peephole": {"loop"}, "gru": {"loop"}, "simple_rnn": {"loop"}}


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_the_arena_is_the_smallest_in_which_the_file_runs(name, tmp_path):
    _, path = write(name, tmp_path)
    size = export.arena_size(path)
    assert size % 16 == 0
    interpreter = runtime.Interpreter.from_file(str(path), arena_size=size)
    interpreter.set_input(sequences(1, 9, 4), 0)
    interpreter.invoke()
    short = f"runtime.Interpreter.from_file({str(path)!r}, arena_size={size - 32}).invoke()"
    script = f"from tflite_micro.python.tflite_micro import runtime; {short}"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode
    # The runtime's own account of what it holds once it is loaded; while it loads it takes more for a moment.
    with _said(tmp_path) as text:
        interpreter.print_allocations()
    (used,) = map(int, re.findall(r"Arena allocation total (\d+) bytes", text()))
    assert used <= size <= 2 * used


@contextlib.contextmanager
def _said(folder):
    """Within this context what the runtime prints goes to a file; gives a function that reads it."""
    before = os.dup(2)
    with open(folder / "said.txt", "w+") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield (folder / "said.txt").read_text
        finally:
            os.dup2(before, 2)
            os.close(before)


@pytest.mark.parametrize(("function", "op"), [(keras.ops.gelu, "GELU"), (keras.ops.sign, "SIGN")])
def test_an_op_without_a_kernel_is_refused_by_name_and_place(function, op, tmp_path):
    class Troublesome(K.Layer):
        def call(self, x):
            return function(x)

    model = keras.Sequential([keras.Input((9, 4), name="x"), Troublesome(name="troublesome"), K.LSTM(3)])
    with pytest.raises(ExportError, match=rf"TFLite Micro has no {op}, which computes .*troublesome"):
        export.to_tflite(model, tmp_path / "m.tflite", target="mcu")
    assert not list(tmp_path.iterdir())


def test_the_c_array_compiles_and_holds_the_file(tmp_path):
    _, path = write("lstm", tmp_path)
    source, header = export.to_c_array(path, tmp_path / "firmware")
    numbers = re.search(r"\{(.*)\}", source.read_text(), re.DOTALL)[1]
    assert bytes(int(number, 16) for number in re.findall("0x(..)", numbers)) == path.read_bytes()
    calls = re.findall(r"resolver\.(Add\w+)\(\)", header.read_text())
    assert calls == registrations(path)
    assert "AddUnidirectionalSequenceLSTM" in calls
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler, so that only the text was checked")
    methods = "".join(f"int {call}() {{ ++added; return 0; }} " for call in calls)
    (tmp_path / "main.cc").write_text(
        '#include <cstdint>\n#include <cstdio>\n#include "model_data.h"\n#include "model_data.h"\n'
        f"struct Resolver {{ unsigned added = 0; {methods} }};\n"
        "int main() {\n  Resolver resolver;\n"
        "  if (!AddModelOps(resolver) || resolver.added != kModelOpCount) return 1;\n"
        "  if (reinterpret_cast<std::uintptr_t>(g_model_data) % 16) return 2;\n"
        "  return std::fwrite(g_model_data, 1, g_model_data_size, stdout) != g_model_data_size;\n}\n"
    )
    program = tmp_path / "program"
    command = [compiler, "-std=c++14", "-Wall", "-Wextra", "-Werror", f"-I{source.parent}"]
    subprocess.run([*command, tmp_path / "main.cc", source, "-o", program], check=True)
    assert subprocess.run([program], check=True, capture_output=True).stdout == path.read_bytes()


def test_a_c_array_is_not_written_over_or_from_what_a_microcontroller_cannot_run(tmp_path):
    _, path = write("one_step", tmp_path)
    export.to_c_array(path, tmp_path / "firmware")
    with pytest.raises(SettingError, match="exists already"):
        export.to_c_array(path, tmp_path / "firmware")
    with pytest.raises(SettingError, match="is a file"):
        export.to_c_array(path, path)
    other = keras.Sequential([keras.Input((9, 4)), K.SimpleRNN(5)])
    other = export.to_tflite(other, tmp_path / "other.tflite", target="android")
    with pytest.raises(ExportError, match="has no UNIDIRECTIONAL_SEQUENCE_RNN"):
        export.to_c_array(other, tmp_path / "more")
    assert not (tmp_path / "more").exists()


@pytest.mark.slow
def test_the_table_of_ops_is_that_of_the_interpreter(tmp_path):
    from ai_edge_litert import schema_py_generated as schema

    known = {name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    script = (tmp_path / "probe.py").resolve()
    script.write_text(_PROBE)
    found = set()
    for name in sorted(known):
        done = subprocess.run([sys.executable, script, name], capture_output=True, text=True, check=False)
        if f"Didn't find op for builtin opcode '{name}'" not in done.stdout + done.stderr:
            found.add(name)
    assert found - {"CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"} == OPS


# Loads a model that is one op without its inputs: what has a kernel fails later, or ends the process.
_PROBE = """
import sys
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from tflite_micro.python.tflite_micro import runtime

number = getattr(schema.BuiltinOperator, sys.argv[1])
model, graph, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT()
tensor, operator = schema.TensorT(), schema.OperatorT()
model.version, model.buffers, model.operatorCodes, model.subgraphs = 3, [schema.BufferT()], [code], [graph]
model.metadata, model.signatureDefs = [], []
code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
tensor.shape, tensor.name, tensor.type, tensor.buffer = [1], b"x", 0, 0
graph.tensors, graph.operators, graph.inputs, graph.outputs = [tensor], [operator], [0], [0]
operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0], [0]
runtime.Interpreter.from_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)), arena_size=20000)
"""
