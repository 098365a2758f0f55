"""The contract of a recurrent cell: one time step, split where speed and export need it."""

import contextlib
from numbers import Real

import keras
from keras import ops
from keras.src.backend import AutocastScope

from zoo import checks
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

    What is random in training comes from `draw_noise`, once before the loop, so that the backward pass replays the very
    same steps. `project` of a cell that draws noise takes it as a second argument, `recall` and `advance` get their
    step of it; without training there is none, and nothing of it is computed.

    Every cell also works in `keras.layers.RNN`, where each step draws its own noise; one that draws noise is trained in
    `Recurrent`, as on JAX no seed can advance inside a loop.
    """

    state_names = ("hidden",)

    def project(self, inputs):
        """Return what the step needs of the inputs, (rows, features...) -> (rows, ...).

        The rows are a batch, or many time steps of one, the first step's first. A cell that draws noise is called with
        the whole of it as the second argument in training.
        """
        raise NotImplementedError(f"{type(self).__name__}.project")

    def recall(self, states, noise):
        """Return the states as `recur` reads them in training, in all steps at once too; by default as they are."""
        return states

    def recur(self, states, weights):
        """Return what the past adds, from the list of states and the tensors of `recur_weights`; None if nothing.

        It is one tensor, or a nested list of tensors and None.
        """
        return None

    def advance(self, projected, recurrent, states, weights, noise=None):
        """Return (output, new states), from the tensors of `advance_weights` and one step of `draw_noise`."""
        raise NotImplementedError(f"{type(self).__name__}.advance")

    @property
    def project_weights(self):
        """The variables that `project` reads; unless overridden, those that neither `recur` nor `advance` reads."""
        others = {id(weight) for weight in [*self.recur_weights, *self.advance_weights]}
        return [weight for weight in self.weights if id(weight) not in others]

    @property
    def recur_weights(self):
        """The variables that `recur` reads."""
        return []

    @property
    def advance_weights(self):
        """The variables that `advance` reads."""
        return []

    @property
    def prunable_weights(self):
        """The variables that pruning may set zeros in; unless overridden, the trainable ones named `...kernel`."""
        return [weight for weight in self.trainable_weights if weight.name.endswith("kernel")]

    def draw_noise(self, steps, batch_size):
        """Return what is random in `steps` training steps, or None for a cell without chance.

        It is a tensor, or a nested list of tensors and None, each (steps, batch, ...), or (1, batch, ...) where all
        steps share it.
        """
        return None

    def call(self, inputs, states, training=False):
        check_built(self)
        noise = self.draw_noise(1, ops.shape(inputs)[0]) if training else None
        return self.step(project(self, inputs, noise), states, step_of(noise))

    def step(self, projected, states, noise=None):
        """Return (output, new states) for one projected input; the whole of a step but the projection."""
        check_built(self)
        states = list(states) if isinstance(states, (list, tuple)) else [states]
        check_states(self, states, keras.tree.flatten(projected)[0].shape[0])
        recalled = states if noise is None else self.recall(states, noise)
        recurrent = self.recur(recalled, as_tensors(self.recur_weights))
        return self.advance(projected, recurrent, states, as_tensors(self.advance_weights), noise)

    def fold(self):
        """Return the plain cell that computes the same at inference, such as Keras' `LSTMCell`; by default itself.

        Exporters take it in place of the cell, with the weights that it has at the time.
        """
        return self

    def get_initial_state(self, batch_size=None):
        return [ops.zeros((batch_size, size), dtype=self.compute_dtype) for size in state_sizes(self)]

    def get_initial_output(self, batch_size):
        """Return zeros like the output of `advance`: what stands before the first step."""
        size = self.output_size
        return ops.zeros((batch_size, *(size if isinstance(size, (list, tuple)) else (size,))), self.compute_dtype)


def with_weights(plain, cell):
    """Return the Keras cell `plain`, built, with the weights of the zoo's `cell`, which has the same."""
    check_built(cell)
    if not cell.built:
        raise SettingError(f"cell {cell.name} has no weights yet; build it first: cell.build((None, features))")
    plain.build((None, cell.kernel.shape[0]))
    plain.set_weights([ops.convert_to_numpy(weight) for weight in cell.weights])
    return plain


def project(cell, inputs, noise):
    """Return the cell's projection of inputs, with its noise if there is any."""
    return cell.project(inputs) if noise is None else cell.project(inputs, noise)


def project_within_step(cell, inputs, values, noise):
    """Project in `advance` of a cell around `cell`, whose `project_weights` have these values.

    `project` reads the cell's own variables, so they stand for the values meanwhile. The noise is that of one step.
    """
    noise = keras.tree.map_structure(lambda part: None if part is None else ops.expand_dims(part, 0), noise)
    with reading(cell, cell.project_weights, values):
        return project(cell, inputs, noise)


@contextlib.contextmanager
def reading(cell, variables, values):
    """A context within which reading `variables` gives `values`, in the dtype that `cell` computes in.

    A gradient is taken after the layer's call, when Keras no longer casts variables to that dtype by itself; it has no
    public name for the scope that does.
    """
    scope = keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True)))
    with AutocastScope(cell.compute_dtype), scope:
        yield


def step_of(noise, t=0):
    """Return what `draw_noise` gave for step `t`."""
    return keras.tree.map_structure(lambda part: None if part is None else part[t], noise)


def as_tensors(variables):
    """Return the values of variables, in the dtype that the layer computes in."""
    return [ops.copy(variable) for variable in variables]  # on TensorFlow a conversion would leave it a variable


def state_sizes(cell):
    """Return the sizes of a cell's states, a list."""
    return list(cell.state_size) if isinstance(cell.state_size, (list, tuple)) else [cell.state_size]


def check_built(cell):
    """Raise SettingError unless `cell` has its weights."""
    if not cell.built:
        raise SettingError(f"cell {cell.name} has no weights yet; build it first: cell.build((None, features))")


def check_states(cell, states, batch_size=None):
    """Raise SettingError unless `states` are as many as the cell has, each (batch, size), with these rows."""
    sizes = state_sizes(cell)
    expected = ", ".join(f"{name} (batch, {size})" for name, size in zip(cell.state_names, sizes, strict=False))
    if len(states) != len(sizes):
        raise SettingError(f"states has {len(states)} entries; expected {len(sizes)} of {cell.name}: {expected}")
    for i, (state, size) in enumerate(zip(states, sizes, strict=True)):
        shape = tuple(getattr(state, "shape", ()))
        wanted = tuple(size) if isinstance(size, (list, tuple)) else (size,)
        if len(shape) != 1 + len(wanted) or any(
            n not in (None, w) for n, w in zip(shape[1:], wanted, strict=True) if w is not None
        ):
            raise SettingError(f"state {i} of states has the shape {shape}; expected for {cell.name}: {expected}")
        if None not in (batch_size, shape[0]) and shape[0] != batch_size:
            raise SettingError(f"state {i} of states has the shape {shape}; expected {batch_size} rows, as the inputs")


def check_units(units, name="units"):
    """Return `units` if it is a positive whole number, else raise SettingError."""
    return checks.whole(units, name)


def check_rate(rate, name):
    """Return `rate` if it is a probability, else raise SettingError."""
    if isinstance(rate, bool) or not isinstance(rate, Real) or not 0 <= rate <= 1:
        raise SettingError(f"{name} is {rate!r}; expected a probability from 0 to 1")
    return float(rate)
