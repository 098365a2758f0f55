"""What it costs to be watched: training with `zoo.train.Diagnosis` and without, in turns, in one process.

    KERAS_BACKEND=jax python benchmarks/diagnosis_cost.py

An LSTM of 128 units reads 49 steps of 40 features, 64 rows a batch, for 8 epochs: after epochs 1, 2, 4 and 8 the
diagnosis looks at the gradients of one batch, and after every batch at loss and weights.
"""

import statistics
import time

import keras
import numpy as np
from record import record

from zoo import train

ROWS, STEPS, FEATURES, UNITS, BATCH = 2560, 49, 40, 128, 64
EPOCHS, REPEATS = 8, 5


class Seconds(keras.callbacks.Callback):
    """The time of each epoch, its callbacks' included."""

    def on_epoch_begin(self, epoch, logs=None):
        self.began = [*getattr(self, "began", []), time.perf_counter()]

    def on_train_end(self, logs=None):
        self.seconds = np.diff([*self.began, time.perf_counter()]).tolist()


def fit(watched):
    """Return the seconds of each epoch of a training from scratch."""
    keras.utils.set_random_seed(0)
    draw = np.random.default_rng(0)
    x = draw.normal(size=(ROWS, STEPS, FEATURES)).astype("float32")
    batches = train.ArrayBatches(x, x.mean(axis=(1, 2))[:, None], batch_size=BATCH, seed=0)
    inputs = keras.Input((STEPS, FEATURES))
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.LSTM(UNITS)(inputs)))
    model.compile(
        keras.optimizers.Adam(0.001, global_clipnorm=1.0), "mse", jit_compile=keras.backend.backend() == "jax"
    )
    seconds = Seconds()
    callbacks = train.together(batches, seconds, *([train.Diagnosis()] if watched else []))
    model.fit(batches, epochs=EPOCHS, callbacks=callbacks, shuffle=False, verbose=0)
    return seconds.seconds


def main():
    found = {"alone": [], "watched": []}
    for repeat in range(REPEATS):
        for name, each in found.items():
            each.append(fit(name == "watched"))
            print(repeat, name, [round(second, 3) for second in each[-1]], flush=True)
    whole = {name: statistics.median(sum(epochs) for epochs in each) for name, each in found.items()}
    later = {name: statistics.median(epochs[4] for epochs in each) for name, each in found.items()}  # looks not inside
    result = {
        "settings": {"rows": ROWS, "steps": STEPS, "features": FEATURES, "units": UNITS, "batch_size": BATCH},
        "seeds": [0],
        "epochs": EPOCHS,
        "repeats": REPEATS,
        "seconds_of_all_epochs": whole,
        "seconds_of_epoch_5": later,
        "ratio": whole["watched"] / whole["alone"],
        "ratio_of_epoch_5": later["watched"] / later["alone"],
    }
    print(result)
    record(f"diagnosis_cost-{keras.backend.backend()}", result)


if __name__ == "__main__":
    main()
