"""The plain cells against Keras' own layers."""

import keras
import numpy as np
import pytest
from gradients import gradients
from keras import ops

from zoo.errors import SettingError
from zoo.layers import GRUCell, LSTMCell, Recurrent, VariationalDropout

BATCH, TIME, FEATURES, UNITS = 3, 6, 4, 5
PAIRS = pytest.mark.parametrize(
    ("cell", "peer"), [(LSTMCell, keras.layers.LSTM), (GRUCell, keras.layers.GRU)], ids=["lstm", "gru"]
)


@PAIRS
def test_with_the_same_weights_it_is_the_layer_of_keras_and_so_is_its_gradient(cell, peer):
    x = np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    ours, theirs = Recurrent(cell(UNITS), return_sequences=True), peer(UNITS, return_sequences=True)
    for layer in (ours, theirs):
        layer.build(x.shape)
    weights = [np.random.normal(size=w.shape) for w in theirs.get_weights()]
    for layer in (ours, theirs):
        layer.set_weights(weights)
    np.testing.assert_allclose(*[ops.convert_to_numpy(layer(x)) for layer in (ours, theirs)], atol=2e-6)  # float32
    cotangent = np.random.normal(size=(BATCH, TIME, UNITS)).astype("float32")
    for one, other in zip(gradients(ours, x, cotangent), gradients(theirs, x, cotangent), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)  # sums of ten terms in another order


@PAIRS
def test_it_starts_as_the_layer_of_keras_does(cell, peer):
    """Orthogonal recurrent kernel, and biases as Keras sets them: 1 for the forget gate, else 0."""
    ours, theirs = cell(UNITS), peer(UNITS)
    ours.build((None, FEATURES))
    theirs.build((None, None, FEATURES))
    np.testing.assert_array_equal(*[ops.convert_to_numpy(one.bias) for one in (ours, theirs.cell)])
    recurrent = ops.convert_to_numpy(ours.recurrent_kernel)
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(UNITS), atol=1e-5)


@pytest.mark.parametrize("cell", [LSTMCell, GRUCell])
@pytest.mark.parametrize("units", [0, -1, 1.5, None])
def test_units_must_be_a_positive_whole_number(cell, units):
    with pytest.raises(SettingError, match=r"units is .*whole number"):
        cell(units)


@PAIRS
def test_it_folds_into_the_cell_of_keras_and_so_does_dropout_around_it(cell, peer):
    ours = cell(UNITS)
    ours.build((None, FEATURES))
    ours.set_weights([np.random.normal(size=weight.shape) for weight in ours.get_weights()])
    x = np.random.normal(size=(2, FEATURES)).astype("float32")
    states = [np.random.normal(size=state.shape).astype("float32") for state in ours.get_initial_state(2)]
    expected = ours(x, states)[0]
    for one in (ours, VariationalDropout(ours, 0.3, 0.2)):
        plain = one.fold()
        assert type(plain) is type(peer(UNITS).cell)
        output, _ = plain(x, states)
        np.testing.assert_allclose(ops.convert_to_numpy(output), ops.convert_to_numpy(expected), atol=2e-6)  # float32


@PAIRS
def test_a_cell_without_weights_cannot_fold(cell, peer):
    with pytest.raises(SettingError, match="no weights yet; build it first"):
        cell(UNITS).fold()
