"""Time of one training step of our layers against keras.layers.LSTM, keras.layers.RNN over the same cell, and torch.

    KERAS_BACKEND=tensorflow python benchmarks/train_step.py
    KERAS_BACKEND=tensorflow python benchmarks/train_step.py --xla
    KERAS_BACKEND=jax python benchmarks/train_step.py

One recurrent layer, outputs of all steps, squared error, plain gradient descent, batches of open size as `fit` makes
them. The models take turns in one process; each time is the median of many steps. torch.nn.LSTM, where torch is
installed, comes after them, with as many threads as there are cores: in turn with the others, its threads, which wait
for more work without sleeping, would slow whoever is next. `Zoneout` in keras.layers.RNN is left out on JAX, where no
seed can advance inside a loop.
"""

import argparse
import importlib.util
import os
import time

import numpy as np
from record import record

SIZES = ((32, 49, 40, 64), (32, 100, 64, 128), (64, 50, 256, 256))  # (batch, steps, features, units)
ROUNDS, REPEATS = 12, 2
OF_THE_GOALS = "PeepholeLSTM", "ZoneoutLSTM", "LayerNormLSTM"


def contenders(units, steps):
    """Return the layers by name, each with outputs of all steps."""
    import keras

    from zoo import layers

    every = {"return_sequences": True}
    ours = {
        "PeepholeLSTM": layers.PeepholeLSTM(units, **every),
        "ZoneoutLSTM": layers.ZoneoutLSTM(units, cell_rate=0.5, hidden_rate=0.05, **every),
        "LayerNormLSTM": layers.LayerNormLSTM(units, **every),
        "Recurrent(GRUCell)": layers.Recurrent(layers.GRUCell(units), **every),
        "SLSTM": layers.SLSTM(units, **every),
        "FastGRNN": layers.FastGRNN(units, **every),
        "IndRNN": layers.IndRNN(units, steps, **every),
        "MinGRU": layers.MinGRU(units, **every),
        "MinLSTM": layers.MinLSTM(units, **every),
    }
    plain = {
        f"RNN({name})": keras.layers.RNN(type(ours[name].cell).from_config(ours[name].cell.get_config()), **every)
        for name in OF_THE_GOALS
        if not (name == "ZoneoutLSTM" and keras.backend.backend() == "jax")
    }
    return {"keras LSTM": keras.layers.LSTM(units, use_cudnn=False, **every), **ours, **plain}


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


def torch_stepper(batch, steps, features, units):
    """The same step of torch.nn.LSTM."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    layer = torch.nn.LSTM(features, units, batch_first=True)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
    x = torch.tensor(np.random.default_rng(0).normal(size=(batch, steps, features)).astype("float32"))

    def run():
        optimizer.zero_grad()
        layer(x)[0].square().mean().backward()
        optimizer.step()

    return run


def medians(runs):
    """Return the median milliseconds of each function, which take turns."""
    for run in runs.values():
        run(), run()
    times = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            start = time.perf_counter()
            for _ in range(REPEATS):
                run()
            times[name].append(1000 * (time.perf_counter() - start) / REPEATS)
    return {name: float(np.median(values)) for name, values in times.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--xla", action="store_true", help="compile the step, on TensorFlow; JAX always does")
    xla = parser.parse_args().xla
    import keras

    backend, rows = keras.backend.backend(), []
    for *shape, units in SIZES:
        layers = contenders(units, shape[1])
        runs = {name: stepper(layer, *shape, xla or backend == "jax") for name, layer in layers.items()}
        ms = medians(runs)
        if importlib.util.find_spec("torch"):
            ms |= medians({"torch LSTM": torch_stepper(*shape, units)})
        over = {name: value / ms["keras LSTM"] for name, value in ms.items()}
        faster = {name: ms[f"RNN({name})"] / ms[name] for name in OF_THE_GOALS if f"RNN({name})" in ms}
        rows.append({"size": [*shape, units], "ms": ms, "over_keras_lstm": over, "times_as_fast_as_rnn": faster})
        print(f"{backend}{' with XLA' if xla else ''}, (batch, steps, features, units) = {(*shape, units)}")
        for name, value in ms.items():
            print(f"  {name:<20}{value:8.1f} ms{over[name]:8.2f} x keras LSTM", flush=True)
    compiled = "-xla" if xla and backend == "tensorflow" else ""
    record(f"train_step-{backend}{compiled}", {"rows": rows, "seeds": [0]})


if __name__ == "__main__":
    main()
