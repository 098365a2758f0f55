"""The plain cells against Keras' own layers."""

import keras
import numpy as np
import pytest
from gradients import gradients
from keras import ops

from zoo.errors import SettingError
from zoo.layers import GRUCell, IndRNN, LSTMCell, Recurrent, VariationalDropout

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


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_with_the_same_weights_it_is_the_layer_of_torch(kind):
    torch = pytest.importorskip("torch")
    x = np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    ours = {
        "lstm": lambda: Recurrent(LSTMCell(UNITS), return_sequences=True),
        "gru": lambda: Recurrent(GRUCell(UNITS), return_sequences=True),
        "rnn": lambda: IndRNN(UNITS, activation="tanh", return_sequences=True),
    }[kind]()
    ours.build(x.shape)
    ours.set_weights([np.random.normal(size=w.shape) for w in ours.get_weights()])
    weights = {w.name: ops.convert_to_numpy(w) for w in ours.weights}
    if kind == "rnn":
        weights["recurrent_kernel"] = np.diag(weights["recurrent"])
    bias = np.broadcast_to(np.atleast_2d(weights["bias"]), (2, weights["bias"].shape[-1])).copy()
    bias[1:] *= weights["bias"].ndim - 1  # only a GRU adds another one to what the past adds

    def in_torchs_order(values):  # its GRU has the reset gate first
        update, reset, new = np.split(values, 3, axis=-1) if kind == "gru" else (None, None, None)
        values = np.concatenate([reset, update, new], axis=-1) if kind == "gru" else values
        return torch.tensor(np.ascontiguousarray(values.T))

    names = "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"
    values = weights["kernel"], weights["recurrent_kernel"], *bias
    peer = getattr(torch.nn, kind.upper())(FEATURES, UNITS, batch_first=True)
    peer.load_state_dict(dict(zip(names, map(in_torchs_order, values), strict=True)))
    with torch.no_grad():
        expected = peer(torch.tensor(x, device="cpu"))[0].numpy()
    np.testing.assert_allclose(ops.convert_to_numpy(ours(x)), expected, atol=5e-6)  # float32 sums of ten terms
