"""One step of any recurrent layer, split where it can be, for the exporters that build the loop around it."""

import contextlib

import keras
import tensorflow as tf
from keras import ops

from zoo import layers
from zoo.errors import ExportError
from zoo.export.rules import folded, takes_steps


class Stepper:
    """A recurrent layer as a projection of all inputs and a step over one of them, at inference.

    What does not depend on the past is taken out of the loop, for the zoo's cells by their contract and for Keras'
    LSTM, GRU and SimpleRNN by their formulas; any other cell's step is its `call`.

    Args:
        layer: a built RNN layer.
        initial_state: its initial state, in the structure that the cell has.
        cell: what `folded` gave for its cell before the trace began, in which no variables can be made; its cell as it
            is if left out.
    """

    def __init__(self, layer, initial_state, cell=None):
        self.layer, self._structure = layer, initial_state
        self.cell = cell or layer.cell
        self._project, self._step = _split(self.cell)

    def scanned(self, sequences, mask):
        """Return what each step reads, a list of tensors (time, batch, ...): the projected inputs, and the mask."""
        x = time_first(sequences)
        if self._project is not None:
            steps, batch = tf.shape(x)[0], tf.shape(x)[1]
            rows = self._project(tf.reshape(x, [-1, *x.shape[2:]]))
            known = [n if n is not None else size for n, size in zip(x.shape[:2], (steps, batch), strict=True)]
            projected = tf.reshape(rows, [*known, *rows.shape[1:]])
            projected.set_shape([*x.shape[:2], *rows.shape[1:]])
            x = projected
        if mask is None:
            return [x]
        return [x, time_first(tf.cast(keras.tree.flatten(mask)[0], tf.bool))]

    def step(self, previous, states, now):
        """Take one step.

        Args:
            previous: the output of the step before.
            states: flat list.
            now: one time step of what `scanned` returned.

        Returns:
            The output as the layer shows it, and the flat list of new states.
        """
        output, new_states = self._step(now[0], keras.tree.pack_sequence_as(self._structure, states))
        new_states = keras.tree.flatten(new_states)
        if len(now) > 1:
            output = _where(now[1], output, tf.zeros_like(output) if self.layer.zero_output_for_mask else previous)
            new_states = [_where(now[1], new, old) for new, old in zip(new_states, states, strict=True)]
        return output, new_states

    def zero_output(self, scanned):
        """Return zeros like the output; shaped like a state where one has its shape, or as the cell says: no step."""
        states = keras.tree.flatten(self._structure)
        if isinstance(self.cell, layers.Cell):
            output = self.cell.get_initial_output(tf.shape(scanned[0])[1])
        else:
            output, _ = self.step(None, states, [scanned[0][0]])
        for state in states:
            shape = state.shape[1:]
            if shape == output.shape[1:] and shape.is_fully_defined() and state.dtype == output.dtype:
                return tf.zeros_like(state)
        return tf.zeros_like(output)


@contextlib.contextmanager
def steps_replaced(uses, plan):
    """Within this context the layers that `plan` unrolls, or that take one step, trace to steps one after the other.

    Raises:
        ExportError: a layer whose number of steps is unknown, is not one for the form `step`, or that has a loop of its
            own.
    """
    chosen = [use for use in uses if plan.form(use) in ("unrolled", "step")]
    for use in chosen:
        steps, form = use.shape[1], plan.form(use)
        if steps is None:
            raise ExportError(f"{use.path} is to be {form}, which needs a known number of steps; give time_steps=")
        if form == "step" and steps != 1:
            raise ExportError(f"{use.path} is to be one step and gets {steps}; let it be a loop, or give time_steps=1")
        if not takes_steps(use.layer):
            raise ExportError(f"{use.path} cannot be {form}: its class has a loop of its own; let it be a loop")
    for use in chosen:
        use.layer.inner_loop = _steps_in_a_row(use.layer, folded(use.layer.cell))
    try:
        yield
    finally:
        for use in chosen:
            del use.layer.inner_loop  # the class's own shows again


def _steps_in_a_row(layer, cell):
    """Return a function with the face of `layer.inner_loop` that takes every step of `cell` in its own ops."""

    def inner_loop(sequences, initial_state, mask, training=False):
        stepper = Stepper(layer, initial_state, cell)
        scanned = stepper.scanned(sequences, mask)
        steps = list(zip(*[tf.unstack(x) for x in scanned], strict=True))
        previous, states, outputs = stepper.zero_output(scanned), tf.nest.flatten(initial_state), []
        for now in reversed(steps) if layer.go_backwards else steps:
            previous, states = stepper.step(previous, states, list(now))
            outputs.append(previous)
        return previous, tf.stack(outputs, axis=1), tf.nest.pack_sequence_as(initial_state, states)

    return inner_loop


def time_first(x):
    """Swap the first two axes: (batch, time, ...) to (time, batch, ...) and back."""
    return tf.transpose(x, [1, 0, *range(2, len(x.shape))])


def _where(mask, new, old):
    return tf.where(tf.reshape(mask, [-1] + [1] * (len(new.shape) - 1)), new, old)


def _split(cell):
    """Return (project, step) of a cell; project is None where the step takes the input as it is."""
    if isinstance(cell, layers.Cell):
        return cell.project, cell.step
    if type(cell) in _SPLITS:
        return _SPLITS[type(cell)](cell)
    arguments = {"training": False} if isinstance(cell, keras.layers.Layer) and cell._call_has_training_arg else {}
    return None, lambda x, states: cell(x, states, **arguments)


def _dense(cell, bias):
    def project(x):
        projected = ops.matmul(x, cell.kernel)
        return projected if bias is None else projected + bias

    return project


def _simple_rnn(cell):
    def step(projected, states):
        hidden = cell.activation(projected + ops.matmul(states[0], cell.recurrent_kernel))
        return hidden, [hidden]

    return _dense(cell, cell.bias), step


def _lstm(cell):
    def step(projected, states):
        hidden, memory = states
        i, f, c, o = ops.split(projected + ops.matmul(hidden, cell.recurrent_kernel), 4, axis=-1)
        memory = cell.recurrent_activation(f) * memory + cell.recurrent_activation(i) * cell.activation(c)
        hidden = cell.recurrent_activation(o) * cell.activation(memory)
        return hidden, [hidden, memory]

    return _dense(cell, cell.bias), step


def _gru(cell):
    units, kernel = cell.units, cell.recurrent_kernel
    two_biases = cell.use_bias and cell.reset_after

    def step(projected, states):
        hidden = states[0]
        x_z, x_r, x_h = ops.split(projected, 3, axis=-1)
        if cell.reset_after:
            recurrent = ops.matmul(hidden, kernel)
            if two_biases:
                recurrent = recurrent + cell.bias[1]
            h_z, h_r, h_h = ops.split(recurrent, 3, axis=-1)
        else:
            h_z, h_r = ops.split(ops.matmul(hidden, kernel[:, : 2 * units]), 2, axis=-1)
        z, r = cell.recurrent_activation(x_z + h_z), cell.recurrent_activation(x_r + h_r)
        candidate = r * h_h if cell.reset_after else ops.matmul(r * hidden, kernel[:, 2 * units :])
        hidden = z * hidden + (1 - z) * cell.activation(x_h + candidate)
        return hidden, [hidden]

    return _dense(cell, cell.bias[0] if two_biases else cell.bias), step


_SPLITS = {
    keras.layers.SimpleRNNCell: _simple_rnn,
    keras.layers.LSTMCell: _lstm,
    keras.layers.GRUCell: _gru,
}
