"""Peephole LSTM against its formula."""

import keras
import numpy as np
import pytest
from gradients import finite_differences, gradients
from keras import ops
from numpy_rnn import peephole_lstm

from zoo.errors import SettingError
from zoo.layers import PeepholeLSTM, PeepholeLSTMCell

BATCH, TIME, FEATURES, UNITS = 2, 6, 3, 4
each_variant = pytest.mark.parametrize(
    "variant",
    [{}, {"projection": 2}, {"coupled": True}, {"projection": 2, "coupled": True}],
    ids=["plain", "projection", "coupled", "both"],
)


def layer_with_random_weights(dtype="float32", **options):
    layer = PeepholeLSTM(UNITS, dtype=dtype, **options)
    layer.build((BATCH, TIME, FEATURES))
    layer.set_weights([np.random.normal(size=w.shape).astype(dtype) for w in layer.get_weights()])
    return layer


@each_variant
@pytest.mark.parametrize("scale", [1.0, 30.0], ids=["usual inputs", "saturating inputs"])
def test_it_is_the_formula_of_the_papers(scale, variant):
    layer = layer_with_random_weights(return_sequences=True, return_state=True, **variant)
    x = scale * np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    states = [np.random.normal(size=(BATCH, size)).astype("float32") for size in layer.cell.state_size]
    got = layer(x, initial_state=states)
    expected = peephole_lstm(x.astype("float64"), [w.astype("float64") for w in layer.get_weights()], states)
    for ours, formula in zip(got, expected, strict=True):
        # float32 against float64; the argument of a gate reaches 100, where one unit in the last place is 8e-6
        np.testing.assert_allclose(ops.convert_to_numpy(ours), formula, atol=2e-5)


def test_without_peepholes_it_is_the_lstm_of_keras():
    layer = layer_with_random_weights(return_sequences=True)
    *weights, peephole = layer.get_weights()
    layer.set_weights([*weights, 0 * peephole])
    peer = keras.layers.LSTM(UNITS, return_sequences=True)
    x = np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    peer.build(x.shape)
    peer.set_weights(weights)
    np.testing.assert_allclose(*[ops.convert_to_numpy(one(x)) for one in (layer, peer)], atol=1e-6)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")  # slower, not wrong
def test_with_a_projection_and_without_peepholes_it_is_the_lstm_of_torch():
    torch = pytest.importorskip("torch")
    layer = layer_with_random_weights(projection=3, return_sequences=True, return_state=True)
    *weights, peephole, projection = layer.get_weights()
    layer.set_weights([*weights, 0 * peephole, projection])
    kernel, recurrent_kernel, bias = weights
    peer = torch.nn.LSTM(FEATURES, UNITS, batch_first=True, proj_size=3)  # its gates are in Keras' order
    values = {"weight_ih_l0": kernel.T, "weight_hh_l0": recurrent_kernel.T, "weight_hr_l0": projection.T}
    values |= {"bias_ih_l0": bias, "bias_hh_l0": 0 * bias}
    peer.load_state_dict({name: torch.tensor(value) for name, value in values.items()})
    x = np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    with torch.no_grad():
        outputs, (hidden, memory) = peer(torch.tensor(x, device="cpu"))
    for ours, theirs in zip(layer(x), (outputs, hidden[0], memory[0]), strict=True):
        # float32 on both sides: sums of ten terms near 1
        np.testing.assert_allclose(ops.convert_to_numpy(ours), theirs.numpy(), atol=1e-5)


def test_coupled_gates_are_those_of_an_lstm_whose_input_gate_has_the_forget_gates_weights_negated():
    coupled, whole = layer_with_random_weights(coupled=True), PeepholeLSTM(UNITS)
    whole.build((BATCH, TIME, FEATURES))
    both = [np.concatenate([-w[..., :UNITS], w], axis=-1) for w in coupled.get_weights()[:3]]
    peephole = coupled.get_weights()[3]
    whole.set_weights([*both, np.concatenate([-peephole[:1], peephole])])  # sigmoid(-a) = 1 - sigmoid(a)
    x = np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    np.testing.assert_allclose(*[ops.convert_to_numpy(one(x)) for one in (coupled, whole)], atol=1e-6)


@each_variant
@pytest.mark.parametrize(
    "mask", [None, np.array([[1, 1, 0, 1, 1, 0], [0, 1, 1, 1, 0, 0]], bool)], ids=["plain", "mask"]
)
def test_gradients_equal_finite_differences_of_the_formula(mask, variant):
    # Only on TensorFlow does Keras multiply float64 matrices in float64.
    dtype = "float64" if keras.backend.backend() == "tensorflow" else "float32"
    layer = layer_with_random_weights(dtype, return_sequences=True, **variant)
    x = np.random.normal(size=(BATCH, TIME, FEATURES))
    cotangent = np.random.normal(size=(BATCH, TIME, layer.cell.output_size))
    weights = [w.astype("float64") for w in layer.get_weights()]
    states = [np.zeros((BATCH, size)) for size in layer.cell.state_size]

    def loss():
        return (peephole_lstm(x, weights, states, mask)[0] * cotangent).sum()

    numeric = finite_differences(loss, [x, *weights])
    ours = gradients(layer, x.astype(dtype), cotangent.astype(dtype), **({} if mask is None else {"mask": mask}))
    # Central differences with step 1e-6 in float64: rounding 1e-10 times the loss, curvature 1e-12.
    # In float32: sums of ten terms near 1 over six steps.
    rtol, atol = (1e-6, 1e-7) if dtype == "float64" else (1e-4, 1e-5)
    for one, other in zip(ours, numeric, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


@each_variant
def test_the_forget_gate_starts_open_and_the_rest_as_documented(variant):
    cell = PeepholeLSTMCell(UNITS, **variant)
    cell.build((BATCH, FEATURES))
    start = [[1.0], [0.0], [0.0]] if cell.coupled else [[0.0], [1.0], [0.0], [0.0]]
    bias = ops.convert_to_numpy(cell.bias)
    np.testing.assert_array_equal(bias.reshape(-1, UNITS), np.repeat(start, UNITS, axis=1))
    recurrent = ops.convert_to_numpy(cell.recurrent_kernel)
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(cell.output_size), atol=1e-5)
    assert not ops.convert_to_numpy(cell.peephole).any()
    if cell.projection is not None:
        projection = ops.convert_to_numpy(cell.projection_kernel)
        np.testing.assert_allclose(projection.T @ projection, np.eye(2), atol=1e-5)


def test_coupled_gates_have_a_quarter_fewer_weights_and_a_projection_its_own():
    def count(**variant):
        cell = PeepholeLSTMCell(8, **variant)
        cell.build((None, 5))
        return cell.count_params()

    assert count() == 4 * 8 * (5 + 8 + 1) + 3 * 8
    assert count(coupled=True) == 3 * 8 * (5 + 8 + 1) + 2 * 8
    assert count(projection=2, coupled=True) == 3 * 8 * (5 + 2 + 1) + 2 * 8 + 8 * 2


@pytest.mark.parametrize("units", [0, -3, 2.5, "8", True, None])
def test_units_must_be_a_positive_whole_number(units):
    with pytest.raises(SettingError, match=r"units is .*whole number"):
        PeepholeLSTM(units)


@pytest.mark.parametrize("projection", [0, 2.5, "8", True])
def test_a_projection_must_be_a_positive_whole_number(projection):
    with pytest.raises(SettingError, match=r"projection is .*whole number"):
        PeepholeLSTM(4, projection=projection)


def test_coupled_is_true_or_false():
    with pytest.raises(SettingError, match="coupled is 'yes'; expected True or False"):
        PeepholeLSTM(4, coupled="yes")


def test_units_may_be_an_integer_of_numpy():
    assert type(PeepholeLSTM(np.int64(8)).get_config()["units"]) is int
