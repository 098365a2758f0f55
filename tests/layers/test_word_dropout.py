"""Words that go unread in training."""

import keras
import numpy as np
import pytest

from zoo.errors import SettingError
from zoo.layers import WordDropout

TOKENS = np.tile(np.array([2, 3, 4, 0], "int32"), (2000, 1))


def test_the_share_of_words_becomes_unknown_in_training_and_padding_stays():
    dropped = keras.ops.convert_to_numpy(WordDropout(0.3, unknown=7, seed=0)(TOKENS, training=True))
    assert dropped.dtype == "int32" and (dropped[:, 3] == 0).all()
    changed = dropped[:, :3] != TOKENS[:, :3]
    assert (dropped[:, :3][changed] == 7).all()
    assert changed.mean() == pytest.approx(0.3, abs=0.03)  # five standard deviations of 6,000 draws


def test_outside_training_every_word_is_read():
    np.testing.assert_array_equal(WordDropout(0.9)(TOKENS), TOKENS)


def test_it_keeps_its_settings_when_saved():
    layer = WordDropout(0.3, unknown=7, seed=5, name="words")
    assert WordDropout.from_config(layer.get_config()).get_config() == layer.get_config()


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_rate_that_is_no_share_is_refused(rate):
    with pytest.raises(SettingError, match="expected a share"):
        WordDropout(rate)
