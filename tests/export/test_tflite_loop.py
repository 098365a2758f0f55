"""Loops that take several steps in a turn, which layers of some size get."""

import keras
import pytest
from litert_runs import assert_same, model_answers, randomise, sequences

from zoo import export, layers
from zoo.export.tflite import loop, op_histogram


@pytest.mark.parametrize("steps", [1, 3, 4, 8, 11])  # fewer than a turn, whole turns, turns and a rest
def test_any_number_of_steps_gives_what_the_model_gives(tmp_path, steps):
    x = keras.Input((steps, 5), name="x")
    outputs = {
        "all": keras.layers.GRU(32, return_sequences=True)(x),
        "last": keras.layers.GRU(32)(x),
        "backwards": layers.MinGRU(48, return_sequences=True, go_backwards=True)(x),
        "peephole": layers.Recurrent(layers.PeepholeLSTMCell(32), return_sequences=True)(x),
    }
    masked, final = keras.layers.GRU(32, return_sequences=True, return_state=True)(keras.layers.Masking()(x))
    model = randomise(keras.Model(x, {**outputs, "masked": masked, "final": final}), 0.2)
    inputs = sequences(2, steps, 5)
    inputs[0, steps // 2 :] = 0  # padding on the right
    inputs[1, :1] = 0  # and on the left
    plan = export.plan(model, format="tflite")
    plan = plan.override({choice.layer: "loop" for choice in plan.choices})
    path = export.to_tflite(model, tmp_path / "m.tflite", batch_size=2, plan=plan)
    assert_same(path, {"x": inputs}, model_answers(model, {"x": inputs}))
    if steps >= loop.STEPS_AT_ONCE:
        gru_steps = op_histogram(path)["TANH"]
        assert gru_steps >= 3 * loop.STEPS_AT_ONCE  # three GRUs, four steps in each turn


def test_a_microcontroller_gets_the_short_loop(tmp_path):
    model = keras.Sequential([keras.Input((8, 5)), keras.layers.GRU(32)])
    sizes = [export.to_tflite(model, tmp_path / f"{t}.tflite", target=t).stat().st_size for t in ("linux", "mcu")]
    assert sizes[1] < sizes[0]
    assert op_histogram(tmp_path / "mcu.tflite")["TANH"] == 1
