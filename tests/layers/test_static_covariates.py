"""What is known of a series as a whole, as features at every step."""

import numpy as np
import pytest
from keras import ops

from zoo import layers
from zoo.errors import SettingError


def test_numbers_are_scaled_and_a_word_is_one_at_its_place():
    layer = layers.StaticCovariates(4, [(10.0, 5.0), "abc", (0.0, 2.0), ("no", "yes")])
    said = np.array([[20, 1, 3, 0], [5, 2, -1, 1]], "float32")
    found = ops.convert_to_numpy(layer(said))
    expected = np.array([[2, 0, 1, 0, 1.5, 1, 0], [-1, 0, 0, 1, -0.5, 0, 1]])
    np.testing.assert_array_equal(found, np.repeat(expected[:, None], 4, axis=1))
    assert layer.compute_output_shape((2, 4)) == found.shape


@pytest.mark.parametrize("columns", [[], [()], [(1.0,)], [(1.0, 0.0)], [(1.0, 2.0, 3.0)], [("a", 1.0)]])
def test_columns_that_are_neither_numbers_nor_words_are_refused(columns):
    with pytest.raises(SettingError, match="expected"):
        layers.StaticCovariates(4, columns)
