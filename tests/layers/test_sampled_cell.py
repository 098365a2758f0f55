"""Paths that a cell draws, against the recursion in NumPy."""

import numpy as np
from keras import ops

from zoo.layers import LSTMCell, Recurrent, SampledCell

BATCH, TIME, UNITS = 3, 6, 5


def softplus(x):
    return np.log1p(np.exp(x))


def walk(weights, inputs, value):
    """The formula, step by step, of an LSTM."""
    kernel, recurrent_kernel, bias, head, head_bias = weights
    hidden, memory, path = np.zeros((BATCH, UNITS)), np.zeros((BATCH, UNITS)), []
    for x in np.moveaxis(inputs.astype(np.float64), 1, 0):
        read = np.concatenate([value, x[:, 1:]], axis=1)
        i, f, g, o = np.split(read @ kernel + hidden @ recurrent_kernel + bias, 4, axis=1)
        memory = memory / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        hidden = np.tanh(memory) / (1 + np.exp(-o))
        change, width = np.split(hidden @ head + head_bias, 2, axis=1)
        value = value + change + (softplus(width) + 0.001) * x[:, :1]
        path.append(value)
    return np.stack(path, axis=1)


def drawn(features):
    layer = Recurrent(SampledCell(LSTMCell(UNITS)), return_sequences=True)
    layer.build((BATCH, TIME, features))
    layer.set_weights([np.random.normal(size=weight.shape) for weight in layer.get_weights()])
    return layer, np.random.normal(size=(BATCH, TIME, features)).astype("float32")


def in_order(layer):
    cell = layer.cell
    inner = cell.cell
    return [
        ops.convert_to_numpy(each)
        for each in (inner.kernel, inner.recurrent_kernel, inner.bias, cell.kernel, cell.bias)
    ]


def test_a_path_is_the_formula_with_and_without_what_is_known_ahead():
    for features in (1, 3):
        layer, x = drawn(features)
        start = np.random.normal(size=(BATCH, 1)).astype("float32")
        states = [start, np.zeros((BATCH, UNITS), "float32"), np.zeros((BATCH, UNITS), "float32")]
        found = ops.convert_to_numpy(layer(x, initial_state=states))
        np.testing.assert_allclose(found, walk(in_order(layer), x, start), rtol=1e-4, atol=1e-5)  # float32, six steps


def test_what_it_tells_of_given_values_is_what_it_draws_from():
    """Each value of a path, less the mean told from the values before, over the spread told: the draw."""
    layer, x = drawn(1)
    states = layer.cell.get_initial_state(BATCH)
    path = ops.convert_to_numpy(layer(x, initial_state=states))
    before = np.concatenate([np.zeros((BATCH, 1, 1), "float32"), path[:, :-1]], axis=1)
    outputs = Recurrent(layer.cell.cell, return_sequences=True)(before)
    mean, spread = (
        ops.convert_to_numpy(each) for each in layer.cell.distribution(outputs, ops.convert_to_tensor(before))
    )
    np.testing.assert_allclose((path - mean) / spread, x, rtol=1e-3, atol=1e-3)  # float32, over a small spread
