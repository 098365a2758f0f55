"""Latency of a recurrent layer in TFLite as its native op and as a loop: where each is the quicker.

    python benchmarks/forms.py

One layer, float32, batch 1, one thread; the two files take turns in one process, medians. The plan's default follows
this table (zoo/export/tflite/rules.py).
"""

import pathlib
import tempfile

import numpy as np
from export_latency import build, layers, time_all
from record import record

KINDS = ("LSTM", "SimpleRNN", "PeepholeLSTM")
UNITS, STEPS = (32, 48, 64, 128), (20, 50, 100, 200)


def main():
    from zoo import export

    rows = []
    for name in KINDS:
        for return_sequences in (False, True):
            for units in UNITS:
                for steps in STEPS:
                    model = build(layers()[name], steps, 40, units, return_sequences)
                    plan = export.plan(model, format="tflite", target="android")
                    (layer,) = (choice.layer for choice in plan.choices)
                    with tempfile.TemporaryDirectory() as folder:
                        paths = {
                            form: export.to_tflite(
                                model,
                                pathlib.Path(folder, f"{form}.tflite"),
                                target="android",
                                plan=plan.override({layer: form}),
                            )
                            for form in ("native", "loop")
                        }
                        inputs = np.random.default_rng(0).normal(size=(1, steps, 40)).astype("float32")
                        milliseconds, _ = time_all(paths, inputs)
                    rows.append(
                        {"layer": name, "all": return_sequences, "units": units, "steps": steps, **milliseconds}
                    )
                    ratio = milliseconds["native"] / milliseconds["loop"]
                    print(
                        f"{name:14}{'all' if return_sequences else 'last':6}{units:5}{steps:5}{ratio:7.2f}", flush=True
                    )
    record("tflite_forms", {"rows": rows, "features": 40, "seeds": [0]})


if __name__ == "__main__":
    main()
