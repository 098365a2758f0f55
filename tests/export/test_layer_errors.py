"""The report of what each layer loses names the layer that was made to lose most."""

import keras
import numpy as np
import pytest
from litert_runs import sequences

from zoo import export
from zoo.errors import DataError, SettingError

K = keras.layers


@pytest.fixture(scope="module")
def model():
    """Three layers, the middle one with large weights, to which the others round, for an input that is always zero."""
    keras.utils.set_random_seed(0)
    x = keras.Input((10, 24), name="x")
    y = K.Dense(24, activation="relu", name="first")(x)
    y = K.Dense(24, activation="tanh", name="middle")(y)
    model = keras.Model(x, K.GRU(12, name="last")(y))
    kernel, bias = (weight.numpy() for weight in model.get_layer("first").weights)
    kernel[:, 0], bias[0] = 0, -1
    model.get_layer("first").set_weights([kernel, bias])
    kernel, bias = (weight.numpy() for weight in model.get_layer("middle").weights)
    kernel[0] = 20
    model.get_layer("middle").set_weights([kernel, bias])
    return model


@pytest.mark.parametrize(
    ("format", "scheme"),
    [("tflite", "full_int8"), ("tflite", "weight_int8"), ("onnx", "weight_int8")],
)
def test_the_layer_that_hurts_comes_first(model, format, scheme):
    report = export.quantization_error(model, sequences(20, 10, 24, spread=1.0), format=format, scheme=scheme)
    assert report.layers[0].layer == "middle"
    assert {row.layer for row in report.layers} == {"first", "middle", "last"}
    worst, *others = [row.error for row in report.layers]
    assert worst > 2 * max(others) > 0
    # Independent errors add up as squares do; half and double leave room for how they meet.
    assert 0.5 < report.whole / np.sqrt(worst**2 + sum(other**2 for other in others)) < 2
    assert str(report).splitlines()[2].startswith("middle")


def test_mistakes_are_one_sentence(model):
    with pytest.raises(SettingError, match="a quantising scheme"):
        export.quantization_error(model, sequences(2, 10, 24), scheme="float32")
    with pytest.raises(SettingError, match="no keep_float"):
        export.quantization_error(model, sequences(2, 10, 24), keep_float=["first"])
    with pytest.raises(DataError, match=r"is given \(0, 10, 24\)"):
        export.quantization_error(model, sequences(0, 10, 24))
    with pytest.raises(DataError, match="the same for all inputs"):
        export.quantization_error(
            keras.Sequential([keras.Input((4,)), K.Dense(3, kernel_initializer="zeros")]),
            sequences(3, 4),
            scheme="weight_int8",
        )
