"""Trains a small network alone and shared out over two devices, and writes how far their weights are apart.

    python shared_training.py DEVICES FOLDER

DEVICES is 2, or cluster, of which the environment tells this worker. To FOLDER go the file N.json of worker N, and the
checkpoints of a run that was interrupted and taken up again.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np

from zoo import train

EPOCHS = 3


class Filled(train.EpochBatches):
    """What one device has to see to learn what two do: a batch of 3 rows is filled up to 4."""

    def __init__(self, batches):
        super().__init__(0)
        self.batches = batches

    def arrange(self, random):
        pass

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return tuple(np.concatenate([one, one[: len(one) % 2]]) for one in self.batches[index])


class Kill(keras.callbacks.Callback):
    """Ends training within the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (1, 3):
            raise InterruptedError


def fit(*callbacks, shared=True):
    """Train from scratch; return (model, history)."""
    keras.utils.set_random_seed(1)
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(23, 3, 2)).astype("float32"), draw.normal(size=(23, 1)).astype("float32")
    batches = train.ArrayBatches(x, y, batch_size=4, seed=3)
    extra = []
    if keras.backend.backend() == "jax":  # which normalises over the whole batch, and draws for all of it
        extra = [keras.layers.BatchNormalization(), keras.layers.Dropout(0.3, seed=4)]
    reader = keras.layers.SimpleRNN(5, unroll=True)  # quick to trace
    model = keras.Sequential([keras.Input((3, 2)), reader, *extra, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.02, global_clipnorm=0.3), "mse", metrics=["mae"])  # clipped at every step
    history = model.fit(
        train.share(batches) if shared else Filled(batches),
        epochs=EPOCHS,
        validation_data=(x[:5] + 1, y[:5]),
        callbacks=train.together(batches, *callbacks),
        shuffle=False,
        verbose=0,
    )
    return model, history.history


def apart(one, other):
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return max(float(np.abs(a.astype(float) - b.astype(float)).max()) for a, b in pairs)


def main(devices, folder):
    folder, found = Path(folder), {}
    with train.distributed(devices) as sharing:
        shared, history = fit()
        resume = train.Resume(folder / "checkpoints", every=2)
        try:
            fit(Kill(), resume)
        except InterruptedError:
            found["wrote"] = sharing.chief
        again = train.Resume(folder / "checkpoints" if sharing.chief else folder / "nothing", every=2)
        found["resumed"] = apart(fit(again)[0], shared)
        found["resumed_at"] = again.resumed_at
    alone, expected = fit(shared=False)
    found["alone"] = apart(alone, shared)
    found["loss"] = max(abs(a - b) for name in expected for a, b in zip(expected[name], history[name], strict=True))
    (folder / f"{sharing.worker}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    devices, folder = sys.argv[1:]
    main(int(devices) if devices.isdigit() else devices, folder)
