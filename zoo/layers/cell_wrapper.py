"""A cell around a cell."""

import keras

from zoo.errors import SettingError
from zoo.layers.cell import Cell, project


class CellWrapper(Cell):
    """A cell that changes something of another: everything not overridden is the inner cell's.

    A subclass with chance of its own overrides `draw_own_noise`; its noise is then the list [inner's, own].

    Args:
        cell: `Cell`; the wrapper computes in its dtype.

    Raises:
        SettingError: `cell` is no `Cell`.
    """

    def __init__(self, cell, **kwargs):
        check_cell(cell, "cell")
        super().__init__(**{**kwargs, "dtype": kwargs.get("dtype") or cell.dtype_policy})
        self.cell = cell
        self.state_size, self.output_size, self.state_names = cell.state_size, cell.output_size, cell.state_names

    def build(self, input_shape):
        if not self.cell.built:
            self.cell.build(input_shape)

    @property
    def project_weights(self):
        return self.cell.project_weights

    @property
    def recur_weights(self):
        return self.cell.recur_weights

    @property
    def advance_weights(self):
        return self.cell.advance_weights

    @property
    def prunable_weights(self):
        return self.cell.prunable_weights

    def draw_noise(self, steps, batch_size):
        noise = [self.cell.draw_noise(steps, batch_size), self.draw_own_noise(steps, batch_size)]
        return None if all(part is None for part in noise) else noise

    def draw_own_noise(self, steps, batch_size):
        """Return what the wrapper itself draws, as `draw_noise`."""
        return None

    def project(self, inputs, noise=None):
        return project(self.cell, inputs, None if noise is None else noise[0])

    def recall(self, states, noise):
        return states if noise[0] is None else self.cell.recall(states, noise[0])

    def recur(self, states, weights):
        return self.cell.recur(states, weights)

    def advance(self, projected, recurrent, states, weights, noise=None):
        return self.cell.advance(projected, recurrent, states, weights, None if noise is None else noise[0])

    def get_initial_state(self, batch_size=None):
        return self.cell.get_initial_state(batch_size)

    def get_config(self):
        return {**super().get_config(), "cell": keras.saving.serialize_keras_object(self.cell)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "cell": keras.saving.deserialize_keras_object(config["cell"])})


def check_cell(cell, name):
    """Raise SettingError unless `cell` is a `Cell`."""
    if not isinstance(cell, Cell):
        raise SettingError(f"{name} is a {type(cell).__name__}; expected a zoo Cell, such as zoo.layers.LSTMCell")
