"""`Recurrent` where no layer of the table shows it: chance within a step, no recurrent matmul, bad input."""

import keras
import numpy as np
import pytest
from gradients import gradients
from keras import ops

from zoo.errors import SettingError
from zoo.layers import Cell, IndRNN, PeepholeLSTM, PeepholeLSTMCell, Recurrent

BATCH, TIME, UNITS = 3, 6, 4


class NoisyCell(Cell):
    """A leaky unit whose input is dropped at random, with a local recurrent weight: no `recur`, noise in `advance`."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units
        self.noise_given = None

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
        self.leak = self.add_weight(shape=(self.units,), initializer="ones", name="leak")

    @property
    def advance_weights(self):
        return [self.leak]

    def draw_noise(self, steps, batch_size):
        return ops.convert_to_tensor(self.noise_given)

    def project(self, inputs, noise=None):
        return ops.matmul(inputs, self.kernel)

    def advance(self, projected, recurrent, states, weights, noise=None):
        assert recurrent is None
        hidden = ops.tanh(weights[0] * states[0] + (projected if noise is None else noise * projected))
        return 2 * hidden, [hidden]


def test_noise_is_replayed_in_the_gradient():
    x = np.random.normal(size=(BATCH, TIME, 2)).astype("float32")
    cell = NoisyCell(UNITS)
    cell.noise_given = np.random.binomial(1, 0.5, size=(TIME, BATCH, UNITS)).astype("float32")
    layer = Recurrent(cell, return_sequences=True)
    layer.build(x.shape)
    cotangent = np.random.normal(size=(BATCH, TIME, UNITS)).astype("float32")
    unrolled = Recurrent(cell, return_sequences=True, unroll=True)  # plain automatic differentiation
    unrolled.build(x.shape)
    for ours, automatic in zip(*[gradients(one, x, cotangent) for one in (layer, unrolled)], strict=True):
        np.testing.assert_allclose(ours, automatic, rtol=1e-4, atol=1e-5)


def test_noise_acts_in_training_only():
    x = np.random.normal(size=(BATCH, TIME, 2)).astype("float32")
    cell = NoisyCell(UNITS)
    cell.noise_given = np.zeros((TIME, BATCH, UNITS), "float32")
    layer = Recurrent(cell)
    assert not ops.convert_to_numpy(layer(x, training=True)).any()
    assert ops.convert_to_numpy(layer(x, training=False)).any()


def test_the_output_need_not_be_the_state():
    layer = Recurrent(NoisyCell(UNITS), return_state=True)
    output, state = layer(np.random.normal(size=(BATCH, TIME, 2)).astype("float32"))
    np.testing.assert_allclose(ops.convert_to_numpy(output), 2 * ops.convert_to_numpy(state))


def test_another_cell_is_refused_with_the_way_out():
    with pytest.raises(SettingError, match=r"GRUCell.*keras\.layers\.RNN"):
        Recurrent(keras.layers.GRUCell(3))


@pytest.mark.parametrize("count", [1, 3])
def test_the_wrong_number_of_states_is_refused_by_name(count):
    x = np.zeros((BATCH, TIME, 2), "float32")
    states = [np.zeros((BATCH, UNITS), "float32")] * count
    layer = PeepholeLSTM(UNITS)
    with pytest.raises(SettingError, match=rf"states has {count} entries; expected 2 .*hidden \(batch, 4\), cell"):
        layer(x, initial_state=states)
    layer.build(x.shape)
    with pytest.raises(SettingError, match=rf"states has {count} entries; expected 2"):
        layer.cell(x[:, 0], states)


@pytest.mark.parametrize("shape", [(BATCH, UNITS + 1), (BATCH,), (BATCH, UNITS, 1)])
def test_a_state_of_the_wrong_shape_is_refused_with_the_right_one(shape):
    x = np.zeros((BATCH, TIME, 2), "float32")
    states = [np.zeros((BATCH, UNITS), "float32"), np.zeros(shape, "float32")]
    layer = PeepholeLSTM(UNITS)
    with pytest.raises(SettingError, match=r"state 1 of states has the shape .*hidden \(batch, 4\), cell \(batch, 4\)"):
        layer(x, initial_state=states)
    layer.build(x.shape)
    with pytest.raises(SettingError, match=r"state 1 of states has the shape"):
        layer.cell(x[:, 0], states)


def test_the_step_of_an_unbuilt_cell_is_refused_with_the_way_out():
    with pytest.raises(SettingError, match=r"has no weights yet.*cell\.build"):
        PeepholeLSTMCell(UNITS).step(np.zeros((BATCH, 4 * UNITS), "float32"), np.zeros((2, BATCH, UNITS), "float32"))


@pytest.mark.parametrize("states", [[None, None], [0.5, 1.0], "ab"])
def test_states_that_are_no_arrays_are_refused(states):
    with pytest.raises(SettingError, match=r"expected.* hidden \(batch, 4\), cell \(batch, 4\)"):
        PeepholeLSTM(UNITS)(np.zeros((BATCH, TIME, 2), "float32"), initial_state=states)


@pytest.mark.parametrize("shape", [(BATCH, 2), (BATCH, UNITS, TIME, 2)])
def test_what_is_no_batch_of_sequences_is_refused_with_its_shape(shape):
    """Of four axes some layers would make something: states that are added to the wrong axis."""
    for layer in (PeepholeLSTM(UNITS), IndRNN(UNITS), Recurrent(PeepholeLSTMCell(UNITS))):
        if len(shape) == 4 and type(layer) is Recurrent:
            continue  # a cell of the user's may take pictures
        for given in (np.zeros(shape, "float32"), keras.Input(shape[1:])):
            with pytest.raises(ValueError, match=rf"expected.*ndim=3, found ndim={len(shape)}"):
                layer(given)
