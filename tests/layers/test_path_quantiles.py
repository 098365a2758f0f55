"""Quantiles of drawn values, against NumPy's of the same definition and the distribution that was drawn from."""

import numpy as np
import pytest
from keras import ops
from scipy import stats

from zoo.layers import PathQuantiles

LEVELS = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]


@pytest.mark.parametrize("count", [1, 2, 10, 77])
def test_they_are_numpys_by_hazens_rule(count):
    paths = np.random.normal(size=(3, 4, count)).astype("float32")
    found = ops.convert_to_numpy(PathQuantiles(LEVELS)(paths))
    expected = np.quantile(paths, LEVELS, axis=-1, method="hazen")
    np.testing.assert_allclose(found, np.moveaxis(expected, 0, -1), rtol=1e-5, atol=1e-6)  # float32


def test_of_midpoints_of_equal_shares_they_are_the_distributions_own():
    draws = stats.norm.ppf((np.arange(200) + 0.5) / 200)
    found = ops.convert_to_numpy(PathQuantiles(LEVELS)(np.random.permutation(draws)[None].astype("float32")))
    # the straight line between two of 200 draws, at the outermost quantiles, where they are farthest apart
    np.testing.assert_allclose(found[0], stats.norm.ppf(LEVELS), atol=0.02)
