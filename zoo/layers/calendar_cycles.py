"""Where in the day, the week and the year each step of a window is, from where its last known step is."""

import keras
import numpy as np
from keras import ops

from zoo import checks


@keras.saving.register_keras_serializable("zoo")
class CalendarCycles(keras.layers.Layer):
    """The hands of clocks at every step of a window and of its future, which is known ahead as the clocks go evenly.

    Of each clock only the hand at the last step of the past goes in; the others are turned from there.

        angle[t, c] = 2 pi (clock[c] + (t - before) turns[c])          t = 1, ..., before + after
        y[t] = cos angle[t], sin angle[t]

    Args:
        before: int, steps of the past.
        after: int, steps of the future.
        turns: list of floats, what each clock turns in a step: 1/24 for the hours of a day; 0 for a clock that is left
            out.

    Call arguments:
        clock: (batch, clocks), the part of its turn that each has made at the last step of the past, in [0, 1).

    Returns:
        (batch, before + after, 2 features of each clock that turns).

    Example:
        >>> CalendarCycles(2, 1, [0.25])(np.array([[0.5]])).numpy().round().tolist()
        [[[0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]]
    """

    def __init__(self, before, after, turns, **kwargs):
        super().__init__(**kwargs)
        self.before, self.after = checks.whole(before, "before", least=0), checks.whole(after, "after", least=0)
        self.turns = [float(each) for each in turns]

    def call(self, clock):
        used = [number for number, turn in enumerate(self.turns) if turn]
        steps = np.arange(1 - self.before, self.after + 1)
        offsets = np.outer(steps, [self.turns[number] for number in used]) % 1.0  # in float64, before it is rounded
        now = ops.take(clock, used, axis=-1)
        angles = 2 * np.pi * (ops.expand_dims(now, 1) + ops.convert_to_tensor(offsets, clock.dtype))
        return ops.concatenate([ops.cos(angles), ops.sin(angles)], axis=-1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.before + self.after, 2 * sum(turn != 0 for turn in self.turns))

    def get_config(self):
        return {**super().get_config(), "before": self.before, "after": self.after, "turns": self.turns}
