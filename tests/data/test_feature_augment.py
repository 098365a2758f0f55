"""What training does to features: tempo, vocal tract, noise, masks."""

import numpy as np
import pytest
import scipy.fft

from zoo.data.feature_augment import FeatureAugment, read_between, warp_matrix

NONE = {"stretch": 0.0, "warp": 0.0, "noise": 0.0, "time": 0, "bands": 0}


def features(frames=50, size=13):
    return np.random.default_rng(0).normal(size=(frames, size)).astype("float32")


@pytest.mark.parametrize("cepstra", [False, True])
def test_with_every_range_zero_nothing_changes(cepstra):
    x = features()
    np.testing.assert_allclose(FeatureAugment(cepstra=cepstra, **NONE)(x), x, atol=1e-5)  # float32, there and back


def test_the_same_seed_draws_the_same_and_each_call_anew():
    one, two = FeatureAugment(seed=3), FeatureAugment(seed=3)
    first = one(features())
    np.testing.assert_array_equal(first, two(features()))
    second = one(features())
    assert first.shape != second.shape or not np.array_equal(first, second)


def test_the_tempo_changes_the_length_within_its_range():
    augment = FeatureAugment(**NONE | {"stretch": 0.25})
    lengths = [len(augment(features(400))) for _ in range(200)]
    assert 320 <= min(lengths) < 340 and 480 < max(lengths) <= 500
    sweep = np.linspace(0, 1, 400, dtype="float32")[:, None] * np.ones(13, "float32")
    stretched = augment(sweep)
    np.testing.assert_allclose(stretched[:, 4], np.linspace(0, 1, len(stretched)), atol=1e-5)  # float32


def test_rows_between_are_numpys_interpolation():
    places = np.array([0.0, 1.25, 3.999, 49.0])
    x = features()
    expected = np.stack([np.interp(places, np.arange(50), column) for column in x.T], axis=1)
    np.testing.assert_allclose(read_between(x, places), expected, atol=1e-6)  # float32


def test_a_longer_vocal_tract_moves_bands_down():
    x = np.eye(40, dtype="float32")[[20]]
    warped = (x @ warp_matrix(40, 1.25, False))[0]
    assert np.argmax(warped) == 16 and warped[16] == pytest.approx(1)  # band 16 is read at 16 * 1.25 = 20


def test_cepstra_are_warped_as_the_bands_that_they_stand_for():
    cepstra = np.zeros((1, 13))
    cepstra[0, :6] = [3, 1, -2, 1, 0.5, 0.3]  # smooth over the bands, as what is cut off beyond 13 is not kept
    bands = scipy.fft.idct(np.pad(cepstra, ((0, 0), (0, 27))), type=2, norm="ortho")
    moved = bands @ warp_matrix(40, 0.9, False)
    expected = scipy.fft.dct(moved, type=2, norm="ortho")[:, :13]
    scale = np.array([np.sqrt(40), *[np.sqrt(20)] * 12])  # of the orthonormal transform, per entry
    got = (cepstra * scale) @ warp_matrix(13, 0.9, True) / scale
    np.testing.assert_allclose(got[0, :8], expected[0, :8], atol=1e-3)  # what the warp puts beyond 13 cepstra


def test_noise_is_the_share_of_the_deviation_that_is_asked_for():
    x = features(20_000) * np.arange(1, 14, dtype="float32")
    noise = FeatureAugment(**NONE | {"noise": 0.25})(x) - x
    np.testing.assert_allclose(noise.std(axis=0) / x.std(axis=0), 0.25, rtol=0.05)  # of 20,000 draws


def test_masks_take_the_mean_and_cepstra_have_none_in_frequency():
    x = features(100, 40)
    masked = FeatureAugment(**NONE | {"time": 8, "bands": 5}, seed=1)(x)
    mean = np.broadcast_to(x.mean(axis=0), x.shape)
    changed = ~np.isclose(masked, x, atol=1e-6)
    assert changed.any() and np.allclose(masked[changed], mean[changed], atol=1e-6)
    assert 0 < changed.all(axis=1).sum() <= 16 and 0 < changed.all(axis=0).sum() <= 10
    cepstra = FeatureAugment(cepstra=True, **NONE | {"bands": 5})(features())
    np.testing.assert_allclose(cepstra, features(), atol=1e-5)


def test_one_frame_is_enough():
    assert len(FeatureAugment()(features(1))) == 1
