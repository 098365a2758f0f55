"""The contract of a recurrent cell: one time step, split where speed and export need it."""

import keras
from keras import ops

from zoo.errors import SettingError


class Cell(keras.layers.Layer):
    """One step of a recurrent network.

    A step is split into what does not depend on the past, which `Recurrent` computes for all time steps in one matmul,
    what the past adds, and the rest, which is local in time and cheap:

        projected[t] = project(x[t])                        x W + b
        recurrent[t] = recur(states[t-1])                   h U, or None where the past enters locally only
        output[t], states[t] = advance(projected[t], recurrent[t], states[t-1])

    A subclass sets `state_size` (an int, or a list with one for each state) and `output_size` before `build`, creates
    its weights in `build`, and implements the three. `recur` and `advance` read weights from their argument `weights`
    only, never from `self`: the gradient of `Recurrent` needs them as arguments. `recur` must treat the rows of a batch
    independently, as the gradient calls it with all time steps stacked into one batch.

    Every cell also works in `keras.layers.RNN`.
    """

    state_names = ("hidden",)

    def project(self, inputs):
        """Return what the step needs of the inputs, (batch, features...) -> (batch, ...)."""
        raise NotImplementedError(f"{type(self).__name__}.project")

    def recur(self, states, weights):
        """Return what the past adds, from the list of states and the tensors of `recur_weights`; None if nothing."""
        return None

    def advance(self, projected, recurrent, states, weights, noise=None):
        """Return (output, new states), from the tensors of `advance_weights` and one step of `draw_noise`."""
        raise NotImplementedError(f"{type(self).__name__}.advance")

    @property
    def recur_weights(self):
        """The variables that `recur` reads."""
        return []

    @property
    def advance_weights(self):
        """The variables that `advance` reads."""
        return []

    def draw_noise(self, steps, batch_size):
        """Return what is random in `steps` training steps, (steps, batch, ...), or None for a cell without chance.

        It is drawn before the loop and handed to `advance` step by step, so that the backward pass replays the very
        same steps.
        """
        return None

    def call(self, inputs, states, training=False):
        noise = self.draw_noise(1, ops.shape(inputs)[0]) if training else None
        return self.step(self.project(inputs), states, None if noise is None else noise[0])

    def step(self, projected, states, noise=None):
        """Return (output, new states) for one projected input; the whole of a step but the projection."""
        states = list(states) if isinstance(states, (list, tuple)) else [states]
        recurrent = self.recur(states, as_tensors(self.recur_weights))
        return self.advance(projected, recurrent, states, as_tensors(self.advance_weights), noise)

    def get_initial_state(self, batch_size=None):
        sizes = self.state_size if isinstance(self.state_size, (list, tuple)) else [self.state_size]
        return [ops.zeros((batch_size, size), dtype=self.compute_dtype) for size in sizes]


def as_tensors(variables):
    """Return the values of variables, in the dtype that the layer computes in."""
    return [ops.copy(variable) for variable in variables]  # on TensorFlow a conversion would leave it a variable


def check_units(units):
    """Return `units` if it is a positive whole number, else raise SettingError."""
    if not isinstance(units, int) or isinstance(units, bool) or units < 1:
        raise SettingError(f"units is {units!r}; expected a whole number of at least 1")
    return units
