"""How the share of zeros grows while a model is trained."""

from dataclasses import dataclass
from numbers import Real

import numpy as np

from zoo import checks
from zoo.errors import SettingError

SCHEDULES = ("polynomial", "constant")
_POWER = 3  # Zhu and Gupta, 2017: most weights go while there are many to spare


@dataclass(frozen=True)
class Schedule:
    """The share of zeros at each training step; tfmot's `PolynomialDecay` from 0, or its `ConstantSparsity`.

        polynomial    s(t) = S - S (1 - (t - begin) / (end - begin))^3        held at 0 before begin and at S after end
        constant      s(t) = S

    Args:
        kind: one of `SCHEDULES`.
        sparsity: S, the final share of zeros.
        begin: first step at which the masks are made.
        end: last step at which they are.
        frequency: steps between two makings.

    Reference:
        M. Zhu, S. Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression", 2017,
        https://arxiv.org/abs/1710.01878
    """

    kind: str
    sparsity: float
    begin: int
    end: int
    frequency: int

    def due(self, step):
        """Return whether the masks are made anew at `step`."""
        return self.begin <= step <= self.end and (step - self.begin) % self.frequency == 0

    def at(self, step):
        """Return the share of zeros at `step`, in float32 as TensorFlow computes it."""
        final = np.float32(self.sparsity)
        if self.kind == "constant":
            return final
        passed = np.float32(step - self.begin) / np.float32(self.end - self.begin)
        left = np.float32(1) - np.clip(passed, np.float32(0), np.float32(1))
        return -final * left**_POWER + final

    def to_tfmot(self, tfmot):
        """Return the same as one of tfmot's schedules; `tfmot` is its `sparsity.keras`."""
        when = {"begin_step": self.begin, "end_step": self.end, "frequency": self.frequency}
        if self.kind == "constant":
            return tfmot.ConstantSparsity(self.sparsity, **when)
        return tfmot.PolynomialDecay(0.0, self.sparsity, **when, power=_POWER)


def check_when(schedule, begin, end, frequency):
    """Return (begin, end, frequency) as ints; raise SettingError unless they can be used, whatever the model."""
    checks.choice(schedule, "schedule", SCHEDULES)
    begin = checks.whole(begin, "begin", least=0)
    end = checks.whole(end, "end", least=begin, or_none=True)
    frequency = checks.whole(frequency, "frequency")
    if end is not None and (end - begin) % frequency:
        raise SettingError(
            f"end is {end}, which masks made every {frequency} steps from {begin} on never meet; "
            f"take {begin + (end - begin) // frequency * frequency}"
        )
    if end == begin and schedule == "polynomial":
        raise SettingError(f"end and begin are both {begin}; a polynomial schedule needs steps between them")
    return begin, end, frequency


def plan_schedule(schedule, sparsity, begin, end, frequency, steps):
    """Return the `Schedule` for a training of `steps` steps, None if nobody knows how many.

    Raises:
        SettingError: the training is too short, or of unknown length without an `end`.
    """
    if end is None:
        if steps is None:
            raise SettingError("the number of training steps is not known beforehand; give the end of pruning, end=")
        end = begin + max(0, 2 * steps // 3 - begin) // frequency * frequency
        if end == begin:
            raise SettingError(
                f"fit has {steps} steps, too few to prune every {frequency} steps from step {begin} on and recover; "
                "train longer, or give end= and frequency="
            )
    elif steps is not None and end > steps:
        raise SettingError(f"end is {end}, but fit has {steps} steps only; train longer or end earlier")
    return Schedule(schedule, float(sparsity), begin, end, frequency)


def check_share(name, value):
    """Raise SettingError unless `value` is a number above 0 and below 1."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < 1:
        raise SettingError(f"{name} is {checks.shown(value)}; expected a share above 0 and below 1, such as 0.8")
