"""IndRNN against its formula, its bound, and the known answers of a plain recurrence."""

import keras
import numpy as np
import pytest
from gradients import finite_differences, gradients
from keras import ops
from numpy_rnn import indrnn

from zoo.errors import SettingError
from zoo.layers import IndRNN, IndRNNCell, RecurrentBound, indrnn_stack

BATCH, TIME, FEATURES, UNITS = 2, 6, 3, 4


def layer_with_random_weights(dtype="float32", **options):
    layer = IndRNN(UNITS, dtype=dtype, **options)
    layer.build((BATCH, TIME, FEATURES))
    layer.set_weights([np.random.normal(size=w.shape).astype(dtype) for w in layer.get_weights()])
    return layer


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_it_is_the_formula_of_the_paper(activation):
    layer = layer_with_random_weights(activation=activation, return_sequences=True, return_state=True)
    x = np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    state = np.random.normal(size=(BATCH, UNITS)).astype("float32")
    got = layer(x, initial_state=[state])
    expected = indrnn(x.astype("float64"), [w.astype("float64") for w in layer.get_weights()], state, activation)
    for ours, formula in zip(got, expected, strict=True):
        # float32 against float64; with relu and weights above 1 values reach the tens in six steps
        np.testing.assert_allclose(ops.convert_to_numpy(ours), formula, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(
    "mask", [None, np.array([[1, 1, 0, 1, 1, 0], [0, 1, 1, 1, 0, 0]], bool)], ids=["plain", "mask"]
)
def test_gradients_equal_finite_differences_of_the_formula(mask, activation):
    # Only on TensorFlow does Keras multiply float64 matrices in float64.
    dtype = "float64" if keras.backend.backend() == "tensorflow" else "float32"
    layer = layer_with_random_weights(dtype, activation=activation, return_sequences=True)
    x = np.random.normal(size=(BATCH, TIME, FEATURES))
    cotangent = np.random.normal(size=(BATCH, TIME, UNITS))
    weights = [w.astype("float64") for w in layer.get_weights()]

    def loss():
        return (indrnn(x, weights, np.zeros((BATCH, UNITS)), activation, mask)[0] * cotangent).sum()

    numeric = finite_differences(loss, [x, *weights])
    ours = gradients(layer, x.astype(dtype), cotangent.astype(dtype), **({} if mask is None else {"mask": mask}))
    # Central differences with step 1e-6 in float64: rounding 1e-10 times a loss in the hundreds, curvature 1e-12.
    # In float32: sums of ten terms over six steps.
    rtol, atol = (1e-6, 1e-6) if dtype == "float64" else (1e-4, 1e-4)
    for one, other in zip(ours, numeric, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


# h[t] = tanh(x[t] W + h[t-1] U + b); a row of W_xh and W_hh holds one unit's weights: W is its transpose.
W_XH, W_HH, B = [[0.4, -0.1], [0.2, 0.5]], [[0.3, 0.1], [-0.2, 0.4]], [0.1, -0.2]
INPUTS = [[1, 0.5], [0.2, 0.8], [-0.4, 1]]


def by_hand(x, before, recurrent):
    """One step of two units, written out; `recurrent` has a row for each unit."""
    return [
        np.tanh(
            W_XH[0][0] * x[0] + W_XH[0][1] * x[1] + recurrent[0][0] * before[0] + recurrent[0][1] * before[1] + B[0]
        ),
        np.tanh(
            W_XH[1][0] * x[0] + W_XH[1][1] * x[1] + recurrent[1][0] * before[0] + recurrent[1][1] * before[1] + B[1]
        ),
    ]


def three_steps(recurrent):
    first = by_hand(INPUTS[0], [0, 0], recurrent)
    second = by_hand(INPUTS[1], first, recurrent)
    return [first, second, by_hand(INPUTS[2], second, recurrent)]


def test_the_plain_recurrence_gives_the_answer_worked_out_by_hand():
    first = three_steps(W_HH)[0]
    np.testing.assert_allclose(first, [np.tanh(0.45), np.tanh(0.25)])  # 0.4 - 0.05 + 0.1; 0.2 + 0.25 - 0.2
    layer = keras.layers.SimpleRNN(2, return_sequences=True)
    layer.build((1, 3, 2))
    layer.set_weights([np.array(W_XH).T, np.array(W_HH).T, np.array(B)])
    got = ops.convert_to_numpy(layer(np.array([INPUTS], "float32")))[0]
    np.testing.assert_allclose(got, three_steps(W_HH), atol=1e-6)  # float32


def test_indrnn_gives_the_answer_by_hand_of_a_diagonal_recurrence():
    diagonal = [[W_HH[0][0], 0], [0, W_HH[1][1]]]
    layer = IndRNN(2, activation="tanh", return_sequences=True)
    layer.build((1, 3, 2))
    layer.set_weights([np.array(W_XH).T, np.array(B), np.array([W_HH[0][0], W_HH[1][1]])])
    got = ops.convert_to_numpy(layer(np.array([INPUTS], "float32")))[0]
    np.testing.assert_allclose(got, three_steps(diagonal), atol=1e-6)  # float32


@pytest.mark.parametrize(("remember", "low"), [(False, 0.0), (True, 2 ** (-1 / 50))])
def test_recurrent_weights_start_all_over_the_range_of_the_paper(remember, low):
    cell = IndRNNCell(4000, steps=50, remember=remember)
    cell.build((None, FEATURES))
    u, high = ops.convert_to_numpy(cell.recurrent), 2 ** (1 / 50)
    assert u.min() >= low - 1e-6 and u.max() <= high + 1e-6  # float32
    # of 4000 uniform draws the outermost 1% are empty with a probability of 0.99^4000
    assert u.min() < low + 0.01 * (high - low) and u.max() > high - 0.01 * (high - low)


def test_training_holds_recurrent_weights_within_the_bound():
    layer = IndRNN(UNITS, steps=3)
    model = keras.Sequential([keras.Input((TIME, FEATURES)), layer])
    model.compile(keras.optimizers.SGD(10.0), lambda y, predicted: -ops.mean(predicted))
    model.fit(np.ones((BATCH, TIME, FEATURES)), np.zeros((BATCH, UNITS)), epochs=3, verbose=0)
    u = ops.convert_to_numpy(layer.cell.recurrent)
    assert np.abs(u).max() == pytest.approx(2 ** (1 / 3))  # the loss drives them up: some reach it, none passes


def test_the_bound_holds_both_signs_and_without_steps_it_is_one():
    np.testing.assert_allclose(
        ops.convert_to_numpy(RecurrentBound(2)(np.array([-3.0, 0.5, 3.0]))), [-(2**0.5), 0.5, 2**0.5]
    )
    np.testing.assert_allclose(ops.convert_to_numpy(RecurrentBound(None)(np.array([-3.0, 0.5, 3.0]))), [-1, 0.5, 1])


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_stack_is_its_layers_one_on_the_other(batch_norm):
    x = np.random.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    for residual in (False, True):
        inputs = keras.Input((TIME, FEATURES))
        model = keras.Model(inputs, indrnn_stack(inputs, 5, 3, steps=9, residual=residual, batch_norm=batch_norm))
        model.set_weights([np.random.uniform(0.1, 1, size=w.shape) for w in model.get_weights()])
        layers = [layer for layer in model.layers if isinstance(layer, IndRNN)]
        norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
        assert [layer.cell.remember for layer in layers] == [False, False, True]
        assert len(norms) == (0 if not batch_norm else 2 if residual else 3)
        if not batch_norm:
            norms = [lambda y: y] * 3
        expected = layers[0](x)
        if residual:
            for layer, norm in zip(layers[1:], norms, strict=False):
                expected = expected + layer(norm(expected))
        else:
            expected = norms[2](layers[2](norms[1](layers[1](norms[0](expected)))))
        # the same layers called in the same order: rounding of a fused graph only
        np.testing.assert_allclose(*[ops.convert_to_numpy(y) for y in (model(x), expected)], rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 0}, "units is 0"),
        ({"units": 2.5}, r"units is 2\.5"),
        ({"units": 3, "steps": 0}, "steps is 0"),
        ({"units": 3, "steps": 1.5}, r"steps is 1\.5"),
        ({"units": 3, "activation": "gelu"}, "activation is 'gelu'; expected one of relu, tanh"),
        ({"units": 3, "remember": True}, "remember is True and steps None"),
    ],
)
def test_bad_settings_are_refused_by_name(arguments, message):
    with pytest.raises(SettingError, match=message):
        IndRNN(**arguments)


def test_a_stack_of_no_layers_is_refused():
    with pytest.raises(SettingError, match="depth is 0"):
        indrnn_stack(np.zeros((1, 2, 3)), 4, 0)
