"""Words that go unread in training, so that none of them is relied on."""

import keras
from keras import ops

from zoo import checks
from zoo.errors import SettingError


@keras.saving.register_keras_serializable("zoo")
class WordDropout(keras.layers.Layer):
    """Token ids of which, in training only, some become that of the unknown word.

    The network learns to do without a word that it has seen with a label by chance, and what an unknown word means.
    Padding, id 0, stays.

        y[t] = unknown where x[t] > 0 and u[t] < rate, u uniform in [0, 1), else x[t]

    Args:
        rate: float, the share of words, at least 0 and under 1.
        unknown: int, the id that they become.
        seed: an integer makes the draws repeatable.

    Call arguments:
        tokens: `(batch, time)`, int.
        training: whether to drop; otherwise the ids pass unchanged.

    Raises:
        SettingError: a rate out of range.

    Reference:
        M. Iyyer et al., "Deep unordered composition rivals syntactic methods for text classification", ACL 2015,
        https://aclanthology.org/P15-1162
    """

    def __init__(self, rate, *, unknown=1, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise SettingError(f"WordDropout: rate is {rate!r}; expected a share of 0 or more and under 1")
        self.rate, self.unknown, self.seed = rate, checks.whole(unknown, "unknown", least=0), checks.seed(seed)
        self.generator = keras.random.SeedGenerator(self.seed)

    def call(self, tokens, training=False):
        if not training or self.rate == 0:
            return tokens
        dropped = keras.random.uniform(ops.shape(tokens), seed=self.generator) < self.rate
        return ops.where(ops.logical_and(dropped, tokens > 0), self.unknown, tokens)

    def compute_output_spec(self, tokens, training=False):
        return keras.KerasTensor(tokens.shape, tokens.dtype)

    def get_config(self):
        return super().get_config() | {"rate": self.rate, "unknown": self.unknown, "seed": self.seed}
