"""What is known of a series as a whole, as features at every step: numbers scaled, words each a feature of its own."""

from numbers import Real

import keras
from keras import ops

from zoo import checks
from zoo.errors import SettingError


@keras.saving.register_keras_serializable("zoo")
class StaticCovariates(keras.layers.Layer):
    """The same features at every step of a window: of each column its number, scaled, or which of its words it says.

        y[t] = (x[c] - mean[c]) / spread[c]                    of a column of numbers
        y[t, k] = max(0, 1 - |x[c] - k|),  k = 0, 1, ...       of a column of words, by the place of the word x[c]

    The second is 1 for the word and 0 for all others, without a comparison for equality that rounding would spoil.

    Args:
        steps: int, how many.
        columns: for each column (mean, spread), floats, or its words, str, by whose places they go in.

    Call arguments:
        said: (batch, columns).

    Returns:
        (batch, steps, features).

    Raises:
        SettingError: there is no column, or one is neither numbers nor words; a spread is not above 0.

    Example:
        >>> StaticCovariates(2, [(10.0, 5.0), ("east", "north", "south")])(np.array([[20.0, 1.0]])).numpy()[0].tolist()
        [[2.0, 0.0, 1.0, 0.0], [2.0, 0.0, 1.0, 0.0]]
    """

    def __init__(self, steps, columns, **kwargs):
        super().__init__(**kwargs)
        self.steps = checks.whole(steps, "steps", least=1)
        self.columns = [tuple(each) for each in columns]
        for each in self.columns:
            words = bool(each) and all(isinstance(one, str) for one in each)
            if not words and not (len(each) == 2 and all(isinstance(one, Real) for one in each) and each[1] > 0):
                raise SettingError(f"StaticCovariates: a column is {each}; expected (mean, spread), or words")
        if not self.columns:
            raise SettingError("StaticCovariates: columns is empty; expected one column at least")

    def call(self, said):
        parts = []
        for column, each in enumerate(self.columns):
            value = said[:, column : column + 1]
            if isinstance(each[0], str):
                places = ops.arange(len(each), dtype=value.dtype)
                parts.append(ops.relu(1 - ops.abs(value - places)))
            else:
                parts.append((value - each[0]) / each[1])
        return ops.repeat(ops.expand_dims(ops.concatenate(parts, axis=-1), 1), self.steps, axis=1)

    def compute_output_shape(self, input_shape):
        features = sum(len(each) if isinstance(each[0], str) else 1 for each in self.columns)
        return (input_shape[0], self.steps, features)

    def get_config(self):
        columns = [[one if isinstance(one, str) else float(one) for one in each] for each in self.columns]
        return {**super().get_config(), "steps": self.steps, "columns": columns}
