"""Normalisation of each utterance by its own frames."""

import numpy as np

from zoo.layers import MaskedNorm


def test_frames_that_count_get_mean_0_and_variance_1_and_padding_is_0():
    random = np.random.default_rng(0)
    x = random.normal(3, 5, (2, 40, 6)).astype("float32")
    kept = (np.arange(40) < np.array([[40], [25]]))[..., None].astype("float32")
    y = np.array(MaskedNorm()(x, kept))
    np.testing.assert_allclose(y[0], (x[0] - x[0].mean(0)) / x[0].std(0), atol=1e-4)  # float32 sums, 1e-5 of variance
    np.testing.assert_allclose(y[1, :25], (x[1, :25] - x[1, :25].mean(0)) / x[1, :25].std(0), atol=1e-4)
    assert not y[1, 25:].any()


def test_silence_alone_and_constants_stay_finite():
    x = np.ones((2, 5, 3), "float32")
    kept = np.array([0.0, 1.0], "float32")[:, None, None] * np.ones((2, 5, 1), "float32")
    assert not np.array(MaskedNorm()(x, kept)).any()
