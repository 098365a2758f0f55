"""Batches of sequences of like length, so that little of a batch is padding."""

import numpy as np

from zoo import checks
from zoo.errors import DataError
from zoo.train.batches import EpochBatches


class BucketBatches(EpochBatches):
    """Sequences of different lengths in batches of one size and a few lengths, in an order drawn for each epoch.

    Each sequence goes to the shortest of a few lengths that holds it, which lie at even shares of all sequences; a
    backend compiles once for each. What is missing from the last batch of a length is drawn from the others of it.
    Keras reads the batches through tf.data on TensorFlow, ahead of the step that needs them.

        x (batch_size, length of the bucket, ...), with `padding` behind each sequence; y (batch_size, ...)

    Args:
        sequences: list of arrays (steps, ...), alike but for the steps.
        targets: array, a row for each.
        batch_size: int.
        seed: int, of the orders.
        buckets: how many lengths there are, at most.
        padding: the number behind a sequence.

    Raises:
        DataError: there is no sequence, or not as many targets.
        SettingError: `batch_size`, `buckets` or `seed` is no whole number, or too small.
    """

    def __init__(self, sequences, targets, *, batch_size, seed, buckets=6, padding=0.0):
        super().__init__(seed)
        if not len(sequences) or len(sequences) != len(targets):
            raise DataError(
                f"received {len(sequences)} sequences and {len(targets)} targets, expected as many of both."
            )
        self.batch_size, buckets = checks.whole(batch_size, "batch_size"), checks.whole(buckets, "buckets")
        self.sequences, self.targets, self.padding = sequences, targets, padding
        steps = np.array([len(one) for one in sequences])
        edges = np.quantile(steps, np.arange(1, buckets + 1) / buckets, method="higher")
        self.lengths = np.unique(np.maximum(edges, 1).astype(int))
        self._bucket = np.searchsorted(self.lengths, steps)
        self.begin(0)

    def arrange(self, random):
        batches = []
        for bucket in np.unique(self._bucket):
            rows = random.permutation(np.flatnonzero(self._bucket == bucket))
            rows = np.concatenate([rows, random.choice(rows, -len(rows) % self.batch_size)])
            batches += [(self.lengths[bucket], part) for part in rows.reshape(-1, self.batch_size)]
        batches = [batches[place] for place in random.permutation(len(batches))]
        other = next((place for place, (length, _) in enumerate(batches) if length != batches[0][0]), 0)
        batches.insert(1, batches.pop(other)) if other else None  # Keras on TensorFlow looks at two for what may vary
        self._batches = batches

    def __len__(self):
        return len(self._batches)

    def __getitem__(self, index):
        length, rows = self._batches[index]
        first = self.sequences[rows[0]]
        x = np.full((len(rows), length, *first.shape[1:]), self.padding, first.dtype)
        for row, place in zip(rows, x, strict=True):
            place[: len(self.sequences[row])] = self.sequences[row]
        return x, self.targets[rows]

    @property
    def padding_share(self):
        """The share of an epoch's steps that are padding."""
        held = sum(len(self.sequences[row]) for _, rows in self._batches for row in rows)
        return 1 - held / sum(length * len(rows) for length, rows in self._batches)
