"""What sharing training out over machines costs: a model of the communication, measured, and what it predicts.

    python benchmarks/cluster_scaling.py

Two workers on this machine, each on a core of its own, reduce arrays of many sizes. From n = 2 come both numbers of a
ring, in which each worker sends 2 (n - 1) messages of 1/n of the gradient:

    t(n) = 2 (n - 1) latency + 2 (n - 1) / n bytes / bandwidth

A network of Keras' LSTM, and one of the zoo's peephole LSTM, are trained by one worker on its core, and by two, whose
time is then held against the prediction. With RANK, WORLD_SIZE=2, MASTER_ADDR and MASTER_PORT set, this process is one
worker of two, on whatever machines; the chief prints the numbers and records nothing: for a network of one's own.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import numpy as np
from record import record

SIZES = [2**power for power in range(8, 25, 2)]  # bytes
ROWS, STEPS, FEATURES, UNITS = 64, 49, 40, 256
LAYERS = "LSTM", "PeepholeLSTM"
WORKERS = 1, 2, 4, 8, 16
WARM, REPEATS = 4, 20
BACKENDS = "tensorflow", "jax"


def reducer(sharing, size):
    """Return a function that sums an array of `size` bytes over all workers, and waits for it."""
    import keras

    array = np.ones(size // 4, np.float32)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        given, reduce = tf.constant(array), tf.function(lambda one: sharing.mean([one])[0])
        return lambda: reduce(given).numpy()
    import jax

    mesh = jax.sharding.Mesh(np.array(jax.devices()), "worker")
    rows, whole = (jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)) for axes in (["worker"], []))
    given = jax.make_array_from_process_local_data(rows, array[None])
    reduce = jax.jit(lambda one: one.sum(axis=0), out_shardings=whole)
    return lambda: reduce(given).block_until_ready()


def median_ms(run):
    times = []
    for _ in range(WARM + REPEATS):
        start = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times[WARM:]))


def step_ms(layer, rows, sharing):
    """Return the time of a training step in which each worker has `rows` rows, and the bytes of the gradient."""
    import keras

    from zoo import layers, train

    class Times(keras.callbacks.Callback):
        ends = ()

        def on_train_batch_end(self, batch, logs=None):
            self.ends = [*self.ends, time.perf_counter()]

    keras.utils.set_random_seed(0)
    every, draw = rows * sharing.workers, np.random.default_rng(0)
    x = draw.normal(size=((WARM + REPEATS) * every, STEPS, FEATURES)).astype("float32")
    batches = train.ArrayBatches(x, x[:, 0, :1], batch_size=every, seed=0)
    recurrent = getattr(layers, layer, None) or getattr(keras.layers, layer)
    model = keras.Sequential([keras.Input((STEPS, FEATURES)), recurrent(UNITS), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=keras.backend.backend() == "jax")
    times = Times()
    model.fit(train.share(batches), callbacks=train.together(batches, times), shuffle=False, verbose=0)
    return float(np.median(1000 * np.diff(times.ends)[WARM:])), 4 * model.count_params()


def work(alone):
    """Measure as one worker; return what was measured."""
    from zoo import train

    with train.distributed(1 if alone else "cluster") as sharing:
        rows = [ROWS // workers for workers in WORKERS] if alone else [ROWS, ROWS // 2]
        found = {layer: {str(each): step_ms(layer, each, sharing) for each in rows} for layer in LAYERS}
        return {
            "all_reduce": [] if alone else [{"bytes": size, "ms": median_ms(reducer(sharing, size))} for size in SIZES],
            "step_ms": {layer: {each: ms for each, (ms, _) in steps.items()} for layer, steps in found.items()},
            "bytes": {layer: steps[str(ROWS)][1] for layer, steps in found.items()},
        }


def fit(reduced):
    """Return (latency in ms, bandwidth in bytes a ms) of the ring with the smallest relative error."""
    sizes, times = (np.array([one[key] for one in reduced], float) for key in ("bytes", "ms"))
    (latency, slope), *_ = np.linalg.lstsq(np.stack([2 / times, sizes / times], 1), np.ones(len(times)), rcond=None)
    return float(latency), float(1 / slope)


def ring_ms(workers, size, latency, bandwidth):
    return 2 * (workers - 1) * (latency + size / workers / bandwidth)


def processes(backend, alone):
    """Run one worker or two, each on a core of its own; return what the chief measured."""
    from zoo.train.cluster import free_port

    cores, port, started = sorted(os.sched_getaffinity(0)), free_port(), []
    for rank in range(1 if alone else 2):
        about = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = ["taskset", "--cpu-list", str(cores[rank]), sys.executable, __file__, *(["--alone"] if alone else [])]
        environment = os.environ | about | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    said = [process.communicate(timeout=1200)[0] for process in started]
    if any(process.returncode for process in started):
        sys.exit("\n".join(said))
    return json.loads(said[0].splitlines()[-1])


def held(size, alone, two, latency, bandwidth):
    """Return what two workers needed for a step, what the model says that they need, and what it says of more."""
    alone, predicted = {int(rows): ms for rows, ms in alone.items()}, []
    for workers in WORKERS:
        reduce = ring_ms(workers, size, latency, bandwidth)
        more, shared = alone[ROWS] + reduce, alone[ROWS // workers] + reduce
        quicker = {"more_rows": workers * alone[ROWS] / more, "same_rows": alone[ROWS] / shared}
        predicted.append({"workers": workers, "all_reduce_ms": reduce, **quicker})
    expected = {rows: alone[int(rows)] + ring_ms(2, size, latency, bandwidth) for rows in two}
    return {
        "gradient_bytes": size,
        "step_ms_alone": alone,
        "step_ms_of_two": {"measured": two, "predicted": expected},
        "times_as_fast": predicted,
    }


def measured(backend):
    one, two = processes(backend, alone=True), processes(backend, alone=False)
    latency, bandwidth = fit(two["all_reduce"])
    return {
        "all_reduce": two["all_reduce"],
        "latency_ms": latency,
        "bandwidth_mb_s": bandwidth / 1000,
        "layers": {
            layer: held(one["bytes"][layer], one["step_ms"][layer], two["step_ms"][layer], latency, bandwidth)
            for layer in LAYERS
        },
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--alone", action="store_true", help="measure the steps of one worker, in this process")
    alone = parser.parse_args().alone
    if alone or "RANK" in os.environ:
        print(json.dumps(work(alone)))
        return
    settings = {"rows": ROWS, "steps": STEPS, "features": FEATURES, "units": UNITS, "repeats": REPEATS}
    found = {backend: measured(backend) for backend in BACKENDS}
    print(json.dumps(found, indent=1))
    record("cluster_scaling", {"settings": settings, "seeds": [0], **found})


if __name__ == "__main__":
    main()
