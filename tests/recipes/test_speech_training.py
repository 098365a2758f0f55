"""Batches of similar lengths, features from sounds, and the error rate after each epoch."""

import keras
import numpy as np
import pytest

from zoo.data.feature_augment import FeatureAugment
from zoo.recipes.speech_recognition import networks, training

LENGTHS = [16, 32, 48]


def batches(count=23, **options):
    random = np.random.default_rng(1)
    sounds = [np.full((int(n), 3), i + 1, "float32") for i, n in enumerate(random.integers(5, 48, count))]
    labels = [[1 + i % 5] * (1 + i % 4) for i in range(count)]
    settings = {"lengths": LENGTHS, "padding": -9.0, "batch_size": 4} | options
    return sounds, labels, training.Batches(lambda given, augment: given, sounds, labels, **settings)


def test_every_utterance_is_in_a_batch_with_its_label_and_padding_behind_it():
    sounds, labels, made = batches()
    seen, kept = set(), []
    for index in range(len(made)):
        x, y = made[index]
        kept.append([(x[..., 0] != -9).sum(), x[..., 0].size])
        assert len(x) == 4 and x.shape[1] in LENGTHS
        for sound, label in zip(x, y, strict=True):
            which = int(sound[0, 0]) - 1
            length = len(sounds[which])
            np.testing.assert_array_equal(sound[:length], sounds[which])
            assert (sound[length:] == -9).all()
            assert x.shape[1] == min(n for n in LENGTHS if n >= length)  # the shortest that holds it
            assert label[label > 0].tolist() == labels[which]
            seen.add(which)
    assert seen == set(range(len(sounds)))
    assert made.padding_share == pytest.approx(1 - np.sum(kept, axis=0)[0] / np.sum(kept, axis=0)[1])


def test_training_changes_the_utterances_anew_for_each_epoch():
    _, _, made = batches(augment=FeatureAugment(cepstra=True, noise=0.0, time=0, seed=2))
    before = [made[index][0].sum() for index in range(len(made))]
    made.begin(1)
    assert [made[index][0].sum() for index in range(len(made))] != before


@pytest.mark.parametrize("seed", range(8))
def test_the_first_two_batches_differ_in_length_where_any_do(seed):
    """By these Keras on TensorFlow decides which sizes vary; a batch of another size ends the training."""
    _, _, made = batches(seed=seed)
    assert len({made[index][0].shape[1] for index in range(len(made))}) > 1
    assert made[0][0].shape != made[1][0].shape
    few = [np.ones((10, 3), "float32")] * 3
    alike = training.Batches(lambda given, augment: given, few, [[1]] * 3, lengths=LENGTHS, padding=0.0, batch_size=2)
    assert {alike[index][0].shape[1] for index in range(len(alike))} == {48}  # in case others get longer in training


def test_validation_stays_as_it_is():
    _, _, made = batches()
    before = [made[index][0] for index in range(len(made))]
    made.on_epoch_end()
    for index, batch in enumerate(before):
        np.testing.assert_array_equal(made[index][0], batch)


def test_the_error_rate_counts_each_utterance_once():
    _, labels, made = batches(count=6)

    class Echo:
        """Says the right label for all but the first utterance, for which it says nothing."""

        def predict_on_batch(self, x):
            outputs = np.zeros((len(x), 12, 7))
            outputs[..., 0] = 0.5
            for one, sound in zip(outputs, x, strict=True):
                which = int(sound[0, 0]) - 1
                for at, label in enumerate(labels[which] if which else []):
                    one[2 * at, label] = 1.0
            return outputs

    found = {}
    callback = training.ErrorRate(made, lambda right, heard: found.update(right=right, heard=heard) or 0.25, list)
    callback._model = Echo()
    logs = {}
    callback.on_epoch_end(0, logs)
    assert logs == {"val_error_rate": 0.25}
    assert found["right"] == labels and found["heard"] == [[], *labels[1:]]


def test_lengths_reach_from_short_utterances_to_the_longest_possible():
    made = training.bucket_lengths(np.arange(50, 350), 400)
    assert made == sorted(set(made)) and made[-1] == 400 and len(made) == training.BUCKETS
    assert all(length % 8 == 0 for length in made) and made[0] >= 100


@pytest.mark.parametrize("streaming", [False, True])
def test_features_are_those_of_the_sound_alone(streaming):
    front = networks.front_end(8000, streaming)
    extract = training.extractor(front, 8000, 0.5)
    sounds = [np.random.default_rng(n).normal(size=n).astype("float32") / 9 for n in (5000, 9000, 4100)]
    for sound, features in zip(sounds, extract(sounds), strict=True):
        x = sound[None]
        for layer in front:
            x = layer(x)
        np.testing.assert_allclose(features, keras.ops.convert_to_numpy(x)[0], atol=1e-4)  # float32 through a logarithm
    changed = extract(sounds, np.random.default_rng(0))
    assert [one.shape for one in changed] == [one.shape for one in extract(sounds)]
    assert not np.allclose(changed[0], extract(sounds)[0], atol=0.1)


def test_sounds_that_are_features_pass_as_they_are():
    sounds = [np.ones((5, 13))]
    assert training.extractor([], 8000, 0.5)(sounds) is sounds
