"""Time of one training step of our layers against keras.layers.LSTM, keras.layers.RNN over the same cell, and torch.

    KERAS_BACKEND=tensorflow python benchmarks/train_step.py
    KERAS_BACKEND=tensorflow python benchmarks/train_step.py --xla
    KERAS_BACKEND=jax python benchmarks/train_step.py

One recurrent layer, outputs of all steps, squared error, plain gradient descent, batches of open size as `fit` makes
them; what attends attends to its own inputs. Every layer but `EchoState`, which no gradient trains: echo_state.py has
its times. The models take turns in one process; each time is the median of many steps. torch.nn.LSTM, where torch is
installed, comes after them, with as many threads as there are cores: in turn with the others, its threads, which wait
for more work without sleeping, would slow whoever is next.
"""

import argparse
import importlib.util
import os
import time

import numpy as np
from record import record

SIZES = ((32, 49, 40, 64), (32, 100, 64, 128), (64, 50, 256, 256))  # (batch, steps, features, units)
ROUNDS, REPEATS = 12, 2
ATTENTION_UNITS = 32
# keras.layers.RNN cannot run these: the statistics of `BatchNormLSTM` and the memory that a cell attends to come from
# their layers; on JAX no seed can advance inside a loop.
NEED_THEIR_LAYER = "BatchNormLSTM", "AdditiveAttention", "DotAttention"
DRAW_NOISE = "ZoneoutLSTM", "ZoneoutGRU", "VariationalDropout"


def contenders(features, units, steps):
    """Return the layers by name, each with outputs of all steps."""
    from zoo import layers

    def recurrent(cell):
        return layers.Recurrent(cell, return_sequences=True)

    def attentive(cell):
        return layers.AttentiveRecurrent(cell(layers.LSTMCell(units), ATTENTION_UNITS, features), return_sequences=True)

    every = {"return_sequences": True}
    return {
        "PeepholeLSTM": layers.PeepholeLSTM(units, **every),
        "ZoneoutLSTM": layers.ZoneoutLSTM(units, cell_rate=0.5, hidden_rate=0.05, **every),
        "LayerNormLSTM": layers.LayerNormLSTM(units, **every),
        "BatchNormLSTM": layers.BatchNormLSTM(units, **every),
        "SLSTM": layers.SLSTM(units, **every),
        "FastGRNN": layers.FastGRNN(units, **every),
        "ZoneoutGRU": layers.ZoneoutGRU(units, rate=0.1, **every),
        "IndRNN": layers.IndRNN(units, steps, **every),
        "MinGRU": layers.MinGRU(units, **every),
        "MinLSTM": layers.MinLSTM(units, **every),
        "LIF": layers.LIF(units, recurrent=True, **every),
        "GRUCell": recurrent(layers.GRUCell(units)),
        "LSTMCell": recurrent(layers.LSTMCell(units)),
        "VariationalDropout(GRUCell)": recurrent(layers.VariationalDropout(layers.GRUCell(units), 0.2, 0.2)),
        "StackedCells(LSTMCell, ResidualCell(LSTMCell))": recurrent(
            layers.StackedCells([layers.LSTMCell(units), layers.ResidualCell(layers.LSTMCell(units))])
        ),
        "AdditiveAttention(LSTMCell)": attentive(layers.AdditiveAttention),
        "DotAttention(LSTMCell)": attentive(layers.DotAttention),
    }


def in_keras_rnn(ours):
    """Return keras.layers.RNN over a new cell of each of `ours` that it can run, by the same names."""
    import keras

    left_out = NEED_THEIR_LAYER + (DRAW_NOISE if keras.backend.backend() == "jax" else ())
    return {
        name: keras.layers.RNN(type(layer.cell).from_config(layer.cell.get_config()), return_sequences=True)
        for name, layer in ours.items()
        if name.split("(")[0] not in left_out
    }


def stepper(layer, batch, steps, features, jit_compile):
    """Return a function that takes one training step of a model of this layer, and waits for it."""
    import keras

    from zoo.layers import AttentiveRecurrent

    inputs = keras.Input((steps, features))
    outputs = layer(inputs, memory=inputs) if isinstance(layer, AttentiveRecurrent) else layer(inputs)
    model = keras.Model(inputs, outputs)
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


def compare(shape, units, jit_compile):
    """Return the row of one size: the times, and how the layers compare."""
    import keras

    ours = contenders(shape[-1], units, shape[1])
    layers = {"keras LSTM": keras.layers.LSTM(units, use_cudnn=False, return_sequences=True), **ours}
    layers |= {f"RNN({name})": layer for name, layer in in_keras_rnn(ours).items()}
    ms = medians({name: stepper(layer, *shape, jit_compile) for name, layer in layers.items()})
    if importlib.util.find_spec("torch"):
        ms |= medians({"torch LSTM": torch_stepper(*shape, units)})
    return {
        "size": [*shape, units],
        "ms": ms,
        "over_keras_lstm": {name: value / ms["keras LSTM"] for name, value in ms.items()},
        "times_as_fast_as_rnn": {name: ms[f"RNN({name})"] / ms[name] for name in ours if f"RNN({name})" in ms},
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--xla", action="store_true", help="compile the step, on TensorFlow; JAX always does")
    xla = parser.parse_args().xla
    import keras

    backend, rows = keras.backend.backend(), []
    for *shape, units in SIZES:
        rows.append(row := compare(shape, units, xla or backend == "jax"))
        print(f"{backend}{' with XLA' if xla else ''}, (batch, steps, features, units) = {(*shape, units)}")
        for name, value in row["ms"].items():
            print(f"  {name:<52}{value:8.1f} ms{row['over_keras_lstm'][name]:8.2f} x keras LSTM", flush=True)
    compiled = "-xla" if xla and backend == "tensorflow" else ""
    record(f"train_step-{backend}{compiled}", {"rows": rows, "seeds": [0]})


if __name__ == "__main__":
    main()
