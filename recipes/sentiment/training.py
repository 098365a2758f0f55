"""How the sentiment recipe trains: batches of texts of like length."""

import numpy as np

from zoo.train import EpochBatches

_LENGTHS = (16, 32, 64, 128, 256, 512, 1024)  # few, as each is compiled anew
_POOL = 50  # batches that are ordered by length together


class Batches(EpochBatches):
    """Batches of texts of like length, padded to the longest of them and not to the longest of all.

    Every epoch shuffles the texts, orders stretches of them by length, and shuffles the batches, all but a shortest and
    a longest, which come first. Texts that do not fill a batch wait for the next epoch's order.

    Args:
        ids: int32 (texts, length), padded with 0 at the end.
        targets: float32 (texts, classes).
        batch_size: int.
        seed: int, of the order.
    """

    def __init__(self, ids, targets, batch_size, seed):
        super().__init__(seed)
        self.ids, self.targets, self.batch_size = ids, targets, min(batch_size, len(ids))
        self._lengths = (ids > 0).sum(axis=1)
        self.begin(0)

    def __len__(self):
        return len(self.ids) // self.batch_size

    def __getitem__(self, index):
        rows = self._batches[index]
        return trimmed(self.ids[rows]), self.targets[rows]

    def arrange(self, random):
        order = random.permutation(len(self.ids))
        stretch = _POOL * self.batch_size
        for start in range(0, len(order), stretch):
            part = order[start : start + stretch]
            order[start : start + stretch] = part[np.argsort(self._lengths[part], kind="stable")]
        spare = len(order) % self.batch_size
        kept = np.delete(order, random.choice(len(order), spare, replace=False))
        batches = kept.reshape(len(self), self.batch_size)
        longest = self._lengths[batches].max(axis=1)
        ends = [longest.argmin(), longest.argmax()]  # first, as Keras takes the first two for what may vary
        rest = random.permutation(np.setdiff1d(np.arange(len(batches)), ends))
        self._batches = batches[[*dict.fromkeys(ends), *rest]]

    @property
    def padding_share(self):
        held = self._lengths[self._batches]
        padded = [_padded(longest, self.ids.shape[1]) for longest in held.max(axis=1)]
        return 1 - held.sum() / (self.batch_size * sum(padded))


def trimmed(ids):
    """Return `ids` without the padding that all rows share, up to one of a few lengths."""
    return ids[:, : _padded((ids > 0).sum(axis=1).max(), ids.shape[1])]


def _padded(longest, width):
    return next((length for length in _LENGTHS if longest <= length < width), width)
