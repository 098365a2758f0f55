"""Cells made of cells: variational dropout, residual cells and stacks, against layers in a row and masks by hand."""

import keras
import numpy as np
import pytest
from gradients import gradients
from keras import ops

from zoo.errors import SettingError
from zoo.layers import GRUCell, IndRNNCell, LSTMCell, Recurrent, ResidualCell, StackedCells, VariationalDropout

BATCH, TIME, FEATURES, UNITS = 4, 6, 3, 5


def inputs(features=FEATURES):
    return np.random.normal(size=(BATCH, TIME, features)).astype("float32")


def built(cell, features=FEATURES, **options):
    layer = Recurrent(cell, return_sequences=True, **options)
    layer.build((BATCH, TIME, features))
    return layer


def assert_same(one, other):
    np.testing.assert_allclose(ops.convert_to_numpy(one), ops.convert_to_numpy(other), atol=2e-6)  # float32


def test_a_stack_is_its_layers_in_a_row_and_so_is_its_gradient():
    """Against Keras' LSTM and GRU with the same weights; there the upper projection is no part of a step."""
    x = inputs()
    stack = built(StackedCells([LSTMCell(4), GRUCell(UNITS)]), return_state=False)
    row = keras.Sequential(
        [keras.layers.LSTM(4, return_sequences=True), keras.layers.GRU(UNITS, return_sequences=True)]
    )
    row.build(x.shape)
    weights = [np.random.normal(size=w.shape) for w in row.get_weights()]
    for model in (stack, row):
        model.set_weights(weights)
    assert_same(stack(x), row(x))
    cotangent = np.random.normal(size=(BATCH, TIME, UNITS)).astype("float32")
    for ours, theirs in zip(gradients(stack, x, cotangent), gradients(row, x, cotangent), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)  # sums of ten terms in another order


def test_a_residual_cell_adds_its_input_to_the_output_and_not_to_the_state():
    x = inputs(UNITS)
    plain, residual = built(GRUCell(UNITS), UNITS, return_state=True), ResidualCell(GRUCell(UNITS))
    residual = built(residual, UNITS, return_state=True)
    residual.set_weights(plain.get_weights())
    (expected, state), (output, same_state) = plain(x), residual(x)
    assert_same(output, x + ops.convert_to_numpy(expected))
    assert_same(state, same_state)


def dropout(cell, **rates):
    layer = built(VariationalDropout(cell, seed=1, **rates))
    layer.set_weights([np.random.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def with_masks(layer, masks):
    layer.cell.draw_own_noise = lambda steps, batch_size: masks
    return layer


def test_a_dropped_input_has_one_mask_for_the_whole_sequence():
    x, layer = inputs(), dropout(LSTMCell(UNITS), input_rate=0.5)
    mask = 2 * np.random.binomial(1, 0.5, size=(1, BATCH, FEATURES)).astype("float32")
    with_masks(layer, [ops.convert_to_tensor(mask), [None, None]])
    assert_same(layer(x, training=True), layer(x * mask[0][:, None]))


def test_a_dropped_unit_is_missing_in_the_recurrent_product_only():
    """For each row a layer of its own, from whose recurrent kernel the rows of dropped units are struck."""
    x, layer = inputs(), dropout(GRUCell(UNITS), state_rate=0.5)
    mask = 2 * np.random.binomial(1, 0.5, size=(1, BATCH, UNITS)).astype("float32")
    given = with_masks(layer, [None, [ops.convert_to_tensor(mask)]])(x, training=True)
    kernel, recurrent_kernel, bias = layer.get_weights()
    for row in range(BATCH):
        peer = keras.layers.GRU(UNITS, return_sequences=True)
        peer.build((1, TIME, FEATURES))
        peer.set_weights([kernel, mask[0, row][:, None] * recurrent_kernel, bias])
        assert_same(given[row], peer(x[row : row + 1])[0])


def test_masks_are_drawn_for_each_row_at_their_rates_and_keep_the_mean():
    cell = VariationalDropout(LSTMCell(400), input_rate=0.2, state_rate=0.6, seed=1)
    cell.build((None, 500))
    masks, (hidden, memory) = cell.draw_own_noise(1000, 20)
    for mask, rate, size in ((masks, 0.2, 500), (hidden, 0.6, 400), (memory, 0.6, 400)):
        mask = ops.convert_to_numpy(mask)
        assert mask.shape == (1, 20, size)  # for 1,000 steps
        assert (mask[0, 0] != mask[0, 1]).any()
        np.testing.assert_allclose(np.unique(mask), [0, 1 / (1 - rate)], rtol=1e-6)
        # five standard deviations of the mean of independent draws
        assert abs(mask.mean() - 1) < 5 * (rate / (1 - rate) / mask.size) ** 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StackedCells([]), r"cells is \[\]; expected a list of at least one"),
        (lambda: StackedCells(GRUCell(3)), "cells is <GRUCell"),
        (lambda: StackedCells([GRUCell(3), keras.layers.GRUCell(3)]), r"cells\[1\] is a GRUCell; expected a zoo Cell"),
        (lambda: ResidualCell("gru"), "cell is a str; expected a zoo Cell"),
        (lambda: built(ResidualCell(GRUCell(4))), "outputs of width 4, its inputs 3"),
        (lambda: VariationalDropout(GRUCell(3), input_rate=1), "input_rate is 1; expected a probability below 1"),
        (lambda: VariationalDropout(GRUCell(3), input_rate=-0.5), r"input_rate is -0\.5; .*from 0 to 1"),
        (lambda: VariationalDropout(GRUCell(3), state_rate=1.5), r"state_rate is 1\.5; .*from 0 to 1"),
        (lambda: built(VariationalDropout(IndRNNCell(3), state_rate=0.5)), "state_rate is 0.5; IndRNNCell has no rec"),
    ],
)
def test_bad_settings_are_refused_by_name(make, message):
    with pytest.raises(SettingError, match=message):
        make()
