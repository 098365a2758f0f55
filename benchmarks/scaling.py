"""Time and peak memory of a training step as sequences grow, with and without `checkpoint_every`.

    KERAS_BACKEND=tensorflow python benchmarks/scaling.py
    KERAS_BACKEND=jax python benchmarks/scaling.py

`PeepholeLSTM`, outputs of all steps, squared error, compiled by XLA; checkpoints about every square root of the number
of steps. Each point runs in a process of its own: the model first takes a step on a sequence of few steps, then the
process' peak memory is reset, and what it rises to above what it held is the memory of the steps that follow, their
compilation included. Linux only, as the peak is reset through /proc. The time is the median of the steps after the
first.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from record import RESULTS, record

LENGTHS = 100, 300, 1000, 3000, 10_000  # time steps
BATCH, FEATURES, UNITS, REPEATS, WARM_UP = 8, 16, 64, 5, 4


def point(steps, every):
    """Return the median milliseconds and the peak megabytes of a training step, of this process."""
    import keras

    from zoo.layers import PeepholeLSTM

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((None, FEATURES)), PeepholeLSTM(UNITS, checkpoint_every=every, return_sequences=True)]
    )
    model.compile("sgd", "mse", jit_compile=True)

    def run(steps):
        return model.train_on_batch(np.ones((BATCH, steps, FEATURES), "f"), np.zeros((BATCH, steps, UNITS), "f"))

    run(WARM_UP)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak is now what is held
    before, times = _megabytes("VmRSS"), []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        run(steps)
        times.append(1000 * (time.perf_counter() - start))
    return {"ms": float(np.median(times[1:])), "peak_mb": _megabytes("VmHWM") - before}


def _megabytes(name):
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def in_a_process_of_its_own(steps, every):
    command = [sys.executable, __file__, "--steps", str(steps), *([] if every is None else ["--every", str(every)])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {"steps": steps, "checkpoint_every": every, **json.loads(done.stdout.splitlines()[-1])}


def draw(rows, backend):
    """Write docs/pictures/scaling-BACKEND.svg: memory and time over the number of steps."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for panel, key, label in zip(panels, ("peak_mb", "ms"), ("peak memory, MB", "time, ms"), strict=True):
        for name, checkpointed in (("all states kept", False), ("checkpoint_every √T", True)):
            chosen = [row for row in rows if (row["checkpoint_every"] is not None) == checkpointed]
            panel.loglog([row["steps"] for row in chosen], [row[key] for row in chosen], "o-", label=name)
        panel.set(xlabel="time steps T", ylabel=label)
    panels[0].legend()
    path = RESULTS.parent / "pictures" / f"scaling-{backend}.svg"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    return path


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, help="measure this point only, in this process")
    parser.add_argument("--every", type=int)
    chosen = parser.parse_args()
    if chosen.steps is not None:
        print(json.dumps(point(chosen.steps, chosen.every)))
        return
    import keras

    backend, rows = keras.backend.backend(), []
    for steps in LENGTHS:
        for every in (None, math.isqrt(steps)):
            rows.append(in_a_process_of_its_own(steps, every))
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    settings = {"batch": BATCH, "features": FEATURES, "units": UNITS, "xla": True}
    record(f"scaling-{backend}", {"settings": settings, "rows": rows, "seeds": [0]})
    print(draw(rows, backend))


if __name__ == "__main__":
    main()
