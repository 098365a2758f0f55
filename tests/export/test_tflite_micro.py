"""Files for a microcontroller, run by TFLite Micro's own interpreter."""

import keras
import numpy as np
import pytest
from litert_runs import model_answers, randomise, sequences

from zoo import export
from zoo.export.tflite import op_histogram
from zoo.layers import PeepholeLSTM

runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime", reason="needs the extra `micro`")


def stacked_lstm():
    x = keras.Input((9, 4), name="x")
    y = keras.layers.LSTM(6, return_sequences=True)(x)
    _, hidden, cell = keras.layers.LSTM(5, return_state=True)(y)
    return keras.Model(x, keras.layers.LSTM(5, go_backwards=True)(y, initial_state=[hidden, cell]))


def peephole_lstm(**variant):
    return keras.Sequential([keras.Input((9, 4), name="x"), PeepholeLSTM(5, return_sequences=True, **variant)])


def coupled_and_projected():
    return peephole_lstm(projection=3, coupled=True)


@pytest.mark.parametrize(
    ("make", "op"),
    [(stacked_lstm, "UNIDIRECTIONAL_SEQUENCE_LSTM"), (peephole_lstm, "WHILE"), (coupled_and_projected, "WHILE")],
    ids=["lstm", "peephole", "coupled and projected"],
)
def test_tflite_micro_gives_what_the_model_gives_at_every_invocation(make, op, tmp_path):
    model = randomise(make())
    path = export.to_tflite(model, tmp_path / "m.tflite", target="mcu")
    assert op in op_histogram(path)
    interpreter = runtime.Interpreter.from_file(str(path), arena_size=200_000)
    x = sequences(1, 9, 4)
    (expected,) = model_answers(model, {"x": x}).values()
    for _ in range(3):
        interpreter.set_input(x, 0)
        interpreter.invoke()
        # TFLite Micro's tanh and sigmoid are approximations of float32, good to a few of its last places.
        np.testing.assert_allclose(interpreter.get_output(0), expected, atol=1e-5)
