"""Cells on top of each other, as one cell."""

import keras

from zoo.errors import SettingError
from zoo.layers.cell import Cell, project, project_within_step, state_sizes
from zoo.layers.cell_wrapper import check_cell


@keras.saving.register_keras_serializable("zoo")
class StackedCells(Cell):
    """Cells on top of each other within one time step.

    For a stack that runs in one loop: to feed its output back at each step, or to export it as one. Only the first
    cell's inputs are known before the loop, so that the projections of the others are part of the step; layers in a
    row, `Recurrent(first)` then `Recurrent(second)`, project all steps at once.

        y_0[t] = x[t];  y_i[t], s_i[t] = cell_i(y_i-1[t], s_i[t-1])

    Args:
        cells: list of `Cell`, the first reads the inputs.

    Call arguments:
        inputs: those of the first cell.
        states: the states of all cells, the first cell's first, in one list.

    Returns:
        The output of the last cell, and the list of new states.

    Raises:
        SettingError: `cells` is empty, or holds something else than a `Cell`.

    Example:
        >>> cell = StackedCells([LSTMCell(4), GRUCell(3)])
        >>> cell.state_names
        ('hidden_0', 'cell_0', 'hidden_1')
        >>> tuple(Recurrent(cell)(np.ones((2, 7, 5))).shape)
        (2, 3)
    """

    def __init__(self, cells, **kwargs):
        if not isinstance(cells, (list, tuple)) or not cells:
            raise SettingError(f"cells is {cells!r}; expected a list of at least one zoo Cell")
        for i, cell in enumerate(cells):
            check_cell(cell, f"cells[{i}]")
        super().__init__(**{**kwargs, "dtype": kwargs.get("dtype") or cells[0].dtype_policy})
        self.cells = list(cells)
        self.state_size = [size for cell in cells for size in state_sizes(cell)]
        self.state_names = tuple(f"{name}_{i}" for i, cell in enumerate(cells) for name in cell.state_names)
        self.output_size = cells[-1].output_size

    def build(self, input_shape):
        for cell in self.cells:
            if not cell.built:
                cell.build(input_shape)
            size = cell.output_size
            input_shape = (input_shape[0], *(size if isinstance(size, (list, tuple)) else (size,)))

    @property
    def project_weights(self):
        return self.cells[0].project_weights

    @property
    def recur_weights(self):
        return [weight for cell in self.cells for weight in cell.recur_weights]

    @property
    def advance_weights(self):
        return [*self.cells[0].advance_weights, *(w for cell in self.cells[1:] for w in _weights_of_upper(cell))]

    @property
    def prunable_weights(self):
        return [weight for cell in self.cells for weight in cell.prunable_weights]

    def draw_noise(self, steps, batch_size):
        noise = [cell.draw_noise(steps, batch_size) for cell in self.cells]
        return None if all(part is None for part in noise) else noise

    def project(self, inputs, noise=None):
        return project(self.cells[0], inputs, None if noise is None else noise[0])

    def recall(self, states, noise):
        states = iter(states)
        recalled = []
        for cell, part in zip(self.cells, noise, strict=True):
            own = [next(states) for _ in state_sizes(cell)]
            recalled += own if part is None else cell.recall(own, part)
        return recalled

    def recur(self, states, weights):
        states, weights = iter(states), iter(weights)
        return [
            cell.recur([next(states) for _ in state_sizes(cell)], [next(weights) for _ in cell.recur_weights])
            for cell in self.cells
        ]

    def advance(self, projected, recurrent, states, weights, noise=None):
        states, weights, new_states, output = iter(states), iter(weights), [], None
        for i, cell in enumerate(self.cells):
            part = None if noise is None else noise[i]
            own_weights = [next(weights) for _ in cell.advance_weights]
            if i > 0:
                projected = project_within_step(cell, output, [next(weights) for _ in cell.project_weights], part)
            own_states = [next(states) for _ in state_sizes(cell)]
            output, new = cell.advance(projected, recurrent[i], own_states, own_weights, part)
            new_states += new
        return output, new_states

    def get_initial_state(self, batch_size=None):
        return [state for cell in self.cells for state in cell.get_initial_state(batch_size)]

    def get_config(self):
        return {**super().get_config(), "cells": [keras.saving.serialize_keras_object(cell) for cell in self.cells]}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "cells": [keras.saving.deserialize_keras_object(cell) for cell in config["cells"]]})


def _weights_of_upper(cell):
    return [*cell.advance_weights, *cell.project_weights]
