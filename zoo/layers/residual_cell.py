"""A cell whose output adds to its input."""

import keras
from keras import ops

from zoo.errors import SettingError
from zoo.layers.cell_wrapper import CellWrapper


@keras.saving.register_keras_serializable("zoo")
class ResidualCell(CellWrapper):
    """Add the inputs to the output of a cell, which then learns the difference only.

    Gradients reach the layers below without passing through the cell, so that many of them can be stacked. The states
    stay those of the cell.

        output[t] = x[t] + cell(x[t], states[t-1])

    Args:
        cell: `Cell`, as wide as its inputs.

    Call arguments:
        inputs, states: those of `cell`.

    Returns:
        The sum (batch, features), and the list of states of `cell`.

    Raises:
        SettingError: `cell` is no `Cell`; its output is not as wide as the inputs.

    Example:
        >>> layer = Recurrent(StackedCells([GRUCell(8), ResidualCell(GRUCell(8)), ResidualCell(GRUCell(8))]))
        >>> tuple(layer(np.ones((2, 7, 5))).shape)
        (2, 8)

    Reference:
        Y. Wu et al., "Google's neural machine translation system", 2016, https://arxiv.org/abs/1609.08144
    """

    def build(self, input_shape):
        if self.output_size != input_shape[-1]:
            raise SettingError(
                f"cell has outputs of width {self.output_size}, its inputs {input_shape[-1]}; "
                "expected the same width, as they are added"
            )
        super().build(input_shape)

    def project(self, inputs, noise=None):
        return ops.concatenate([super().project(inputs, noise), inputs], axis=-1)  # the inputs ride along

    def advance(self, projected, recurrent, states, weights, noise=None):
        width = self.output_size
        output, states = super().advance(projected[..., :-width], recurrent, states, weights, noise)
        return output + projected[..., -width:], states
