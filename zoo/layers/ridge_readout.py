"""A linear readout of features, fitted in closed form."""

from numbers import Real

import keras
import numpy as np
from keras import ops
from scipy.linalg import blas, cho_factor, cho_solve

from zoo import checks
from zoo.errors import SettingError

_LARGEST = float(np.finfo("float32").max)  # in which a readout reads its features; sums of its squares are no infinity
_BLOCK = 1024  # steps that are converted to float64 at once: they stay in the processor's cache


class RidgeReadout:
    """Ridge regression from the features of a sequence to its targets, accumulated over batches.

    Only sums are kept, so that any number of sequences of any length fits in memory; all of it in float64. The bias is
    not penalised. The result is a `keras.layers.Dense`, so that a reservoir and its readout are an ordinary model.

        B = (X'X + ridge I)^-1 X'Y        X, Y: features and targets of all steps, less their means
        c = mean(targets) - mean(features) B

    Of several ridges the one with the least mean squared error on held-out sequences is chosen. One that is too small
    for the rounding of the features is passed over.

    Args:
        ridges: candidates, each a float above 0.
        washout: int, steps at the start of each sequence that are left out: there the features still show the state
            from which they started.

    Attributes:
        ridge: the one that was chosen, after `solve`.
        errors: dict, mean squared error on the held-out sequences by ridge, after `solve` with them.

    Raises:
        SettingError: an argument is outside its range; features or targets hold no numbers, NaN or what float32 does
            not, or do not fit to each other or to those before; no step is left after the washout; no ridge can be
            chosen or used, or the readout has weights that are larger than its dtype holds.

    Example:
        >>> reservoir = keras.Sequential([EchoState(50, seed=1, return_sequences=True)])
        >>> x = np.sin(np.arange(301) / 5).reshape(1, -1, 1)
        >>> readout = RidgeReadout(ridges=[1e-6], washout=50)
        >>> readout.add(reservoir.predict(x[:, :-1], verbose=0), x[:, 1:])
        >>> model = keras.Sequential([reservoir, readout.solve()])
        >>> model.predict(x, verbose=0).shape
        (1, 301, 1)

    Reference:
        A. Hoerl, R. Kennard, "Ridge regression: biased estimation for nonorthogonal problems", Technometrics 12, 1970.
    """

    def __init__(self, *, ridges=(1e-8, 1e-6, 1e-4, 1e-2, 1.0, 100.0), washout=0):
        ridges = tuple(ridges) if np.iterable(ridges) else ridges
        if not isinstance(ridges, tuple) or not ridges or not all(map(_is_positive, ridges)):
            raise SettingError(f"ridges is {ridges!r}; expected a list of numbers above 0, at least one")
        self.ridges, self.washout = ridges, checks.whole(washout, "washout", least=0)
        self.ridge, self.errors = None, {}
        self._steps = 0

    def add(self, features, targets, *, continued=False):
        """Take in a batch.

        Args:
            features: (batch, time, units), of a reservoir with `return_sequences`.
            targets: (batch, time, outputs).
            continued: bool, the sequences go on from the last batch, in a `stateful` reservoir: no washout.
        """
        x, y = self._rows(features, targets, 0 if continued else self.washout)
        for start in range(0, len(x), _BLOCK):
            block = slice(start, start + _BLOCK)
            rows = np.hstack([x[block], y[block]], dtype="float64")
            if not self._steps:
                # Sums of what is left after a first guess of the mean lose fewer digits when the true mean is taken off
                self._guess, self._sum, self._moments = rows.mean(axis=0), 0.0, np.zeros(2 * rows.shape[1:], order="F")
                self._shape = x.shape[1], y.shape[1]
            rows -= self._guess
            self._sum = self._sum + rows.sum(axis=0)
            # BLAS sums the upper half in place: NumPy's product takes its time to mirror it, and the sum a second pass
            self._moments = blas.dsyrk(1.0, rows.T, beta=1.0, c=self._moments, overwrite_c=True)
            self._steps += len(rows)

    def solve(self, held_out=None):
        """Return the readout as a built Dense layer.

        Args:
            held_out: iterable of (features, targets) as in `add`, of sequences that were not added; needed to choose
                among several ridges.
        """
        if not self._steps:
            raise SettingError("the readout has no features; give them to add() before solve()")
        if held_out is None and len(self.ridges) > 1:
            raise SettingError(
                f"ridges has {len(self.ridges)} values and held_out is None; give sequences to choose by"
            )
        solutions = self._solutions()
        if not solutions:
            raise SettingError(f"ridges is {self.ridges!r}; all too small for the rounding of the features, try larger")
        if held_out is not None:
            self.errors = self._held_out_errors(solutions, held_out)
        self.ridge = min(solutions, key=lambda ridge: self.errors.get(ridge, 0.0))
        kernel, bias = solutions[self.ridge]
        readout = keras.layers.Dense(len(bias), kernel_initializer="zeros", name="readout")  # no need to draw
        readout.build((None, len(kernel)))
        with np.errstate(over="ignore"):  # it is said below
            readout.set_weights([kernel, bias])
        if not all(bool(ops.all(ops.isfinite(weight))) for weight in readout.weights):
            largest = max(np.abs(kernel).max(), np.abs(bias).max())
            raise SettingError(
                f"the weights reach {largest:.1e}, more than {readout.variable_dtype} holds; bring features and "
                "targets to one scale, or take a larger ridge"
            )
        return readout

    def _solutions(self):
        """The kernel and bias of each ridge that can be used."""
        units, _ = self._shape
        mean = self._sum / self._steps
        moments = blas.dsyr(-self._steps, mean, a=self._moments)  # about the true mean; the upper half
        x, y = np.split(self._guess + mean, [units])
        solutions = {}
        for ridge in self.ridges:
            gram = moments[:units, :units].copy(order="F")
            gram[np.diag_indices(units)] += ridge
            try:
                factor = cho_factor(gram, overwrite_a=True, check_finite=False)
            except np.linalg.LinAlgError:  # not positive definite: the ridge drowns in the rounding
                continue
            kernel = cho_solve(factor, moments[:units, units:])
            solutions[ridge] = kernel, y - x @ kernel
        return solutions

    def _held_out_errors(self, solutions, held_out):
        squared, count = dict.fromkeys(solutions, 0.0), 0
        for pair in held_out if np.iterable(held_out) else [held_out]:
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise SettingError(
                    f"held_out has a {type(pair).__name__}; expected a list of pairs, features and targets"
                )
            x, y = self._rows(*pair, self.washout)
            count += y.size
            for ridge, (kernel, bias) in solutions.items():
                squared[ridge] += np.square(x @ kernel + bias - y).sum()
        if not count:
            raise SettingError("held_out is empty; give (features, targets) of at least one sequence")
        return {ridge: total / count for ridge, total in squared.items()}

    def _rows(self, features, targets, washout):
        """Features and targets of all steps after the washout, (steps, ...)."""
        x, y = _numbers(features, "features"), _numbers(targets, "targets")
        if x.ndim != 3 or y.ndim != 3 or x.shape[:2] != y.shape[:2] or not x.shape[2] or not y.shape[2]:
            raise SettingError(
                f"features is {x.shape} and targets is {y.shape}; expected (batch, time, units) and "
                "(batch, time, outputs) of the same batch and time"
            )
        if self._steps and (x.shape[2], y.shape[2]) != self._shape:
            raise SettingError(
                f"features has {x.shape[2]} units and targets {y.shape[2]} outputs; expected {self._shape[0]} and "
                f"{self._shape[1]}, as in the first batch"
            )
        if washout >= x.shape[1]:
            raise SettingError(f"washout is {washout}; expected less than the {x.shape[1]} steps of the sequences")
        x, y = x[:, washout:], y[:, washout:]
        for name, values in (("features", x), ("targets", y)):
            if values.size and not max(-float(values.min()), float(values.max())) <= _LARGEST:
                sequence, step, unit = np.argwhere(~(np.abs(values.astype("float64")) <= _LARGEST))[0]
                raise SettingError(
                    f"{name} has {values[sequence, step, unit]} in sequence {sequence} at step {step + washout}; "
                    f"expected finite numbers of at most {_LARGEST:.1e}"
                )
        return x.reshape(-1, x.shape[2]), y.reshape(-1, y.shape[2])


def _numbers(values, name):
    """Return `values` as an array, if it can be one of float64."""
    try:
        array = ops.convert_to_numpy(values)
    except (TypeError, ValueError):
        raise SettingError(
            f"{name} is a {type(values).__name__} of unlike parts; expected one array of numbers"
        ) from None
    if not np.can_cast(array.dtype, "float64", "same_kind"):
        raise SettingError(f"{name} is an array of {array.dtype}; expected one of numbers")
    return array


def _is_positive(value):
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < value < np.inf
