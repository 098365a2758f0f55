"""Time of one training step of our layers against keras.layers.LSTM and the same cell in keras.layers.RNN.

    KERAS_BACKEND=tensorflow python benchmarks/train_step.py
    KERAS_BACKEND=jax python benchmarks/train_step.py

One recurrent layer, outputs of all steps, squared error, plain gradient descent, batches of open size as `fit` makes
them. The models take turns in one process; each time is the median of many steps.
"""

import time

import numpy as np
from record import record

SIZES = ((32, 49, 40, 64), (32, 100, 64, 128), (64, 50, 256, 256))  # (batch, steps, features, units)
ROUNDS, REPEATS = 12, 2


def contenders(units):
    import keras

    from zoo.layers import PeepholeLSTM, PeepholeLSTMCell

    return {
        "PeepholeLSTM": PeepholeLSTM(units, return_sequences=True),
        "RNN(PeepholeLSTMCell)": keras.layers.RNN(PeepholeLSTMCell(units), return_sequences=True),
        "keras LSTM": keras.layers.LSTM(units, return_sequences=True, use_cudnn=False),
    }


def stepper(layer, batch, steps, features, jit_compile):
    """Return a function that takes one training step of a model of this layer, and waits for it."""
    import keras

    model = keras.Sequential([keras.Input((steps, features)), layer])
    model.compile("sgd", "mse", jit_compile=jit_compile)
    random = np.random.default_rng(0)
    x = random.normal(size=(batch, steps, features)).astype("float32")
    y = np.zeros((batch, *model.output_shape[1:]), "float32")
    if keras.backend.backend() != "tensorflow":
        return lambda: model.train_on_batch(x, y)
    import tensorflow as tf

    data = iter(tf.data.Dataset.from_tensors((x[0], y[0])).repeat().batch(batch))  # leaves the batch size open
    model.make_train_function()
    return lambda: [value.numpy() for value in keras.tree.flatten(model.train_function(data))]


def main():
    import keras

    backend, rows = keras.backend.backend(), []
    for size in SIZES:
        for jit_compile in (False, True) if backend == "tensorflow" else (True,):
            runs = {n: stepper(layer, *size[:3], jit_compile) for n, layer in contenders(size[3]).items()}
            times = {name: [] for name in runs}
            for run in runs.values():
                run(), run()
            for _ in range(ROUNDS):
                for name, run in runs.items():
                    start = time.perf_counter()
                    for _ in range(REPEATS):
                        run()
                    times[name].append(1000 * (time.perf_counter() - start) / REPEATS)
            median = {name: float(np.median(values)) for name, values in times.items()}
            row = {"size": size, "xla": jit_compile, "ms": median}
            row["over_lstm"] = median["PeepholeLSTM"] / median["keras LSTM"]
            row["rnn_over_ours"] = median["RNN(PeepholeLSTMCell)"] / median["PeepholeLSTM"]
            rows.append(row)
            said = "  ".join(f"{name} {value:.1f}" for name, value in median.items())
            print(f"{backend} {size} xla={jit_compile}: {said}  / LSTM {row['over_lstm']:.2f}", flush=True)
    record(f"train_step-{backend}", {"rows": rows, "seeds": [0]})


if __name__ == "__main__":
    main()
