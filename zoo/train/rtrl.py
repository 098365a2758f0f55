"""Real-time recurrent learning: the gradient of the past carried forward, so that no past has to be kept."""

import keras
import numpy as np
from keras import ops

from zoo.errors import SettingError
from zoo.layers.cell import as_tensors, check_built, state_sizes
from zoo.layers.cell_wrapper import check_cell
from zoo.train.autodiff import compiled, jacobians

_FORMS = ("full", "elementwise")
_ROWS_OF_PROOF = 4


class RTRL:
    """Exact gradients of a cell over a sequence of any length, one step at a time.

    The influence J[t] is what each weight has done to each state so far, the total derivative ds[t] / dw. It is carried
    along with the states, and turns the gradient of a step's loss into that of the weights:

        J[t] = D[t] J[t-1] + I[t]         D[t] = ds[t] / ds[t-1],  I[t] = ds[t] / dw with s[t-1] as given
        dL[t] / dw = (dL[t] / ds[t-1]) J[t-1] + dL[t] / dw with s[t-1] as given

    Summed over the steps this is the gradient of back-propagation through time, all of it. What it costs is the form:

        full           any cell. n states and P weights: memory n P for each row, a step costs n times its backward pass
                       and a product of n n P: for tens of units, and as what others are held against.
        elementwise    cells where a unit's next states depend on its own states alone, and the last axis of each weight
                       is the unit's, once or in blocks: IndRNN, MinGRU, MinLSTM, LIF without recurrence. A weight then
                       acts on one unit: memory P for each state of a unit, a step costs about two backward passes.

    Which one a cell allows is found out by its derivatives at random points. A step is the cell's step at inference:
    nothing is random in it, and norms are those of the statistics. All methods are functions of tensors, without side
    effects, so that they can be compiled.

    Args:
        cell: built `zoo.layers.Cell`.
        form: "full" or "elementwise"; None takes the second if the cell allows it.

    Raises:
        SettingError: `cell` is no built `Cell` with trainable weights, or `form` is none, or not one that it allows.

    Example:
        >>> cell = layers.IndRNNCell(3)
        >>> cell.build((None, 2))
        >>> rtrl = RTRL(cell)
        >>> weights, states, influence = rtrl.weights(), cell.get_initial_state(1), rtrl.start(1)
        >>> _, states, influence = rtrl.step(np.ones((1, 2), "float32"), states, influence, weights)
        >>> rtrl.form, [tuple(each.shape) for each in influence]  # (rows, states of a unit, shape of the weight)
        ('elementwise', [(1, 1, 2, 3), (1, 1, 3), (1, 1, 3)])

    Reference:
        R. Williams, D. Zipser, "A learning algorithm for continually running fully recurrent neural networks", Neural
        Computation 1(2), 1989
        M. Mozer, "A focused backpropagation algorithm for temporal pattern recognition", Complex Systems 3, 1989: the
        elementwise form
    """

    def __init__(self, cell, form=None):
        check_cell(cell, "cell")
        check_built(cell)
        if form not in (None, *_FORMS):
            raise SettingError(f"form is {form!r}; expected one of {', '.join(_FORMS)}, or None")
        if not cell.trainable_variables:
            raise SettingError(f"cell {cell.name} has no trainable weights; there is nothing to learn in it")
        if cell.compute_dtype != cell.variable_dtype:
            raise SettingError(
                f"cell {cell.name} computes in {cell.compute_dtype}, in which an influence carried on would be lost; "
                "expected float32 or float64"
            )
        self.cell, self._sizes = cell, state_sizes(cell)
        if not all(isinstance(size, int) for size in self._sizes):
            raise SettingError(f"cell {cell.name} has states of shape {self._sizes}; expected vectors")
        allowed = form != "full" and self._is_elementwise()
        if form == "elementwise" and not allowed:
            raise SettingError(
                f"form is 'elementwise', and in cell {cell.name} ({type(cell).__name__}) units depend on the states of "
                "others: take 'full' or None"
            )
        self.form = "elementwise" if allowed else "full"

    def weights(self):
        """Return the values of the cell's trainable weights, a list of tensors."""
        return as_tensors(self.cell.trainable_variables)

    def start(self, rows):
        """Return the influence before the first step: zeros, one for each weight."""
        states = len(self._sizes) if self.form == "elementwise" else sum(self._sizes)
        return [ops.zeros((rows, states, *w.shape), self.cell.compute_dtype) for w in self.cell.trainable_variables]

    def run(self, inputs, states, weights):
        """Return (output, new states) of the cell with these weights: inputs (rows, features), states a list."""
        with keras.StatelessScope(state_mapping=list(zip(self.cell.trainable_variables, weights, strict=True))):
            return self.cell(inputs, states)

    def step(self, inputs, states, influence, weights):
        """Return (output, new states, new influence) of one step."""
        kept = len(states)

        def whole(arguments):
            output, new_states = self.run(inputs, arguments[:kept], arguments[kept:])
            sums = self._summed(new_states) if self.form == "elementwise" else ops.concatenate(new_states, axis=-1)
            return sums, (output, new_states)

        (output, new_states), found = jacobians(whole, [*states, *weights])
        # (rows, n, rows, size): rows do not depend on each other, so that the sum takes each row's own
        past = [ops.sum(each, axis=2) for each in found[:kept]]
        carry = self._carry_by_unit if self.form == "elementwise" else self._carry
        return output, new_states, [carry(past, now, old) for now, old in zip(found[kept:], influence, strict=True)]

    def gradients(self, state_gradients, influence):
        """Return what reaches each weight through the states, from a loss' gradient for each state, (rows, size)."""
        if self.form == "full":
            joined = ops.concatenate(state_gradients, axis=-1)
            return [ops.tensordot(joined, each, axes=2) for each in influence]
        of_units = ops.stack(state_gradients, axis=1)  # (rows, states, units)
        return [ops.sum(_spread(of_units, each.shape[2:]) * each, axis=(0, 1)) for each in influence]

    @staticmethod
    def _carry(past, now, old):
        past = ops.concatenate(past, axis=-1)  # (rows, n, n)
        return now + ops.reshape(ops.matmul(past, ops.reshape(old, (*old.shape[:2], -1))), old.shape)

    @staticmethod
    def _carry_by_unit(past, now, old):
        past = ops.stack(past, axis=2)  # (rows, states, states, units)
        return now + ops.sum(_spread(past, old.shape[2:]) * ops.expand_dims(old, 1), axis=2)

    @staticmethod
    def _summed(states, factors=1.0):
        """Sum each state over its units: as a weight acts on one unit, the sum's derivative is that unit's."""
        return ops.stack([ops.sum(factors * state, axis=-1) for state in states], axis=1)

    def _is_elementwise(self):
        """Whether the derivative of a weighted sum over the units is each unit's, times its factor."""
        units = self._sizes[0]
        shapes = [tuple(variable.shape) for variable in self.cell.trainable_variables]
        if any(size != units for size in self._sizes) or any(not shape or shape[-1] % units for shape in shapes):
            return False
        random, kept = np.random.default_rng(0), len(self._sizes)

        def normal(shape):
            return ops.convert_to_tensor(random.normal(size=shape), dtype=self.cell.compute_dtype)

        # random weights: ones that start at zero would hide what they connect
        states = [normal((_ROWS_OF_PROOF, units)) for _ in self._sizes]
        features = self.cell.get_build_config()["input_shape"][1:]
        inputs, factors = normal((_ROWS_OF_PROOF, *features)), normal((units,))
        arguments = [*states, *(normal(shape) for shape in shapes)]

        @compiled
        def derivatives(factors):
            def summed(arguments):
                return self._summed(self.run(inputs, arguments[:kept], arguments[kept:])[1], factors), ()

            return jacobians(summed, arguments)[1]

        for plain, weighted in zip(derivatives(ops.ones_like(factors)), derivatives(factors), strict=True):
            plain, weighted = (ops.convert_to_numpy(ops.cast(each, "float32")) for each in (plain, weighted))
            expected = plain * np.tile(ops.convert_to_numpy(factors), plain.shape[-1] // units)
            # the same products in another order, in the cell's precision
            if not np.allclose(weighted, expected, rtol=1e-3, atol=1e-3 * (1e-6 + np.abs(expected).max())):
                return False
        return True


def _spread(of_units, shape):
    """Give each entry of a weight of `shape` what is its unit's: (..., units) -> (..., 1, ..., units x blocks)."""
    blocks = shape[-1] // of_units.shape[-1]
    tiled = ops.concatenate([of_units] * blocks, axis=-1) if blocks > 1 else of_units
    return ops.reshape(tiled, (*tiled.shape[:-1], *[1] * (len(shape) - 1), shape[-1]))
