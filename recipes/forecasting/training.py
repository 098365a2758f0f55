"""How the networks of the forecasting recipe learn: by gradient, by a readout in closed form, and their quantiles."""

import warnings

import keras
import numpy as np
from keras import ops

from zoo.errors import DataError
from zoo.layers import RidgeReadout
from zoo.recipes.forecasting.networks import SCALED
from zoo.train import EpochBatches, share, together
from zoo.train.shared_batches import predict_batch

_STEADY, _FALL = 3, 0.8  # epochs of the first learning rate; its share from each epoch to the next, as SegRNN has it
_BLOCK = 1024  # windows


class Windows(EpochBatches):
    """Batches of (past, future) of one split; with `shuffle` in a new order each epoch."""

    def __init__(self, recipe, split, *, shuffle):
        super().__init__(recipe.seed)
        self._recipe = recipe
        self._windows = recipe.load().windows(split, recipe.look_back, recipe.horizon)
        self._shuffle, self._order = shuffle, self._windows
        self.begin(0)

    def __len__(self):
        return -(-len(self._windows) // self._recipe.batch_size)

    def __getitem__(self, index):
        size = self._recipe.batch_size
        return self._recipe.cut(self._order[index * size : (index + 1) * size])

    def arrange(self, random):
        if self._shuffle:
            self._order = random.permutation(self._windows)


def scaled_model(model):
    """Return the model whose output is what is learnt: the scaled future, below it a row of levels, one of spreads."""
    _, level, spread = model.get_layer("scale").output
    return keras.Model(model.input, ops.concatenate([model.get_layer(SCALED).output, level, spread], axis=1))


def absolute_error(future, learnt):
    """Return the mean absolute error of the scaled future; what is missing counts as no error."""
    ahead, level, spread = learnt[:, :-2], learnt[:, -2:-1], learnt[:, -1:]
    error = (future - level) / spread - ahead
    return ops.mean(ops.abs(ops.where(ops.equal(future, future), error, ops.zeros_like(error))))


def fit(recipe, learner, loss, callbacks, verbose, *, windows=Windows):
    """Train by gradient; return the history by epoch.

    Args:
        recipe: its epochs, batch size and learning rate.
        learner: `keras.Model` from what `windows` give to what the loss compares with the future.
        loss: function of (future, what the learner gives).
        callbacks, verbose: as `keras.Model.fit` takes them.
        windows: class of the batches.
    """
    learner.compile(
        keras.optimizers.Adam(recipe.learning_rate, global_clipnorm=1.0),
        loss,
        jit_compile=keras.backend.backend() == "jax",  # elsewhere it compiles anew for each shape
    )
    falling = keras.callbacks.LearningRateScheduler(
        lambda epoch: recipe.learning_rate * _FALL ** max(0, epoch + 1 - _STEADY)
    )
    best = keras.callbacks.EarlyStopping("val_loss", patience=recipe.epochs, restore_best_weights=True)
    batches = windows(recipe, "train", shuffle=True)
    return learner.fit(
        share(batches),
        epochs=recipe.epochs,
        validation_data=windows(recipe, "validation", shuffle=False),
        callbacks=together(batches, falling, best, *callbacks),
        shuffle=False,
        verbose=verbose,
    ).history


def fit_readout(recipe, model, *, most):
    """Fit the readout of a reservoir on up to `most` training windows; return the validation error of each ridge."""
    series, sizes = recipe.load(), (recipe.look_back, recipe.horizon)
    _, level, spread = model.get_layer("scale").output
    reader = keras.Model(model.input, [model.get_layer("features").output, level, spread])
    readout = RidgeReadout()

    def batches(split, most):
        windows = series.windows(split, *sizes)
        windows = windows[np.linspace(0, len(windows) - 1, min(most, len(windows))).round().astype(int)]
        for start in range(0, len(windows), _BLOCK):
            past, future = series.cut(windows[start : start + _BLOCK], *sizes)
            features, level, spread = (ops.convert_to_numpy(each) for each in reader(past))
            targets = np.swapaxes((future - level) / spread, 1, 2).reshape(-1, recipe.horizon)
            known = np.isfinite(targets).all(axis=1)
            if known.any():
                yield features[known][:, None], targets[known][:, None]  # each window a sequence of one step

    found = {split: list(batches(split, most)) for split in ("train", "validation")}
    for split, those in found.items():
        if not those:
            raise DataError(
                f"{recipe.data}: every window of the {split} split misses a value of its future, and network "
                "'echo_state' learns from whole ones: take network='segrnn', or a shorter horizon."
            )
    for features, targets in found["train"]:
        readout.add(features, targets)
    dense = readout.solve(found["validation"])
    model.get_layer("readout").set_weights(dense.get_weights())
    return {"ridge": readout.ridge, "val_mse": {str(ridge): error for ridge, error in readout.errors.items()}}


def measure_quantiles(recipe, model):
    """Set the offsets of the model's quantiles to those of its errors on the validation split."""
    learner, layer, errors = scaled_model(model), model.get_layer("quantiles"), []
    validation = Windows(recipe, "validation", shuffle=False)
    for past, future in (validation[number] for number in range(len(validation))):
        learnt = predict_batch(learner, past)
        errors.append((future - learnt[:, -2:-1]) / learnt[:, -1:] - learnt[:, :-2])
    errors = np.concatenate(errors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a step whose every value is missing: its offsets are 0
        offsets = np.nan_to_num(np.nanquantile(errors, layer.levels, axis=0))  # (levels, horizon, channels)
    offsets[layer.levels.index(0.5)] = 0.0  # the median is what was learnt
    layer.offset.assign(np.moveaxis(_in_order(offsets, layer.levels.index(0.5)), 0, -1))


def _in_order(offsets, middle):
    """Keep lower quantiles at or below the median, higher ones at or above, where the errors are one-sided."""
    offsets[:middle] = np.minimum(offsets[:middle], 0.0)
    offsets[middle:] = np.maximum(offsets[middle:], 0.0)
    return offsets
