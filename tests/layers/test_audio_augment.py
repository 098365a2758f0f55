"""Augmentation: what it does where that is known, and that nothing of it is left at inference."""

import keras
import numpy as np
import pytest

from zoo.errors import SettingError
from zoo.layers.audio_augment import AudioAugment, SpectrogramMask

NOTHING = {"shift": 0.0, "speed": 0.0, "gain_db": 0.0, "tilt": 0.0, "snr_db": (200.0, 200.0)}
EACH = pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (AudioAugment(seed=3), (4, 500)),
        (SpectrogramMask(seed=3), (4, 30, 20)),
    ],
    ids=["audio", "mask"],
)


def tones(hertz, rate=8000, length=8000):
    return np.sin(2 * np.pi * hertz * np.arange(length) / rate).astype("float32")[None].repeat(16, 0)


@EACH
def test_inference_leaves_the_input_alone(layer, shape):
    inputs = np.random.normal(size=shape).astype("float32")
    np.testing.assert_array_equal(np.array(layer(inputs)), inputs)


@EACH
@pytest.mark.on_tensorflow
def test_inference_graphs_hold_no_operation_of_it(layer, shape):
    import tensorflow as tf

    traced = tf.function(lambda x: layer(x, training=False)).get_concrete_function(tf.TensorSpec(shape))
    assert {op.type for op in traced.graph.get_operations()} <= {"Placeholder", "Identity"}


@EACH
def test_a_seed_repeats_the_draws_and_each_step_draws_anew(layer, shape):
    inputs = np.random.normal(size=shape).astype("float32")
    first, again = (type(layer).from_config(layer.get_config()) for _ in range(2))
    one = np.array(first(inputs, training=True))
    np.testing.assert_array_equal(one, np.array(again(inputs, training=True)))
    assert not np.array_equal(one, np.array(first(inputs, training=True)))
    assert not np.array_equal(one, inputs)


@EACH
def test_the_settings_are_saved(layer, shape):
    changed = {"shift": 0.3, "speed": 0.4, "gain_db": 3.0, "tilt": 0.5, "snr_db": (1.0, 2.0), "seed": 5}
    if isinstance(layer, SpectrogramMask):
        changed = {"time": 3, "frequency": 2, "count": 4, "seed": 5}
    config = type(layer).from_config(type(layer)(**changed).get_config()).get_config()
    assert {name: config[name] for name in changed} == changed


def test_without_ranges_nothing_changes():
    samples = np.random.normal(size=(2, 400)).astype("float32")
    np.testing.assert_allclose(np.array(AudioAugment(**NOTHING)(samples, training=True)), samples, atol=1e-6)


def test_speed_moves_a_tone_within_its_range():
    changed = np.array(AudioAugment(**NOTHING | {"speed": 0.25}, seed=1)(tones(1000), training=True))
    # Linear interpolation keeps the strongest frequency; the spectrum has a bin per hertz.
    peaks = np.abs(np.fft.rfft(changed)).argmax(axis=-1)
    assert peaks.min() >= 800 - 2 and peaks.max() <= 1250 + 2
    assert np.ptp(peaks) > 100


def test_shift_moves_samples_and_leaves_silence():
    samples = np.zeros((32, 1000), "float32")
    samples[:, 500] = 1
    moved = np.array(AudioAugment(**NOTHING | {"shift": 0.1}, seed=1)(samples, training=True))
    # Linear interpolation shares the impulse between two neighbours; together they remain one.
    np.testing.assert_allclose(moved.sum(axis=-1), 1, atol=1e-3)
    places = moved @ np.arange(1000)
    assert 399 <= places.min() < 450 and 550 < places.max() <= 601
    ends = np.array(AudioAugment(**NOTHING | {"shift": 0.1}, seed=1)(np.ones((32, 1000), "float32"), training=True))
    lost = np.abs(np.minimum(ends[:, 0], ends[:, -1])) < 1e-6
    assert lost.mean() > 0.9  # a clip loses one of its ends, unless it was moved by less than a sample


def test_noise_has_the_ratio_that_was_asked_for():
    samples = tones(440)
    noise = np.array(AudioAugment(**NOTHING | {"snr_db": (12.0, 12.0)}, seed=1)(samples, training=True)) - samples
    ratio = 10 * np.log10(np.mean(samples**2, -1) / np.mean(noise**2, -1))
    np.testing.assert_allclose(ratio, 12.0, atol=0.4)  # 8,000 samples: the estimate varies by 0.07 dB, five times that


def test_loudness_changes_within_its_range():
    samples = tones(440)
    changed = np.array(AudioAugment(**NOTHING | {"gain_db": 6.0}, seed=1)(samples, training=True))
    gain = 20 * np.log10(np.abs(changed).max(-1) / np.abs(samples).max(-1))
    assert gain.min() >= -6.001 and gain.max() <= 6.001 and np.ptp(gain) > 4


def test_masks_are_stretches_of_zeros_no_wider_than_asked():
    kept = np.array(SpectrogramMask(time=5, frequency=3, count=1, seed=1)(np.ones((64, 30, 20)), training=True))
    rows, columns = (kept.max(axis=2) == 0), (kept.max(axis=1) == 0)  # wholly masked frames, bands
    assert rows.sum(1).max() == 5 and columns.sum(1).max() == 3
    for masked in (rows, columns):
        for one in masked:
            places = np.flatnonzero(one)
            assert places.size == 0 or np.ptp(places) == places.size - 1
    np.testing.assert_array_equal(kept, ~rows[:, :, None] & ~columns[:, None, :])


@pytest.mark.parametrize(
    "make",
    [
        lambda: AudioAugment(speed=-0.1),
        lambda: AudioAugment(snr_db=(9, 3)),
        lambda: SpectrogramMask(time=-1),
    ],
)
def test_negative_ranges_are_refused(make):
    with pytest.raises(SettingError, match=r"0 or more|at least 0"):
        make()


def test_a_model_with_augmentation_trains_and_saves(tmp_path):
    model = keras.Sequential([keras.Input((500,)), AudioAugment(seed=0), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    samples = np.random.normal(size=(8, 500)).astype("float32")
    model.fit(samples, np.zeros(8), epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(samples, verbose=0), model.predict(samples, verbose=0), atol=1e-6)
