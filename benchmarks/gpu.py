"""Time of a training step on a GPU, through JAX: our layers against cuDNN's LSTM in keras.layers.LSTM.

    pip install "jax[cuda12]"
    KERAS_BACKEND=jax python benchmarks/gpu.py

One recurrent layer, outputs of all steps, squared error, the gradient of all weights; inputs wait on the device. The
layers take turns in one process; each time is the median of many steps. `--smoke` runs a tiny size on any device and
records nothing.
"""

import argparse
import sys
import time
from typing import NamedTuple

import numpy as np
from record import record


class Sizes(NamedTuple):
    lengths: tuple  # time steps
    batch: int
    features: int
    units: int
    rounds: int


FULL, SMOKE = Sizes((100, 300, 1000, 3000, 5000), 64, 128, 256, 10), Sizes((5,), 2, 3, 4, 2)


def contenders(units, steps, cudnn):
    import keras

    from zoo import layers

    every = {"return_sequences": True}
    return {
        "keras LSTM": keras.layers.LSTM(units, use_cudnn=cudnn, **every),  # True: an error where there is no cuDNN
        "PeepholeLSTM": layers.PeepholeLSTM(units, **every),
        "ZoneoutLSTM": layers.ZoneoutLSTM(units, cell_rate=0.5, hidden_rate=0.05, **every),
        "LayerNormLSTM": layers.LayerNormLSTM(units, **every),
        "Recurrent(GRUCell)": layers.Recurrent(layers.GRUCell(units), **every),
        "IndRNN": layers.IndRNN(units, steps, **every),
        "MinGRU": layers.MinGRU(units, **every),
    }


def stepper(layer, x):
    """Return a function that takes the gradient of a layer's weights, and waits for it."""
    import jax
    import jax.numpy as jnp

    layer.build(x.shape)
    weights = [variable.value for variable in layer.trainable_variables]
    others = [variable.value for variable in layer.non_trainable_variables]

    @jax.jit
    def gradients(weights, others, x):
        def loss(weights):
            return jnp.square(layer.stateless_call(weights, others, x, training=True)[0]).mean()

        return jax.grad(loss)(weights)

    return lambda: jax.block_until_ready(gradients(weights, others, x))


def compare(sizes, steps, cudnn):
    import jax

    x = jax.device_put(np.random.default_rng(0).normal(size=(sizes.batch, steps, sizes.features)).astype("float32"))
    runs = {name: stepper(layer, x) for name, layer in contenders(sizes.units, steps, cudnn).items()}
    for run in runs.values():
        run(), run()
    times = {name: [] for name in runs}
    for _ in range(sizes.rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(1000 * (time.perf_counter() - start))
    ms = {name: float(np.median(values)) for name, values in times.items()}
    over = {name: value / ms["keras LSTM"] for name, value in ms.items()}
    for name, value in ms.items():
        print(f"T {steps:<6}{name:<20}{value:9.2f} ms{over[name]:8.2f} x keras LSTM", flush=True)
    return {"steps": steps, "ms": ms, "over_keras_lstm": over}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true", help="a tiny size on any device; records nothing")
    smoke = parser.parse_args().smoke
    import keras

    if keras.backend.backend() != "jax":
        sys.exit(f"The backend is {keras.backend.backend()}; this benchmark needs JAX: set KERAS_BACKEND=jax.")
    import jax

    if not smoke and jax.default_backend() != "gpu":
        sys.exit(f"JAX sees no GPU, only {jax.devices()}; install jax[cuda12] on a machine with one, or use --smoke.")
    sizes = SMOKE if smoke else FULL
    rows = [compare(sizes, steps, "auto" if smoke else True) for steps in sizes.lengths]
    if not smoke:
        settings = {"batch": sizes.batch, "features": sizes.features, "units": sizes.units}
        record("gpu", {"gpu": jax.devices()[0].device_kind, "settings": settings, "rows": rows, "seeds": [0]})


if __name__ == "__main__":
    main()
