"""A small gated cell: one matrix for gate and candidate, in factors, most of it zero."""

from numbers import Real

import keras
from keras import ops

from zoo import checks
from zoo.errors import SettingError
from zoo.layers.cell import Cell, check_units
from zoo.layers.recurrent import SequenceLayer


@keras.saving.register_keras_serializable("zoo")
class FastGRNNCell(Cell):
    """Fast gated recurrent neural network, one step.

    Gate and candidate share their matrices and differ in their biases only. With ranks the matrices are products of two
    thin factors, and with a density below 1 only the largest entries of each matrix or factor are kept after every
    training step, all others zero.

        v[t] = x[t] W + h[t-1] U                                W = W_1 W_2, U = U_1 U_2 where there are ranks
        z[t] = sigmoid(v[t] + b_z)
        h[t] = (sigmoid(zeta) (1 - z[t]) + sigmoid(nu)) * tanh(v[t] + b_h) + z[t] * h[t-1]

    The weights: `kernel` (features, units), or `kernel_in` (features, rank) and `kernel_out` (rank, units);
    `recurrent_kernel` (units, units), or `recurrent_in` and `recurrent_out`; `bias` (2, units) in the order z h;
    `scales` (2,), zeta and nu. Kernels start Glorot uniform, which keeps the variance of the features; the recurrent
    kernel and both of its factors orthogonal, which does not grow the state. The gate's bias starts at 1, since z is
    what is kept of the state: a forget bias. Zeta and nu start at 1 and -4, as in the paper: nearly a GRU.

    Args:
        units: int, width of the state.
        input_rank: int, rank of W; None for a full matrix.
        recurrent_rank: int, rank of U; None for a full matrix.
        density: float in (0, 1], share of the entries of each matrix that is not zero.

    Call arguments:
        inputs: (batch, features).
        states: [hidden], (batch, units).

    Returns:
        The output h[t] (batch, units), and [h[t]].

    Raises:
        SettingError: `units` or a rank is not a positive whole number, or `density` is outside its range.

    Example:
        >>> cell = FastGRNNCell(16, input_rank=4, recurrent_rank=5)
        >>> output, _ = cell(np.ones((2, 32)), cell.get_initial_state(2))
        >>> cell.count_params()
        386

    Reference:
        A. Kusupati et al., "FastGRNN: a fast, accurate, stable and tiny kilobyte sized gated recurrent neural network",
        NeurIPS 2018, https://arxiv.org/abs/1901.02358
    """

    def __init__(self, units, input_rank=None, recurrent_rank=None, density=1.0, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = check_units(units)
        self.input_rank = checks.whole(input_rank, "input_rank", or_none=True)
        self.recurrent_rank = checks.whole(recurrent_rank, "recurrent_rank", or_none=True)
        self.density = _check_density(density)

    def build(self, input_shape):
        features, units = input_shape[-1], self.units
        self._kernels = self._matrix("kernel", (features, units), self.input_rank, "glorot_uniform")
        self._recurrent = self._matrix("recurrent", (units, units), self.recurrent_rank, "orthogonal")
        self.bias = self.add_weight(shape=(2, units), initializer=_forget_bias, name="bias")
        self.scales = self.add_weight(shape=(2,), initializer=_scales, name="scales")

    def _matrix(self, name, shape, rank, initializer):
        """One matrix, or the two factors of it."""
        whole = {"recurrent": "recurrent_kernel"}.get(name, name)
        parts = {whole: shape} if rank is None else {f"{name}_in": (shape[0], rank), f"{name}_out": (rank, shape[1])}
        constraint = KeepLargest(self.density) if self.density < 1 else None
        return [
            self.add_weight(shape=part, initializer=initializer, constraint=constraint, name=each)
            for each, part in parts.items()
        ]

    @property
    def recur_weights(self):
        return self._recurrent

    @property
    def advance_weights(self):
        return [self.bias, self.scales]

    @property
    def prunable_weights(self):
        return [*self._kernels, *self._recurrent]

    def project(self, inputs):
        return _through(inputs, self._kernels)

    def recur(self, states, weights):
        return _through(states[0], weights)

    def advance(self, projected, recurrent, states, weights, noise=None):
        bias, scales = weights
        update = ops.sigmoid(projected + recurrent + bias[0])
        candidate = ops.tanh(projected + recurrent + bias[1])
        zeta, nu = ops.sigmoid(scales[0]), ops.sigmoid(scales[1])
        hidden = (zeta * (1 - update) + nu) * candidate + update * states[0]
        return hidden, [hidden]

    def get_config(self):
        names = ("units", "input_rank", "recurrent_rank", "density")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("zoo")
class FastGRNN(SequenceLayer):
    """Fast gated recurrent neural network over a sequence: `Recurrent` over `FastGRNNCell`.

    Args:
        units: int, width of the state.
        input_rank: int, rank of the kernel; None for a full matrix.
        recurrent_rank: int, rank of the recurrent kernel; None for a full matrix.
        density: float in (0, 1], share of the entries of each matrix that is not zero.
        **kwargs: the arguments of `Recurrent`: return_sequences, return_state, go_backwards, stateful, ...

    Call arguments:
        sequences: (batch, time, features).
        initial_state: [hidden], (batch, units); zeros if left out.
        mask: (batch, time), True where a step counts.

    Returns:
        (batch, units), or (batch, time, units) with `return_sequences`; followed by the final state with
        `return_state`.

    Raises:
        SettingError: `units` or a rank is not a positive whole number, or `density` is outside its range.

    Example:
        >>> layer = FastGRNN(8, recurrent_rank=2, return_sequences=True)
        >>> tuple(layer(np.ones((2, 20, 5))).shape)
        (2, 20, 8)
    """

    def __init__(self, units, input_rank=None, recurrent_rank=None, density=1.0, **kwargs):
        cell = FastGRNNCell(units, input_rank, recurrent_rank, density, dtype=kwargs.get("dtype"))
        super().__init__(cell, **kwargs)


@keras.saving.register_keras_serializable("zoo")
class KeepLargest(keras.constraints.Constraint):
    """Set all but the entries of largest size to zero: iterative hard thresholding, as a constraint after each step.

    Args:
        density: float in (0, 1], share of the entries that are kept; at least one is.
    """

    def __init__(self, density):
        self.density = _check_density(density)

    def __call__(self, w):
        w = ops.convert_to_tensor(w)  # a variable is none yet on JAX
        kept = max(1, round(self.density * w.shape[0] * w.shape[1]))
        size = ops.abs(w)
        smallest = ops.top_k(ops.reshape(size, (-1,)), kept)[0][-1]
        return ops.where(size >= smallest, w, ops.zeros_like(w))

    def get_config(self):
        return {"density": self.density}


def _through(values, matrices):
    for matrix in matrices:
        values = ops.matmul(values, matrix)
    return values


def _forget_bias(shape, dtype=None):
    return ops.stack([ops.ones(shape[1], dtype), ops.zeros(shape[1], dtype)])


def _scales(shape, dtype=None):
    return ops.convert_to_tensor([1.0, -4.0], dtype)


def _check_density(density):
    if isinstance(density, bool) or not isinstance(density, Real) or not 0 < density <= 1:
        raise SettingError(f"density is {density!r}; expected a number above 0 and at most 1")
    return float(density)
