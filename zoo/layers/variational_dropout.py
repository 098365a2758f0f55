"""Dropout with one mask for a whole sequence."""

import keras
from keras import ops

from zoo import checks
from zoo.errors import SettingError
from zoo.layers.cell import check_rate, state_sizes
from zoo.layers.cell_wrapper import CellWrapper


@keras.saving.register_keras_serializable("zoo")
class VariationalDropout(CellWrapper):
    """Drop the same inputs and the same states at every step of a sequence.

    A mask drawn anew at each step wears a memory away; one mask for the whole sequence, another for each row, is a
    sample of a network with fewer units, and the states survive. The states are masked where the cell multiplies them
    with its recurrent kernel, and not where they are carried on.

        x'[t] = x[t] * m_x / (1 - input_rate)         to the cell's input projection
        h'[t] = h[t] * m_h / (1 - state_rate)         to the cell's recurrent product
        m_x, m_h = 0 with probability input_rate, state_rate, else 1; all 1 and undivided at inference

    Args:
        cell: `Cell`.
        input_rate: probability that an input is dropped, below 1.
        state_rate: probability that a unit of a state is dropped, below 1.
        seed: int, or None for another one each time.

    Call arguments:
        inputs, states: those of `cell`.

    Returns:
        The output and the list of states of `cell`.

    Raises:
        SettingError: `cell` is no `Cell`; a rate is not in [0, 1); a `state_rate` for a cell without recurrent product.

    Example:
        >>> layer = Recurrent(VariationalDropout(LSTMCell(3), input_rate=0.2, state_rate=0.3))
        >>> tuple(layer(np.ones((2, 7, 5)), training=True).shape)
        (2, 3)

    Reference:
        Y. Gal, Z. Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks",
        NeurIPS 2016, https://arxiv.org/abs/1512.05287
    """

    def __init__(self, cell, input_rate=0.0, state_rate=0.0, seed=None, **kwargs):
        super().__init__(cell, **kwargs)
        for name, rate in (("input_rate", input_rate), ("state_rate", state_rate)):
            if check_rate(rate, name) == 1:
                raise SettingError(f"{name} is 1; expected a probability below 1, which leaves something to learn from")
        self.input_rate, self.state_rate, self.seed = float(input_rate), float(state_rate), checks.seed(seed)
        self._seeds = keras.random.SeedGenerator(self.seed)

    def build(self, input_shape):
        super().build(input_shape)
        self._input_shape = tuple(input_shape[1:])
        if self.state_rate and not self.recur_weights:
            name = type(self.cell).__name__
            raise SettingError(f"state_rate is {self.state_rate}; {name} has no recurrent product to drop states of: 0")

    def draw_own_noise(self, steps, batch_size):
        """The mask of the inputs (1, batch, features...) and the list of those of the states (1, batch, size)."""
        inputs = self._mask((1, batch_size, *self._input_shape), self.input_rate)
        return [inputs, [self._mask((1, batch_size, size), self.state_rate) for size in state_sizes(self)]]

    def _mask(self, shape, rate):
        if rate == 0:
            return None
        kept = keras.random.uniform(shape, dtype="float32", seed=self._seeds) >= rate
        return ops.cast(kept, self.compute_dtype) / (1 - rate)

    def project(self, inputs, noise=None):
        if noise is not None and noise[1][0] is not None:
            mask = noise[1][0]  # (1, batch, features...), the rows are (time x batch, features...)
            timed = ops.reshape(inputs, (-1, ops.shape(mask)[1], *self._input_shape))
            inputs = ops.reshape(timed * mask, (-1, *self._input_shape))
        return super().project(inputs, noise)

    def recall(self, states, noise):
        masks = noise[1][1]
        states = [state if mask is None else state * mask for state, mask in zip(states, masks, strict=True)]
        return super().recall(states, noise)

    def fold(self):
        """Return what the cell folds to: without training nothing is dropped."""
        return self.cell.fold()

    def get_config(self):
        own = {"input_rate": self.input_rate, "state_rate": self.state_rate, "seed": self.seed}
        return {**super().get_config(), **own}
