"""Peak memory and time of training on one pass over long sequences: whole, and by `TruncatedBPTT` in windows.

    python benchmarks/truncated_bptt.py

`keras.layers.LSTM`, an output at every step, squared error. Each point runs in a process of its own, which first takes
a step on short sequences; the peak that is reported is what the pass adds to what the process held then. The data are
one number broadcast to all steps, so that they take no memory themselves. Linux only, as the peak is reset through
/proc.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from record import record

LENGTHS = 1000, 10_000, 100_000  # time steps
STREAMS, UNITS, STEPS = 4, 32, 200


def point(length, truncated):
    """Return the seconds and the peak megabytes of a pass over sequences of this length, of this process."""
    import keras

    from zoo.train import TruncatedBPTT

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((None, 1)), keras.layers.LSTM(UNITS, return_sequences=True)])
    model.compile("sgd", "mse", jit_compile=False)
    trainer = TruncatedBPTT(model, steps=STEPS, streams=STREAMS)
    trainer.compile("sgd", "mse", jit_compile=False)

    def run(length):
        x = np.broadcast_to(np.float32(1), (STREAMS, length, 1))
        y = np.broadcast_to(np.float32(0), (STREAMS, length, UNITS))
        return trainer.fit(x, y, verbose=0) if truncated else model.train_on_batch(x, y)

    run(2 * STEPS)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak is now what is held
    before, start = _megabytes("VmRSS"), time.perf_counter()
    run(length)
    return {"seconds": time.perf_counter() - start, "peak_mb": _megabytes("VmHWM") - before}


def _megabytes(name):
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def in_a_process_of_its_own(length, truncated):
    command = [sys.executable, __file__, "--length", str(length), *(["--truncated"] if truncated else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {"length": length, "truncated": truncated, **json.loads(done.stdout.splitlines()[-1])}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--length", type=int, help="measure this point only, in this process")
    parser.add_argument("--truncated", action="store_true")
    chosen = parser.parse_args()
    if chosen.length is not None:
        print(json.dumps(point(chosen.length, chosen.truncated)))
        return
    rows = []
    for length in LENGTHS:
        for truncated in (False, True):
            rows.append(in_a_process_of_its_own(length, truncated))
            print(rows[-1], flush=True)
    import keras

    settings = {"streams": STREAMS, "units": UNITS, "steps": STEPS}
    record("truncated_bptt", {"backend": keras.backend.backend(), "settings": settings, "rows": rows, "seeds": [0]})


if __name__ == "__main__":
    main()
