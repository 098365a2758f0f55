"""Zoneout: units that keep their state at random."""

import keras
from keras import ops

from zoo import checks
from zoo.errors import SettingError
from zoo.layers.cell import check_rate, state_sizes
from zoo.layers.cell_wrapper import CellWrapper, check_cell
from zoo.layers.gru_cell import GRUCell
from zoo.layers.lstm_cell import LSTMCell
from zoo.layers.recurrent import SequenceLayer


@keras.saving.register_keras_serializable("zoo")
class Zoneout(CellWrapper):
    """Let each unit of a cell keep its old state with some probability.

    Where dropout forgets, zoneout remembers: state and gradient pass the step unchanged. At inference a unit takes the
    expectation of both.

        training     s[t] = s[t-1] where m[t] else s'[t],     m[t] = 1 with probability rate, for each unit and step
        inference    s[t] = rate * s[t-1] + (1 - rate) * s'[t]

    where s'[t] is what the cell makes of s[t-1] and x[t]. An output that is one of the states, as in LSTM and GRU, is
    that state after zoneout.

    Args:
        cell: `Cell`.
        rates: dict, probability of each of the cell's states by its name, such as {"cell": 0.5, "hidden": 0.05}; a
            state left out has 0.
        seed: int, or None for another one each time.

    Call arguments:
        inputs, states: those of `cell`.

    Returns:
        The output and the list of states, shaped as those of `cell`.

    Raises:
        SettingError: `cell` is no `Cell`; `rates` names a state that it does not have, or is outside [0, 1].

    Example:
        >>> layer = Recurrent(Zoneout(GRUCell(3), {"hidden": 0.1}))
        >>> tuple(layer(np.ones((2, 7, 5)), training=True).shape)
        (2, 3)

    Reference:
        D. Krueger et al., "Zoneout: regularizing RNNs by randomly preserving hidden activations", ICLR 2017,
        https://arxiv.org/abs/1606.01305
    """

    def __init__(self, cell, rates, seed=None, **kwargs):
        check_cell(cell, "cell")
        if not isinstance(rates, dict) or not set(rates) <= set(cell.state_names):
            raise SettingError(f"rates is {rates!r}; expected a rate by the name of a state: {list(cell.state_names)}")
        rates = {name: check_rate(rate, f"rate of {name}") for name, rate in rates.items()}
        super().__init__(cell, **kwargs)
        self.rates, self.seed = rates, checks.seed(seed)
        self._rate_of_state = tuple(rates.get(name, 0.0) for name in cell.state_names)
        self._seeds = keras.random.SeedGenerator(self.seed)

    def draw_own_noise(self, steps, batch_size):
        """For each state bool (steps, batch, size), True where a unit keeps it; None where none does."""

        def draw(size, rate):
            drawn = keras.random.uniform((steps, batch_size, size), dtype="float32", seed=self._seeds)
            # Reversed, as XLA would else draw all steps' numbers anew within each step: it moves into a loop what
            # comes from the seed alone, but not past a reversal.
            return ops.flip(drawn, axis=0) < rate

        return [
            draw(size, rate) if rate else None
            for size, rate in zip(state_sizes(self), self._rate_of_state, strict=True)
        ]

    def advance(self, projected, recurrent, states, weights, noise=None):
        output, new_states = super().advance(projected, recurrent, states, weights, noise)
        kept = []
        for i, (old, new, rate) in enumerate(zip(states, new_states, self._rate_of_state, strict=True)):
            if rate == 0:
                kept.append(new)
            elif noise is None:
                kept.append(rate * old + (1 - rate) * new)
            else:
                kept.append(ops.where(noise[1][i], old, new))
            if output is new:
                output = kept[-1]
        return output, kept

    def get_config(self):
        return {**super().get_config(), "rates": dict(self.rates), "seed": self.seed}


@keras.saving.register_keras_serializable("zoo")
class ZoneoutLSTM(SequenceLayer):
    """LSTM with zoneout over a sequence: `Recurrent` over `Zoneout(LSTMCell)`.

    Args:
        units: int, width of the hidden and of the cell state.
        cell_rate: probability that a unit keeps its cell state.
        hidden_rate: probability that a unit keeps its hidden state.
        seed: int, or None for another one each time.
        **kwargs: the arguments of `Recurrent`: return_sequences, return_state, go_backwards, stateful, ...

    Call arguments:
        sequences: (batch, time, features).
        initial_state: [hidden, cell], each (batch, units); zeros if left out.
        mask: (batch, time), True where a step counts.

    Returns:
        (batch, units), or (batch, time, units) with `return_sequences`; followed by the final hidden and cell state
        with `return_state`.

    Raises:
        SettingError: `units` is not a positive whole number, or a rate outside [0, 1].

    Example:
        >>> layer = ZoneoutLSTM(8, cell_rate=0.5, hidden_rate=0.05, return_sequences=True)
        >>> tuple(layer(np.ones((2, 20, 5))).shape)
        (2, 20, 8)
    """

    def __init__(self, units, cell_rate, hidden_rate, seed=None, **kwargs):
        rates = {"cell": check_rate(cell_rate, "cell_rate"), "hidden": check_rate(hidden_rate, "hidden_rate")}
        super().__init__(Zoneout(LSTMCell(units, dtype=kwargs.get("dtype")), rates, seed), **kwargs)

    def cell_arguments(self):
        rates = {f"{name}_rate": rate for name, rate in self.cell.rates.items()}
        return {"units": self.cell.cell.units, **rates, "seed": self.cell.seed}


@keras.saving.register_keras_serializable("zoo")
class ZoneoutGRU(SequenceLayer):
    """GRU with zoneout over a sequence: `Recurrent` over `Zoneout(GRUCell)`.

    Args:
        units: int, width of the state.
        rate: probability that a unit keeps its state.
        seed: int, or None for another one each time.
        **kwargs: the arguments of `Recurrent`: return_sequences, return_state, go_backwards, stateful, ...

    Call arguments:
        sequences: (batch, time, features).
        initial_state: [hidden], (batch, units); zeros if left out.
        mask: (batch, time), True where a step counts.

    Returns:
        (batch, units), or (batch, time, units) with `return_sequences`; followed by the final state with
        `return_state`.

    Raises:
        SettingError: `units` is not a positive whole number, or `rate` outside [0, 1].

    Example:
        >>> layer = ZoneoutGRU(8, rate=0.1, return_sequences=True)
        >>> tuple(layer(np.ones((2, 20, 5))).shape)
        (2, 20, 8)
    """

    def __init__(self, units, rate, seed=None, **kwargs):
        rates = {"hidden": check_rate(rate, "rate")}
        super().__init__(Zoneout(GRUCell(units, dtype=kwargs.get("dtype")), rates, seed), **kwargs)

    def cell_arguments(self):
        return {"units": self.cell.cell.units, "rate": self.cell.rates["hidden"], "seed": self.cell.seed}
