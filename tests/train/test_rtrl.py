"""Real-time recurrent learning gives the gradient of back-propagation through time, of every cell, in both forms."""

import cases
import keras
import numpy as np
import pytest
from keras import ops

from zoo import layers
from zoo.errors import SettingError
from zoo.train import RTRL
from zoo.train.autodiff import compiled

ROWS, STEPS, FEATURES = 2, 6, 4
# JAX computes in float32 unless told otherwise; in float64, rounding of sums of a few hundred terms
DTYPE, CLOSE = ("float64", 1e-10) if keras.backend.backend() == "tensorflow" else ("float32", 2e-4)
LEARNING = [case for case in cases.LAYERS if case.layer is not layers.EchoState]  # a reservoir has nothing to learn
ELEMENTWISE = [
    layers.IndRNNCell(5, activation="tanh", dtype=DTYPE),
    layers.MinGRUCell(5, dtype=DTYPE),
    layers.MinLSTMCell(5, dtype=DTYPE),
    layers.LIFCell(5, time_constant=0.004, threshold=0.5, dtype=DTYPE),  # two states for each unit
    layers.Zoneout(layers.IndRNNCell(5, dtype=DTYPE), {"hidden": 0.3}),
]


def randomised(cell):
    if not cell.built:
        cell.build((None, FEATURES))
    for weight in cell.trainable_variables:
        weight.assign(weight + 0.3 * np.random.normal(size=weight.shape))
    return cell


def backpropagated(cell, x, cotangents):
    """Gradient of sum(cotangents * outputs) by the backend's differentiation of the steps written out."""

    def unrolled():
        states, total = cell.get_initial_state(len(x)), 0.0
        for t in range(x.shape[1]):
            output, states = cell(ops.convert_to_tensor(x[:, t]), states)
            total = total + ops.sum(output * cotangents[:, t])
        return total

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            total = unrolled()
        return [
            each.numpy()
            for each in tape.gradient(
                total, [v.value for v in cell.trainable_variables], unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
        ]
    import jax

    def function(weights):
        with keras.StatelessScope(state_mapping=list(zip(cell.trainable_variables, weights, strict=True))):
            return unrolled()

    return [np.asarray(each) for each in jax.grad(function)([v.value for v in cell.trainable_variables])]


def carried_forward(cell, x, cotangents, form):
    """The same by RTRL, whose loss at a step is sum(cotangent * output); its local gradients are the test's own."""
    rtrl = RTRL(cell, form)
    weights, states, influence = rtrl.weights(), cell.get_initial_state(len(x)), rtrl.start(len(x))
    total, step = [np.zeros(w.shape) for w in weights], compiled(rtrl.step)
    for t in range(x.shape[1]):
        now, of_states = of_one_step(cell, x[:, t], states, cotangents[:, t])
        past = rtrl.gradients(of_states, influence)
        total = [one + two + ops.convert_to_numpy(three) for one, two, three in zip(total, now, past, strict=True)]
        _, states, influence = step(ops.convert_to_tensor(x[:, t]), states, influence, weights)
    return total


def of_one_step(cell, x, states, cotangent):
    """Gradients of sum(cotangent * output) of one step: NumPy arrays for the weights, tensors for the states."""
    from zoo.train.autodiff import value_and_gradients

    kept = len(states)
    rtrl_free = list(cell.trainable_variables)

    def function(arguments):
        with keras.StatelessScope(state_mapping=list(zip(rtrl_free, arguments[kept:], strict=True))):
            output, _ = cell(ops.convert_to_tensor(x), arguments[:kept])
        return ops.sum(output * cotangent), ()

    _, _, found = value_and_gradients(function, [*states, *(ops.copy(v) for v in rtrl_free)])
    return [ops.convert_to_numpy(each) for each in found[kept:]], found[:kept]


def assert_backpropagated(cell, form):
    x = np.random.normal(size=(ROWS, STEPS, FEATURES)).astype(DTYPE)
    cotangents = np.random.normal(size=(ROWS, STEPS, cell.output_size)).astype(DTYPE)
    expected = backpropagated(cell, x, cotangents)
    whole = max(np.abs(each).max() for each in expected)
    assert whole > 0.1
    for ours, theirs in zip(carried_forward(cell, x, cotangents, form), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=CLOSE, atol=CLOSE * whole)


@pytest.mark.parametrize("case", LEARNING, ids=str)
def test_the_full_form_is_backpropagation_for_every_cell(case):
    layer = case.make(dtype=DTYPE)
    layer.build((ROWS, STEPS, FEATURES))
    assert_backpropagated(randomised(layer.cell), "full")


@pytest.mark.parametrize("cell", ELEMENTWISE, ids=lambda cell: type(cell).__name__)
def test_the_elementwise_form_is_backpropagation(cell):
    assert_backpropagated(randomised(cell), "elementwise")


def test_the_form_is_found_by_what_a_cell_does():
    for cell in ELEMENTWISE:
        assert RTRL(randomised(cell)).form == "elementwise"
    for cell in (
        layers.GRUCell(5),
        layers.LIFCell(5, recurrent=True),
        layers.FastGRNNCell(5, 2, 2),
        layers.StackedCells([layers.IndRNNCell(4), layers.IndRNNCell(4)]),
    ):
        assert RTRL(randomised(cell)).form == "full"
    zeros = layers.LIFCell(4, recurrent=True)
    zeros.build((None, FEATURES))
    zeros.recurrent_kernel.assign(np.zeros((4, 4)))  # nothing passes between units, as yet
    assert RTRL(zeros).form == "full"


def test_the_elementwise_influence_is_as_large_as_the_weights():
    units, features = 300, 40
    cell = layers.MinGRUCell(units)
    cell.build((None, features))
    held = sum(int(np.prod(each.shape)) for each in RTRL(cell).start(1))
    assert held == cell.count_params() == 2 * units * (features + 1)
    small = layers.GRUCell(5)
    small.build((None, features))
    assert sum(int(np.prod(each.shape)) for each in RTRL(small).start(1)) == 5 * small.count_params()


def test_cells_that_cannot_be_learnt_so_are_refused():
    gru, half, reservoir = layers.GRUCell(3), layers.IndRNNCell(3, dtype="mixed_float16"), layers.EchoStateCell(3)
    for cell in (gru, half, reservoir):
        cell.build((None, 2))
    for given, form, said in [
        (keras.layers.LSTMCell(3), None, "expected a zoo Cell"),
        (layers.GRUCell(3), None, "build it first"),
        (gru, "diagonal", "form is 'diagonal'; expected one of full, elementwise"),
        (gru, "elementwise", "units depend on the states of others"),
        (half, None, "computes in float16"),
        (reservoir, None, "nothing to learn"),
    ]:
        with pytest.raises(SettingError, match=said):
            RTRL(given, form)
