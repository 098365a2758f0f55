"""Leaky integrate-and-fire neurons: a recurrent network that speaks in spikes."""

import math
from numbers import Real

import keras
from keras import ops

from zoo.errors import SettingError
from zoo.layers.cell import Cell, check_units
from zoo.layers.recurrent import SequenceLayer


@keras.saving.register_keras_serializable("zoo")
class LIFCell(Cell):
    """Leaky integrate-and-fire neurons, one time step.

    The voltage of a neuron leaks away and is raised by what comes in; above the threshold the neuron sends a spike, and
    its voltage starts again at zero. This is the membrane equation tau dv/dt = -v + R I, with R = tau / dt, in steps of
    forward Euler:

        u[t] = (1 - dt / tau) v[t-1] + x[t] W + s[t-1] U + b        tau is time_constant, dt is time_step
        s[t] = 1 if u[t] > threshold else 0
        v[t] = (1 - s[t]) u[t]

    A step has no slope to learn from. Going backward a surrogate takes the place of its derivative, the fast sigmoid of
    SuperSpike; the reset counts as given, as a surrogate gradient through it would make training less robust (Zenke and
    Vogels, 2021):

        ds/du = 1 / (1 + slope |u - threshold|)^2

    The weights: `kernel` (features, units), `bias` (units,), and `recurrent_kernel` (units, units) if `recurrent`. The
    kernel starts Glorot uniform: inputs of variance 1 then raise the voltage by about 1 a step, so that neurons
    with the default threshold fire from the start, without which nothing is learnt; the recurrent kernel orthogonal,
    which passes on all that the spikes say; the bias at zero.

    Args:
        units: int, number of neurons.
        time_constant: float, tau, seconds in which a voltage without input falls to about 1/e.
        time_step: float, dt, seconds between two inputs; at most `time_constant`.
        threshold: float above 0, in units of voltage.
        slope: float above 0, how narrow around the threshold the surrogate is, per unit of voltage.
        recurrent: bool, whether spikes come back to all neurons of the layer a step later.

    Call arguments:
        inputs: (batch, features), spikes or any numbers.
        states: [spikes, voltage], each (batch, units).

    Returns:
        The spikes s[t] (batch, units), 0 or 1, and [s[t], v[t]].

    Raises:
        SettingError: `units` is not a positive whole number, one of the numbers is not a finite one above 0, or
            `time_step` is longer than `time_constant`.

    Example:
        >>> cell = LIFCell(3, time_constant=0.01)
        >>> spikes, (_, voltage) = cell(np.ones((2, 5)), cell.get_initial_state(2))
        >>> tuple(voltage.shape)
        (2, 3)

    Reference:
        F. Zenke, S. Ganguli, "SuperSpike: supervised learning in multilayer spiking neural networks", Neural
        Computation 30(6), 2018, https://arxiv.org/abs/1705.11146
        E. Neftci, H. Mostafa, F. Zenke, "Surrogate gradient learning in spiking neural networks", IEEE Signal
        Processing Magazine 36(6), 2019, https://arxiv.org/abs/1901.09948
        F. Zenke, T. Vogels, "The remarkable robustness of surrogate gradient learning", Neural Computation 33(4), 2021
    """

    state_names = ("spikes", "voltage")

    def __init__(
        self, units, time_constant=0.02, time_step=0.001, threshold=1.0, slope=10.0, recurrent=False, **kwargs
    ):
        super().__init__(**kwargs)
        self.units = self.output_size = check_units(units)
        self.state_size = [self.units, self.units]
        self.time_constant = _check_positive(time_constant, "time_constant")
        self.time_step = _check_positive(time_step, "time_step")
        self.threshold = _check_positive(threshold, "threshold")
        self.slope = _check_positive(slope, "slope")
        self.recurrent = bool(recurrent)
        if self.time_step > self.time_constant:
            raise SettingError(
                f"time_step is {time_step} s and time_constant {time_constant} s; expected a step no longer than the "
                "time constant, as the voltage would otherwise swing below zero by itself"
            )

    def build(self, input_shape):
        units = self.units
        self.kernel = self.add_weight(shape=(input_shape[-1], units), initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight(shape=(units,), initializer="zeros", name="bias")
        if self.recurrent:
            self.recurrent_kernel = self.add_weight(
                shape=(units, units), initializer="orthogonal", name="recurrent_kernel"
            )

    @property
    def recur_weights(self):
        return [self.recurrent_kernel] if self.recurrent else []

    def project(self, inputs):
        return ops.matmul(inputs, self.kernel) + self.bias

    def recur(self, states, weights):
        return ops.matmul(states[0], weights[0]) if self.recurrent else None

    def advance(self, projected, recurrent, states, weights, noise=None):
        voltage = (1 - self.time_step / self.time_constant) * states[1] + projected
        if recurrent is not None:
            voltage = voltage + recurrent
        distance = voltage - self.threshold
        step = ops.cast(distance > 0, distance.dtype)
        surrogate = distance / (1 + self.slope * ops.abs(distance))
        spikes = step + (surrogate - ops.stop_gradient(surrogate))  # the value of one, the gradient of the other
        return spikes, [spikes, (1 - step) * voltage]

    def get_config(self):
        names = ("units", "time_constant", "time_step", "threshold", "slope", "recurrent")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("zoo")
class LIF(SequenceLayer):
    """Leaky integrate-and-fire neurons over a sequence: `Recurrent` over `LIFCell`.

    `zoo.export.to_nir` writes chains of it and Dense for neuromorphic hardware and simulators.

    Args:
        units: int, number of neurons.
        time_constant: float, seconds in which a voltage without input falls to about 1/e.
        time_step: float, seconds between two inputs; at most `time_constant`.
        threshold: float above 0, in units of voltage.
        slope: float above 0, how narrow around the threshold the surrogate is, per unit of voltage.
        recurrent: bool, whether spikes come back to all neurons of the layer a step later.
        **kwargs: the arguments of `Recurrent`: return_sequences, return_state, go_backwards, stateful, ...

    Call arguments:
        sequences: (batch, time, features), spikes or any numbers.
        initial_state: [spikes, voltage], each (batch, units); zeros if left out.
        mask: (batch, time), True where a step counts.

    Returns:
        Spikes (batch, units), or (batch, time, units) with `return_sequences`; followed by the final spikes and
        voltage with `return_state`.

    Raises:
        SettingError: `units` is not a positive whole number, one of the numbers is not a finite one above 0, or
            `time_step` is longer than `time_constant`.

    Example:
        >>> layer = LIF(8, recurrent=True, return_sequences=True)
        >>> tuple(layer(np.ones((2, 20, 5))).shape)
        (2, 20, 8)
    """

    def __init__(
        self, units, time_constant=0.02, time_step=0.001, threshold=1.0, slope=10.0, recurrent=False, **kwargs
    ):
        cell = LIFCell(units, time_constant, time_step, threshold, slope, recurrent, dtype=kwargs.get("dtype"))
        super().__init__(cell, **kwargs)


def _check_positive(value, name):
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < math.inf:
        raise SettingError(f"{name} is {value!r}; expected a finite number above 0")
    return float(value)
