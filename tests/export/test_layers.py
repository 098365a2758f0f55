"""Every recurrent layer of the table leaves as a TFLite and as an ONNX file that answers as the model does."""

import cases
import keras
import pytest
from litert_runs import assert_same, model_answers, randomise, sequences
from onnx_runs import assert_exports

from zoo import export

TIME, FEATURES = 6, 4

pytestmark = pytest.mark.on_tensorflow
each_layer = pytest.mark.parametrize("case", cases.LAYERS, ids=str)


def model_with(case):
    layer = case.make(return_sequences=True, name="layer")
    model = keras.Sequential([keras.Input((TIME, FEATURES), name="x"), layer, keras.layers.Dense(2, name="y")])
    return randomise(model, spread=0.4)  # weights of unbounded activations at 0.7 grow beyond the tolerance


@each_layer
def test_a_tflite_file_answers_as_the_model(case, tmp_path):
    model, inputs = model_with(case), {"x": sequences(1, TIME, FEATURES)}
    path = export.to_tflite(model, tmp_path / "m.tflite", target="linux")
    assert_same(path, inputs, model_answers(model, inputs))


@each_layer
def test_an_onnx_file_answers_as_the_model_for_any_batch(case, tmp_path):
    assert_exports(model_with(case), tmp_path, {"x": sequences(1, TIME, FEATURES)}, {"x": sequences(3, TIME, FEATURES)})
