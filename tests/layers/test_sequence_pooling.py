"""Sequences to one vector, against NumPy, with masks of every kind."""

import keras
import numpy as np
import pytest
from gradients import finite_differences, gradients

from zoo.errors import SettingError
from zoo.layers import AttentionPooling, MaxPooling

BATCH, TIME, FEATURES = 4, 7, 3
X = np.random.default_rng(0).normal(size=(BATCH, TIME, FEATURES)).astype("float32")
MASK = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0], [0, 1, 0, 0, 1, 0, 1], [1, 0, 0, 0, 0, 0, 0]], bool)


def attention(scale=1.0):
    layer = AttentionPooling(5)
    layer.build(X.shape)
    layer.set_weights([scale * np.random.normal(size=weight.shape) for weight in layer.get_weights()])
    return layer


def numpy_weights(layer, x):
    kernel, bias, query = layer.get_weights()
    scores = np.tanh(x @ kernel + bias) @ query[:, 0]
    return np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
@pytest.mark.parametrize("scale", [1.0, 30.0], ids=["soft", "hard"])
def test_attention_weighs_the_steps_that_the_mask_leaves(mask, scale):
    layer = attention(scale)
    outputs = keras.ops.convert_to_numpy(layer(X, mask=mask))
    for row in range(BATCH):
        kept = X[row] if mask is None else X[row, mask[row]]
        np.testing.assert_allclose(outputs[row], numpy_weights(layer, kept) @ kept, atol=1e-5)  # float32, seven terms


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
def test_the_maximum_is_that_of_the_steps_that_the_mask_leaves(mask):
    x = X - 5  # below the zeros that padding might bring
    outputs = keras.ops.convert_to_numpy(MaxPooling()(x, mask=mask))
    for row in range(BATCH):
        np.testing.assert_array_equal(outputs[row], (x[row] if mask is None else x[row, mask[row]]).max(0))


@pytest.mark.parametrize("make", [attention, MaxPooling])
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
def test_the_gradient_is_that_of_finite_differences(make, mask):
    layer, x = make(), X.astype("float64")
    cotangent = np.random.default_rng(1).normal(size=(BATCH, FEATURES)).astype("float32")

    def pooled():
        for row in range(BATCH):
            kept = x[row] if mask is None else x[row, mask[row]]
            yield kept.max(0) if make is MaxPooling else numpy_weights(layer, kept) @ kept

    (expected,) = finite_differences(lambda: (np.stack(list(pooled())) * cotangent).sum(), [x])
    found = gradients(layer, X, cotangent, mask=mask)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)  # float32, seven terms
    padding = gradients(layer, X, cotangent, mask=np.zeros((BATCH, TIME), bool))[0]
    assert np.isfinite(padding).all()


@pytest.mark.parametrize("make", [attention, MaxPooling])
def test_a_sequence_of_padding_only_gives_finite_numbers(make):
    outputs = keras.ops.convert_to_numpy(make()(X, mask=np.zeros((BATCH, TIME), bool)))
    assert np.isfinite(outputs).all() and outputs.shape == (BATCH, FEATURES)


@pytest.mark.parametrize("make", [lambda: AttentionPooling(5), MaxPooling])
def test_the_mask_of_an_embedding_arrives_and_ends_here(make, tmp_path):
    tokens = keras.Input((None,), dtype="int32")
    pooled = make()(keras.layers.Embedding(9, FEATURES, mask_zero=True)(tokens))
    model = keras.Model(tokens, pooled)

    def answer(ids, model=model):
        return keras.ops.convert_to_numpy(model(ids))

    ids = np.array([[3, 4, 5, 0, 0], [6, 0, 0, 0, 0]], "int32")
    for row, length in enumerate((3, 1)):
        np.testing.assert_allclose(answer(ids)[row], answer(ids[row : row + 1, :length])[0], atol=1e-6)  # float32 sums
    assert getattr(pooled, "_keras_mask", None) is None
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(answer(ids, keras.saving.load_model(tmp_path / "m.keras")), answer(ids))


def test_units_are_checked():
    with pytest.raises(SettingError, match="units is 0"):
        AttentionPooling(0)
