"""Batches whose order depends on the seed and the epoch alone, so that training can be taken up anywhere."""

import functools
import time

import keras
import numpy as np

from zoo import checks
from zoo.errors import SettingError
from zoo.train.sharing import current


class EpochBatches(keras.utils.PyDataset):
    """Batches that are arranged anew for each epoch, from a generator of (seed, epoch).

    What an epoch brings is a function of its number, not of the epochs before: a run that starts at epoch 7 meets the
    batches that an uninterrupted one does. A subclass writes `arrange`, `__len__` and `__getitem__`, and calls `begin`
    where its own `__init__` ends. `together` tells it, from then on, which epoch begins. A subclass that pads also has
    `padding_share`, the share of an epoch's steps that are padding.

    Args:
        seed: int of at least 0, of the orders.

    Attributes:
        input_seconds: what making the batches of the epoch has taken so far. On TensorFlow they are made ahead, beside
            the training step; elsewhere training waits that long.

    Raises:
        SettingError: a seed that is none.
    """

    padding_share = None

    def __init__(self, seed):
        super().__init__()
        self.seed, self.epoch, self.input_seconds = checks.whole(seed, "seed", least=0), None, 0.0

    def __init_subclass__(cls, **options):
        """Let `__getitem__`, which Keras calls, add to `input_seconds`."""
        super().__init_subclass__(**options)
        if "__getitem__" in vars(cls):
            cls.__getitem__ = _timed(cls.__getitem__)

    def begin(self, epoch):
        """Arrange the batches of an epoch, counted from 0."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.arrange(np.random.default_rng([self.seed, epoch]))

    def arrange(self, random):
        """Draw the order of an epoch, and what else changes with it, from a NumPy generator."""
        raise NotImplementedError(f"{type(self).__name__}.arrange")


def _timed(make):
    @functools.wraps(make)
    def make_timed(self, index):
        started = time.perf_counter()
        batch = make(self, index)
        self.input_seconds += time.perf_counter() - started
        return batch

    return make_timed


class ArrayBatches(EpochBatches):
    """Batches of arrays in an order drawn anew for each epoch; the last one of an epoch may be smaller.

    Args:
        arrays: of as many rows each, in the order in which `keras.Model.fit` takes them: inputs, targets. Of a model
            with several inputs or outputs, lists or dicts of arrays.
        batch_size: rows.
        seed: int, of the orders.

    Raises:
        SettingError: there is no array, or they have not the same number of rows.
    """

    def __init__(self, *arrays, batch_size, seed):
        super().__init__(seed)
        self.arrays, self.batch_size = _tuples(arrays), checks.whole(batch_size, "batch_size")
        shapes = [getattr(array, "shape", None) for array in keras.tree.flatten(arrays)]
        if not all(shapes) or len({shape[0] for shape in shapes}) != 1:
            raise SettingError(
                "ArrayBatches: received arrays of the shapes "
                f"{', '.join(map(str, shapes)) or 'none'}; expected arrays of the same number of rows."
            )
        self._rows = shapes[0][0]
        self.begin(0)

    def arrange(self, random):
        self._order = random.permutation(self._rows)

    def __len__(self):
        return -(-len(self._order) // self.batch_size)

    def __getitem__(self, index):
        rows = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        return keras.tree.map_structure(lambda array: array[rows], self.arrays)


def _tuples(nested):
    """Return tuples where lists are, of which tf.data would make one tensor."""
    if isinstance(nested, (list, tuple)):
        return tuple(_tuples(one) for one in nested)
    return {name: _tuples(one) for name, one in nested.items()} if isinstance(nested, dict) else nested


class JoinedCallback(keras.callbacks.Callback):
    """A callback that knows those before it, `others`, the first of which has the batches; `together` tells it."""

    others = None

    def join(self, callbacks):
        """Take the callbacks that are called before this one."""
        self.others = callbacks

    def set_model(self, model):
        if self.others is None:
            raise SettingError(
                f"{type(self).__name__} knows no batches, expected fit(batches, callbacks=zoo.train.together(batches, "
                "...), shuffle=False)."
            )
        super().set_model(model)


def together(batches, *callbacks):
    """Return the callbacks for `keras.Model.fit`, introduced to the batches and to each other.

    Pass `shuffle=False` as well, as the batches have their own order; they hear which epoch begins. Callbacks come in
    the order given, but those with an attribute `after_others` that is true, as one that keeps what the others are at
    the end of an epoch, come last. A callback with a method `join` gets the list of those before it, of which the first
    has the attribute `batches`.

    Args:
        batches: an `EpochBatches`.
        callbacks: Keras callbacks.

    Example:
        >>> import keras, numpy as np
        >>> batches = ArrayBatches(np.zeros((6, 2)), np.zeros((6, 1)), batch_size=4, seed=0)
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> history = model.fit(batches, callbacks=together(batches), shuffle=False, verbose=0)
    """
    last = [one for one in callbacks if getattr(one, "after_others", False)]
    first = [one for one in callbacks if one not in last]
    agreed = [_Agreed()] if current().cluster else []
    ordered = [_Epochs(batches), *first, keras.callbacks.History(), *agreed, *last]
    for number, one in enumerate(ordered):
        if hasattr(one, "join"):
            one.join(ordered[:number])
    return ordered


class _Epochs(keras.callbacks.Callback):
    """Tells batches which epoch begins, where Keras tells only that one does; and what shares them out, where it is."""

    def __init__(self, batches):
        super().__init__()
        self.batches, self._sharing = batches, current()

    def set_model(self, model):
        super().set_model(model)
        self._sharing.prepare(model)

    def on_train_begin(self, logs=None):
        self._sharing.begin(self.model, epochs=self.params["epochs"], batches=self.params["steps"])

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.begin(epoch)
        self.batches.input_seconds = 0.0
        self._sharing.in_batches(True)

    def on_test_begin(self, logs=None):
        self._sharing.in_batches(False)
        self._sharing.settle(self.model)

    def on_epoch_end(self, epoch, logs=None):
        self.on_test_begin()
        self._sharing.average(logs)

    def on_train_end(self, logs=None):
        self._sharing.release(self.model)


class _Agreed(keras.callbacks.Callback):
    """Stops training on all workers of a cluster when a callback of one has stopped it."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = any(current().cluster.exchange(bool(self.model.stop_training)))
