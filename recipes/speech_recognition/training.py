"""What trains a speech recogniser: batches of similar lengths, and the error rate that chooses the best epoch."""

import keras
import numpy as np
from keras import ops

from zoo.layers import AudioAugment
from zoo.recipes.speech_recognition import device
from zoo.train import EpochBatches
from zoo.train.shared_batches import predict_batch

BUCKETS = 6  # lengths that batches come in: a backend compiles once for each
_ROUND = 8  # frames


class Batches(EpochBatches):
    """Features and labels in batches of one size and a few lengths; in training changed anew for each epoch.

    Args:
        features: function of (list of sounds, generator to change them with or None) to a list of (frames, features).
        sounds: list of arrays.
        labels: list of lists of classes.
        lengths: the lengths that batches may have, in frames, ascending.
        padding: value of the features in padding.
        batch_size: utterances in a batch; what is missing from the last of a length is drawn from the others of it.
        augment: a `FeatureAugment`, or None to keep the utterances and their order as they are.
        seed: int, of the order.
    """

    def __init__(self, features, sounds, labels, *, lengths, padding, batch_size, augment=None, seed=0):
        super().__init__(seed)
        self.features, self.sounds, self.labels = features, sounds, labels
        self.lengths, self.padding, self.batch_size, self.augment = lengths, padding, batch_size, augment
        self._widest = max(map(len, labels))
        self._count = None
        self.begin(0)
        if len({bucket for bucket, _ in self._batches}) == 1:  # Keras would take the only length seen for the only one
            self.lengths = self.lengths[-1:]
            self._batches = [(0, rows) for _, rows in self._batches]

    def arrange(self, random):
        """Draw the utterances' features, and group them into batches of similar lengths."""
        self._drawn = self.features(self.sounds, None if self.augment is None else random)
        if self.augment is not None:
            self._drawn = [self.augment(one, random)[: self.lengths[-1]] for one in self._drawn]
        buckets = np.searchsorted(self.lengths, [len(one) for one in self._drawn])
        self._batches = []
        for bucket in np.unique(buckets):
            rows = random.permutation(np.flatnonzero(buckets == bucket))
            rows = np.concatenate([rows, random.choice(rows, -len(rows) % self.batch_size)])
            self._batches += [(bucket, rows[i : i + self.batch_size]) for i in range(0, len(rows), self.batch_size)]
        self._batches = [self._batches[i] for i in random.permutation(len(self._batches))]
        other = next((i for i, (bucket, _) in enumerate(self._batches) if bucket != self._batches[0][0]), 0)
        if other > 1:  # Keras on TensorFlow looks at two batches to find out which sizes vary
            self._batches[1], self._batches[other] = self._batches[other], self._batches[1]
        if self._count is None:
            self._count = len(self._batches)

    def __len__(self):
        return self._count

    def rows(self, index):
        """Return which utterances a batch has."""
        return self._batches[index % len(self._batches)][1]  # another epoch may have one batch less

    def __getitem__(self, index):
        bucket, rows = self._batches[index % len(self._batches)]
        x = np.full((len(rows), self.lengths[bucket], self._drawn[0].shape[1]), self.padding, np.float32)
        y = np.zeros((len(rows), self._widest), np.int32)
        for row, sound, label in zip(rows, x, y, strict=True):
            sound[: len(self._drawn[row])] = self._drawn[row]
            label[: len(self.labels[row])] = self.labels[row]
        return x, y

    @property
    def padding_share(self):
        held = sum(len(self._drawn[row]) for _, rows in self._batches for row in rows)
        return 1 - held / sum(self.lengths[bucket] * len(rows) for bucket, rows in self._batches)


def extractor(front, sample_rate, padding_seconds):
    """Return the function from (sounds, random) to features; sounds that are features already pass as they are.

    With a NumPy generator `random` it changes their noise, tilt and loudness, as in training.

    Args:
        front: layers from samples to features, empty where features come in.
        sample_rate: Hz.
        padding_seconds: samples are padded to a multiple of this, so that few shapes are traced.
    """
    if not front:
        return lambda sounds, random=None: sounds
    unit = round(sample_rate * padding_seconds)

    def extract(sounds, random=None):
        if random is not None:
            seed = int(random.integers(2**31))
            change = AudioAugment(shift=0.0, speed=0.0, tilt=0.5, snr_db=(10.0, 60.0), seed=seed)
        found = [None] * len(sounds)
        units = [-(-len(sound) // unit) for sound in sounds]
        for count in sorted(set(units)):
            rows = [row for row, one in enumerate(units) if one == count]
            x = np.zeros((len(rows), count * unit), np.float32)
            for row, padded in zip(rows, x, strict=True):
                padded[: len(sounds[row])] = sounds[row]
            if random is not None:
                x = change(x, training=True)
            for layer in front:
                x = layer(x)
            for row, features in zip(rows, ops.convert_to_numpy(x), strict=True):
                found[row] = features[: front[0].frames(max(len(sounds[row]), front[0].frame))]
        return found

    return extract


def bucket_lengths(lengths, longest):
    """Return up to `BUCKETS` lengths in frames that waste little padding on utterances of these `lengths`."""
    edges = np.quantile(lengths, np.arange(1, BUCKETS) / BUCKETS)
    return sorted({int(-(-edge // _ROUND) * _ROUND) for edge in [*edges, longest]})


class ErrorRate(keras.callbacks.Callback):
    """Adds `val_error_rate` to each epoch's logs: wrong characters or phones, a fraction of the validation texts'.

    Args:
        batches: `Batches` of the validation split, without augmentation.
        rate: function of (right texts, texts heard).
        spell: function from classes to a text.
    """

    def __init__(self, batches, rate, spell):
        super().__init__()
        self.batches, self.rate, self.spell = batches, rate, spell

    def on_epoch_end(self, epoch, logs):
        heard = {}  # by utterance, as some fill up several batches
        for index in range(len(self.batches)):
            x, _ = self.batches[index]
            outputs = ops.convert_to_numpy(predict_batch(self.model, x))
            heard |= {
                row: self.spell(device.collapse(one))
                for row, one in zip(self.batches.rows(index), outputs, strict=True)
            }
        right = [self.spell(label) for label in self.batches.labels]
        logs["val_error_rate"] = self.rate(right, [heard[row] for row in range(len(right))])
