"""Files for browsers, where LiteRT and ONNX Runtime are the same code: written, and run in both."""

import json

import keras
import numpy as np
import pytest
from litert_runs import randomise, sequences
from test_bundling import Pitch

from zoo import export, layers
from zoo.export.session import Session

K = keras.layers
STEPS, FEATURES = 10, 4
WRITE = {"tflite": export.to_tflite, "onnx": export.to_onnx}
# By scheme, of the largest output: float32 in another order of sums; eight bits in weights and in what they multiply.
TOLERANCES = {"float32": 1e-5, "full_int8": 0.1}


@pytest.fixture(scope="module")
def model():
    """What is one op in both formats, a loop in one, and a loop in both."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((STEPS, FEATURES), name="x")
    x = K.LSTM(64, return_sequences=True, name="lstm")(inputs)
    x = K.GRU(8, return_sequences=True, name="gru")(x)
    return randomise(keras.Model(inputs, K.Dense(3, name="y")(layers.MinGRU(8, name="min_gru")(x))), 0.3)


@pytest.mark.parametrize("scheme", TOLERANCES)
@pytest.mark.parametrize("format", WRITE)
def test_a_file_for_the_web_gives_what_the_model_gives(model, tmp_path, format, scheme):
    x = sequences(8, STEPS, FEATURES, spread=1.0)
    examples = {"representative_data": x} if scheme == "full_int8" else {}
    plan = export.plan(model, format=format, target="web", scheme=scheme)
    assert plan.target == "web"
    path = WRITE[format](model, tmp_path / f"m.{format}", target="web", scheme=scheme, plan=plan, **examples)
    atol = TOLERANCES[scheme] * float(np.abs(model.predict(x, verbose=0)).max())
    assert export.verify(model, path, x, atol=atol, scheme=scheme, plan=plan).passed


def test_the_plan_for_the_web_takes_no_choice_that_was_measured_on_linux(model):
    form = {target: export.plan(model, format="tflite", target=target).choices[0].form for target in ("linux", "web")}
    assert form == {"linux": "loop", "web": "native"}  # 64 units


@pytest.mark.parametrize("format", WRITE)
def test_a_file_for_the_web_reads_chunk_by_chunk(tmp_path, format):
    inputs = keras.Input((None, FEATURES), name="x")
    model = randomise(keras.Model(inputs, K.LSTM(5, return_sequences=True, name="y")(inputs)))
    options = {"target": "web", "state": "external", "time_steps": 5}
    session, x = Session(WRITE[format](model, tmp_path / f"m.{format}", **options)), sequences(1, STEPS, FEATURES)
    said = [session({"x": x[:, start : start + 5]})["y"] for start in range(0, STEPS, 5)]
    # float32 over ten steps
    np.testing.assert_allclose(np.concatenate(said, axis=1), model.predict(x, verbose=0), atol=1e-5)


def test_a_bundle_for_the_web_and_for_linux_has_a_tflite_file_for_each_and_one_onnx_file(tmp_path):
    inputs = keras.Input((200,), name="samples")
    x = K.LSTM(8)(K.Reshape((20, 10))(inputs))
    model = keras.Model(inputs, K.Dense(2, activation="softmax", name="dense")(x))
    folder = export.bundle(Pitch(), model, tmp_path / "pitch", schemes=["float32"], targets=["web", "linux"])
    entries = json.loads((folder / "card.json").read_text())["models"]
    assert {entry["name"]: entry["target"] for entry in entries} == {
        "pitch.float32.web.tflite": "web",
        "pitch.float32.linux.tflite": "linux",
        "pitch.float32.onnx": "web",
    }
    assert export.verify(folder).passed
