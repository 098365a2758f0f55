"""Attention leaves in both formats as its model: encoder and decoder in one file, the decoder alone, one step of it."""

import cases
import keras
import numpy as np
import onnx
import pytest
from litert_runs import assert_same, model_answers, randomise, sequences
from onnx_runs import answers, assert_exports

from zoo import export, layers
from zoo.export.onnx import op_histogram
from zoo.export.onnx.graphs import subgraphs
from zoo.export.session import Session
from zoo.export.verification import run_examples

pytestmark = pytest.mark.on_tensorflow
each_cell = pytest.mark.parametrize("case", cases.ATTENTION, ids=str)
TIME, STEPS, FEATURES = 5, 7, 4


def masks(rows):
    """Masks of memories: with holes, and of the last row nothing is left."""
    mask = np.random.default_rng(3).random((rows, STEPS)) < 0.6
    mask[-1] = rows == 1
    return mask


def decoder(case, steps=STEPS, **options):
    """The memory and its mask are inputs of the model."""
    x, memory = keras.Input((TIME, FEATURES), name="x"), keras.Input((steps, cases.MEMORY_FEATURES), name="memory")
    mask = keras.Input((steps,), dtype="bool", name="mask")
    layer = case.make(return_sequences=True, return_state=True, return_attention=True, **options)
    results = layer(x, memory=memory, memory_mask=mask)
    return randomise(keras.Model([x, memory, mask], {f"y{i}": y for i, y in enumerate(results)}), 0.4)


def inputs(rows, time=TIME):
    memory = sequences(rows, STEPS, cases.MEMORY_FEATURES, spread=1.0)
    return {"x": sequences(rows, time, FEATURES, spread=1.0), "memory": memory, "mask": masks(rows)}


@each_cell
@pytest.mark.parametrize("go_backwards", [False, True])
def test_a_decoder_in_onnx_is_a_scan_for_any_batch_and_memory(case, go_backwards, tmp_path):
    path = assert_exports(decoder(case, None, go_backwards=go_backwards), tmp_path, inputs(1), inputs(3))
    assert op_histogram(path)["Scan"] == 1
    carried = [value.name for part in subgraphs(onnx.load(path).graph)[1:] for value in part.input]
    assert len(carried) == len(case.make().cell.state_names) + 1  # states and input: no memory among them


@each_cell
def test_a_decoder_in_tflite_answers_as_the_model(case, tmp_path):
    model = decoder(case)
    path = export.to_tflite(model, tmp_path / "m.tflite", batch_size=2)
    assert_same(path, inputs(2), model_answers(model, inputs(2)))


@each_cell
def test_encoder_and_decoder_leave_in_one_file(case, tmp_path):
    seen, said = keras.Input((STEPS, FEATURES), name="seen"), keras.Input((TIME, FEATURES), name="said")
    encoded = keras.layers.GRU(cases.MEMORY_FEATURES, return_sequences=True)(keras.layers.Masking()(seen))
    outputs = case.make(return_sequences=True)(said, memory=encoded)
    model = randomise(keras.Model([seen, said], {"y": outputs}), 0.4)
    given = {"seen": sequences(2, STEPS, FEATURES), "said": sequences(2, TIME, FEATURES)}
    given["seen"][1, 4:] = 0  # the mask goes with the encoder's outputs to the decoder
    assert_exports(model, tmp_path, given)
    path = export.to_tflite(model, tmp_path / "m.tflite", batch_size=2)
    assert_same(path, given, model_answers(model, given))


CELLS = {
    "additive": lambda: layers.AdditiveAttention(layers.LSTMCell(24), 16, cases.MEMORY_FEATURES),
    "dot": lambda: layers.DotAttention(layers.GRUCell(24), 16, cases.MEMORY_FEATURES),
}


@pytest.mark.parametrize("format", ["tflite", "onnx"])
@pytest.mark.parametrize("name", CELLS)
def test_in_integers_a_decoder_stays_close(name, format, tmp_path):
    x, memory = keras.Input((TIME, FEATURES), name="x"), keras.Input((STEPS, cases.MEMORY_FEATURES), name="memory")
    y = layers.AttentiveRecurrent(CELLS[name](), return_sequences=True)(x, memory=memory)
    model = randomise(keras.Model([x, memory], {"y": y}), 0.3)
    examples, given = ({n: a for n, a in inputs(rows).items() if n != "mask"} for rows in (60, 8))
    make, path = (export.to_tflite if format == "tflite" else export.to_onnx), tmp_path / f"m.{format}"
    options = {"batch_size": 4} if format == "tflite" else {}
    make(model, path, scheme="full_int8", representative_data=examples, **options)
    (expected,), (found,) = model_answers(model, given).values(), run_examples(Session(path), given).values()
    # An activation is off by 0.29 steps of 1/255 of its range, five times its spread: half a percent, at each of about
    # ten ops in a step, of which the scores go through an exponential, and again through the state before.
    assert 1e-4 < np.sqrt(np.mean((found - expected) ** 2)) / expected.std() < 0.08


def numbered(kind, parts):
    return {f"{kind}_{i}": part for i, part in enumerate(parts)}


@each_cell
def test_a_step_file_run_step_by_step_is_the_decoder(case, tmp_path):
    """State outside, and the memory's keys computed before: what a device runs in a loop of its own."""
    model, rows = decoder(case), 2
    cell, given = model.layers[-1].cell, inputs(2)
    expected = model_answers(model, given)
    attended = [keras.ops.convert_to_numpy(part) for part in cell.attend(given["memory"], given["mask"])]
    states = [keras.ops.convert_to_numpy(state) for state in cell.get_initial_state(rows)]
    now = {"x": given["x"][:, 0], **numbered("state", states), **numbered("attended", attended)}
    ins = {name: keras.Input(batch_shape=value.shape, name=name) for name, value in now.items()}
    x, *others = ins.values()
    output, new_states, attention = cell(x, others[: len(states)], others[len(states) :])
    outs = {"output": output, "attention": attention, **numbered("new", new_states)}
    step = keras.Model(list(ins.values()), outs)
    lite = export.to_tflite(step, tmp_path / "step.tflite", batch_size=rows)
    path = export.to_onnx(step, tmp_path / "step.onnx")
    assert not {"Scan", "Loop"} & set(op_histogram(path))
    for t in range(TIME):
        now["x"] = given["x"][:, t]
        assert_same(lite, now, model_answers(step, now))
        after = answers(path, now)
        for name, whole in (("output", "y0"), ("attention", f"y{1 + len(states)}")):
            np.testing.assert_allclose(after[name], expected[whole][:, t], atol=1e-5)  # the project's, as in onnx_runs
        now |= numbered("state", [after[f"new_{i}"] for i in range(len(states))])
