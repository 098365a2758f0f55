"""Latency and size of a recurrent layer in ONNX as its op and as a loop, in float32 and with integer products.

    python benchmarks/onnx_forms.py            all that the plan's rules rest on
    python benchmarks/onnx_forms.py --quick    a few sizes, printed and not recorded

One layer, batch 1, one thread, ONNX Runtime; the files of a row take turns in one process, medians. The plan's defaults
follow this table (zoo/export/onnx/rules.py).
"""

import argparse
import pathlib
import tempfile

import numpy as np
from export_latency import build, time_all
from record import record

FORMS, SCHEMES = ("native", "loop"), ("float32", "weight_int8", "dynamic_int8", "full_int8")
UNITS, STEPS, FEATURES = (16, 64, 128, 256, 384, 512), 50, 40


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    rows = []
    for name in layers():
        for units in (16, 256) if quick else UNITS:
            rows.append(measure(name, units))
            print_row(rows[-1], header=len(rows) == 1)
    if not quick:
        record("onnx_forms", {"rows": rows, "steps": STEPS, "features": FEATURES, "seeds": [0]})


def layers():
    import keras

    from zoo.layers import EchoState, IndRNN

    return {
        "LSTM": keras.layers.LSTM,
        "GRU": keras.layers.GRU,
        "SimpleRNN": keras.layers.SimpleRNN,
        "IndRNN": IndRNN,
        "EchoState, hears 10%": lambda units, **more: EchoState(units, connectivity=0.1, seed=1, **more),
        "EchoState, hears 50%": lambda units, **more: EchoState(units, connectivity=0.5, seed=1, **more),
    }


def measure(name, units):
    """Return one row: milliseconds and bytes of each form in each scheme, and the float32 file's distance from it."""
    from zoo import export
    from zoo.export.session import Session

    examples = np.random.default_rng(0).normal(size=(8, STEPS, FEATURES)).astype("float32")
    inputs = examples[:1]
    model = build(layers()[name], STEPS, FEATURES, units, True)
    plan = export.plan(model, format="onnx")
    (layer,) = (choice.layer for choice in plan.choices)
    row = {"layer": name, "units": units}
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for form in FORMS:
            for scheme in SCHEMES:
                path = pathlib.Path(folder, f"{form}.{scheme}.onnx")
                seen = {"representative_data": examples} if scheme == "full_int8" else {}
                chosen = plan.override({layer: form})
                paths[form, scheme] = export.to_onnx(model, path, scheme=scheme, plan=chosen, **seen)
        milliseconds, _ = time_all(paths, inputs)
        answers = {key: next(iter(Session(path)({"x": inputs}).values())) for key, path in paths.items()}
        exact = answers["native", "float32"]
        for (form, scheme), path in paths.items():
            error = float(np.sqrt(np.mean((answers[form, scheme] - exact) ** 2)) / exact.std())
            found = {"ms": milliseconds[form, scheme], "bytes": path.stat().st_size, "rms_error_of_std": error}
            row.setdefault(form, {})[scheme] = found
    return row


def print_row(row, *, header):
    columns = [(form, scheme) for form in FORMS for scheme in SCHEMES]
    if header:
        print(f"{'layer':22}{'H':>5}" + "".join(f"{form + ' ' + scheme:>24}" for form, scheme in columns))
    cells = [f"{row['layer']:22}{row['units']:5}"]
    for form, scheme in columns:
        found = row[form][scheme]
        cells.append(f"{found['ms']:.3f} ms {found['bytes'] / 1024:.0f} K {found['rms_error_of_std']:.4f}".rjust(24))
    print("".join(cells), flush=True)


if __name__ == "__main__":
    main()
