"""Echo state network: a fixed random reservoir, of which only a readout is fitted."""

import random
from numbers import Real

import keras
import numpy as np
import scipy.sparse
from keras import ops
from scipy.sparse.linalg import ArpackNoConvergence, eigs

from zoo import checks
from zoo.errors import SettingError
from zoo.layers.cell import Cell, check_built, check_units
from zoo.layers.recurrent import SequenceLayer

_DENSE_UNITS = 300  # up to here all eigenvalues take less time than the iteration for the largest
_LARGEST_GROUP = 16  # float32 numbers in the widest vector registers of today's processors


@keras.saving.register_keras_serializable("zoo")
class EchoStateCell(Cell):
    """Leaky reservoir of an echo state network, one step.

    The weights are drawn once and never trained: a reservoir whose states forget their start turns a sequence into
    features that hold its recent past, and a linear readout of them, solved in closed form by `RidgeReadout`, is all
    that is fitted.

        h[t] = (1 - leak) h[t-1] + leak tanh(x[t] W_in + h[t-1] W + b)

    Every unit hears as many others. Neighbours in groups of up to 16 hear the same ones, each with weights of its own:
    a step is then small dense products, which take a processor less time than to pick up every connection by itself. A
    group is never larger than the number it hears, and the groups share out the reservoir between them, so that W can
    have full rank. What a file holds is `recurrent_kernel` (groups, heard, group), normal, scaled to the spectral
    radius; `matrix` gives W whole. Whom a group hears is decided by the seed alone. Since every unit hears at least
    one, W has a cycle and with it a spectral radius to scale. The other weights: `kernel` W_in (features, units),
    uniform within +-`input_scaling`; `bias` b (units,), uniform within +-`bias_scaling`. None is trainable.

    Args:
        units: int, size of the reservoir.
        spectral_radius: float above 0, largest absolute eigenvalue of W; near 1 for a long memory.
        connectivity: float in (0, 1], share of the reservoir that a unit hears; at least one unit.
        leak: float in (0, 1], speed of the units; 1 for units without memory of their own.
        input_scaling: float above 0, range of the input weights; larger is less linear.
        bias_scaling: float of at least 0, range of the biases.
        seed: int of at least 0 that decides all weights; by default one is drawn, and kept in the configuration.
            Reservoirs in a stack need seeds that differ.

    Call arguments:
        inputs: (batch, features).
        states: [hidden], (batch, units).

    Returns:
        The output h[t] (batch, units), and [h[t]].

    Raises:
        SettingError: an argument is outside its range.

    Example:
        >>> cell = EchoStateCell(50, leak=0.3, seed=1)
        >>> output, _ = cell(np.ones((2, 5)), cell.get_initial_state(2))
        >>> tuple(output.shape)
        (2, 50)

    Reference:
        H. Jaeger, "The echo state approach to analysing and training recurrent neural networks", GMD report 148, 2001;
        M. Lukosevicius, "A practical guide to applying echo state networks", 2012,
        https://doi.org/10.1007/978-3-642-35289-8_36
    """

    def __init__(
        self,
        units,
        spectral_radius=0.9,
        connectivity=0.1,
        leak=1.0,
        input_scaling=1.0,
        bias_scaling=0.0,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = check_units(units)
        self.spectral_radius = _check("spectral_radius", spectral_radius, "above 0", lambda v: v > 0)
        self.connectivity = _check("connectivity", connectivity, "above 0 and at most 1", lambda v: 0 < v <= 1)
        self.leak = _check("leak", leak, "above 0 and at most 1", lambda v: 0 < v <= 1)
        self.input_scaling = _check("input_scaling", input_scaling, "above 0", lambda v: v > 0)
        self.bias_scaling = _check("bias_scaling", bias_scaling, "of at least 0", lambda v: v >= 0)
        seed = checks.seed(seed)
        self.seed = random.randrange(2**31) if seed is None else seed  # follows keras.utils.set_random_seed
        self.state_size = self.output_size = self.units

    def build(self, input_shape):
        # RandomState, as its numbers are the same in every version of NumPy: a saved model must find its sources again
        random = np.random.RandomState(self.seed)
        heard = max(1, round(self.connectivity * self.units))
        group = min(_LARGEST_GROUP, 1 << (heard.bit_length() - 1))  # a power of two: a whole number of registers
        self.sources = _shared_out(random, self.units, heard, groups=-(-self.units // group))
        reservoir = random.normal(size=(*self.sources.shape, group))  # what the last has beyond `units` is not read
        kernel = random.uniform(-self.input_scaling, self.input_scaling, (input_shape[-1], self.units))
        bias = random.uniform(-self.bias_scaling, self.bias_scaling, self.units)
        radius = _spectral_radius(self._sparse(reservoir))
        self.kernel = self._fixed("kernel", kernel)
        self.recurrent_kernel = self._fixed("recurrent_kernel", reservoir * (self.spectral_radius / radius))
        self.bias = self._fixed("bias", bias)

    def matrix(self):
        """Return W, a SciPy sparse array (units, units)."""
        check_built(self)
        return self._sparse(ops.convert_to_numpy(self.recurrent_kernel))

    def _sparse(self, values):
        _, heard, group = values.shape
        values = values.swapaxes(1, 2).reshape(-1, heard)[: self.units]
        sources = self.sources.repeat(group, axis=0)[: self.units]  # (units, heard)
        ends = heard * np.arange(self.units + 1)
        return scipy.sparse.csc_array((values.ravel(), sources.ravel(), ends), shape=(self.units, self.units))

    def _fixed(self, name, value):
        def initial(shape, dtype=None):
            return ops.convert_to_tensor(value, dtype)

        return self.add_weight(shape=value.shape, initializer=initial, trainable=False, name=name)

    @property
    def recur_weights(self):
        return [self.recurrent_kernel]

    def project(self, inputs):
        return ops.matmul(inputs, self.kernel) + self.bias

    def recur(self, states, weights):
        heard = ops.take(states[0], self.sources, axis=-1)  # (batch, groups, heard)
        sums = ops.einsum("bgh,ghu->bgu", heard, weights[0])
        return ops.reshape(sums, (-1, sums.shape[1] * sums.shape[2]))[:, : self.units]

    def advance(self, projected, recurrent, states, weights, noise=None):
        hidden = (1 - self.leak) * states[0] + self.leak * ops.tanh(projected + recurrent)
        return hidden, [hidden]

    def get_config(self):
        names = ("units", "spectral_radius", "connectivity", "leak", "input_scaling", "bias_scaling", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("zoo")
class EchoState(SequenceLayer):
    """Reservoir of an echo state network over a sequence: `Recurrent` over `EchoStateCell`.

    `keras.Sequential([EchoState(...), EchoState(...)])` is a deep reservoir. `RidgeReadout` fits what follows it.

    Args:
        units: int, size of the reservoir.
        spectral_radius: float above 0, largest absolute eigenvalue of the recurrent kernel.
        connectivity: float in (0, 1], share of the reservoir that a unit hears.
        leak: float in (0, 1], speed of the units.
        input_scaling: float above 0, range of the input weights.
        bias_scaling: float of at least 0, range of the biases.
        seed: int of at least 0, or None to draw one.
        **kwargs: the arguments of `Recurrent`: return_sequences, return_state, go_backwards, stateful, ...

    Call arguments:
        sequences: (batch, time, features).
        initial_state: [hidden], (batch, units); zeros if left out.
        mask: (batch, time), True where a step counts.

    Returns:
        (batch, units), or (batch, time, units) with `return_sequences`; followed by the final state with
        `return_state`.

    Raises:
        SettingError: an argument is outside its range.

    Example:
        >>> layer = EchoState(50, leak=0.3, seed=1, return_sequences=True)
        >>> tuple(layer(np.ones((2, 20, 5))).shape)
        (2, 20, 50)
    """

    def __init__(
        self,
        units,
        spectral_radius=0.9,
        connectivity=0.1,
        leak=1.0,
        input_scaling=1.0,
        bias_scaling=0.0,
        seed=None,
        **kwargs,
    ):
        cell = EchoStateCell(
            units, spectral_radius, connectivity, leak, input_scaling, bias_scaling, seed, dtype=kwargs.get("dtype")
        )
        super().__init__(cell, **kwargs)


def _shared_out(random, units, heard, groups):
    """Whom each group hears, (groups, heard): shuffled units dealt like cards, so that all are heard about as often."""
    hands = units // heard
    deals = [random.permutation(units)[: hands * heard].reshape(hands, heard) for _ in range(-(-groups // hands))]
    return np.concatenate(deals)[:groups].astype("int32")


def _spectral_radius(matrix):
    units = matrix.shape[0]
    if units > _DENSE_UNITS:
        try:
            # At the rim of a random matrix's spectrum many eigenvalues are nearly as large: they are asked for together
            found = eigs(matrix, k=10, ncv=80, tol=1e-6, v0=np.ones(units), return_eigenvectors=False)
            return np.abs(found).max()
        except ArpackNoConvergence:  # few connections: circles of eigenvalues of the same size
            pass
    return np.abs(np.linalg.eigvals(matrix.toarray())).max()


def _check(name, value, expected, holds):
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not np.isfinite(value) or not holds(value):
        raise SettingError(f"{name} is {value!r}; expected a number {expected}")
    return float(value)
