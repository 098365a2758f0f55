"""The rows of every batch, or the files, that this process takes where training is shared out."""

import keras
import numpy as np

from zoo.errors import DataError
from zoo.train.sharing import current


class _Share(keras.utils.PyDataset):
    """The rows of batches that this process is to take, as many in each as in every other process."""

    def __init__(self, batches, sharing, whole):
        super().__init__(batches.workers, batches.use_multiprocessing, batches.max_queue_size)
        self._batches, self._length, self._whole = batches, len(batches), whole
        self._parts, self._sharers, self._own = sharing.devices, sharing.workers, sharing.worker  # _workers is Keras'
        if not whole:
            found = sharing.cluster.exchange([len(batches), _rows(batches[0])])
            if len({rows for _, rows in found}) > 1:
                raise DataError(
                    f"the first batches of the workers have {', '.join(str(rows) for _, rows in found)} rows, expected "
                    "as many of each: choose a batch size that the files of every worker can fill."
                )
            self._length, self._size = min(length for length, _ in found), found[0][1]

    def __len__(self):
        return self._length

    def __getitem__(self, index):
        batch = self._batches[index]
        count = _rows(batch)
        least, parts = (count, self._parts) if self._whole else (self._size, self._parts // self._sharers)
        order = np.arange(-(-least // parts) * parts) % count  # the first again where rows are missing
        if self._whole:
            order = np.split(order, self._sharers)[self._own]
        return keras.tree.map_structure(lambda one: None if one is None else one[order], batch)


def _rows(batch):
    return len(next(one for one in keras.tree.flatten(batch) if one is not None))


def share(batches, *, whole=True):
    """Return the rows of batches that this process takes, for `keras.Model.fit` within `distributed`; else the batches.

    A batch whose rows cannot be shared out evenly is filled up with its own first rows, which then count twice.

    Args:
        batches: an `EpochBatches`.
        whole: whether they are the same for all workers, who each take their rows of every batch. Else they are of this
            worker's own files, as `share_files` tells them: of as many rows on each; an epoch has as many batches as
            the worker with the fewest.

    Raises:
        DataError: the workers' own batches are not of the same size.
    """
    sharing = current()
    if sharing.devices == 1:
        return batches
    return _Share(batches, sharing, whole or not sharing.cluster)


def share_files(paths):
    """Return those of a list of files that this worker is to read: every n-th, where there are n workers.

    Raises:
        DataError: there are fewer files than workers.
    """
    sharing, paths = current(), list(paths)
    if len(paths) < sharing.workers:
        raise DataError(
            f"received {len(paths)} files for {sharing.workers} workers, expected one for each at least: share rows "
            "out instead, or start fewer workers."
        )
    return paths[sharing.worker :: sharing.workers]


def predict_batch(model, x):
    """Return what `keras.Model.predict_on_batch` returns, once; of mirrored devices Keras returns that of each."""
    rows = _rows(x)
    return keras.tree.map_structure(lambda one: one[:rows], model.predict_on_batch(x))
