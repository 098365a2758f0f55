"""Latency and size of a recurrent layer in TFLite in each form it can take: native op, loop, unrolled; three schemes.

    python benchmarks/forms.py            all that the plan's rules rest on
    python benchmarks/forms.py --quick    a few sizes, printed and not recorded

One layer, batch 1, one thread; the files of a row take turns in one process, medians. The plan's defaults follow this
table (zoo/export/tflite/rules.py).
"""

import argparse
import pathlib
import tempfile

import numpy as np
from export_latency import build, layers, time_all
from record import record

FORMS, SCHEMES = ("native", "loop", "unrolled"), ("float32", "dynamic_int8", "full_int8")
UNITS, STEPS, FEATURES = (16, 64, 128), (5, 10, 50), 40


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    units, steps = ((16, 64), (10, 50)) if quick else (UNITS, STEPS)
    rows = []
    for scheme in SCHEMES:
        for name in layers():
            for return_sequences in (False, True):
                for size in [(count, width) for width in units for count in steps]:
                    rows.append(measure(name, return_sequences, scheme, *size))
                    print_row(rows[-1], header=len(rows) == 1)
    if not quick:
        record("tflite_forms", {"rows": rows, "features": FEATURES, "seeds": [0]})


def measure(name, return_sequences, scheme, steps, units):
    """Return one row: milliseconds and bytes of each form that the layer can take in this scheme."""
    from zoo import export
    from zoo.errors import ExportError

    examples = np.random.default_rng(0).normal(size=(8, steps, FEATURES)).astype("float32")
    model = build(layers()[name], steps, FEATURES, units, return_sequences)
    plan = export.plan(model, format="tflite", target="android", scheme=scheme)
    (layer,) = (choice.layer for choice in plan.choices)
    row = {"layer": name, "all": return_sequences, "scheme": scheme, "units": units, "steps": steps}
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for form in FORMS:
            try:
                paths[form] = export.to_tflite(
                    model,
                    pathlib.Path(folder, f"{form}.tflite"),
                    target="android",
                    scheme=scheme,
                    representative_data=examples if scheme == "full_int8" else None,
                    plan=plan.override({layer: form}),
                )
            except ExportError as error:
                row[form] = {"error": str(error)}
        milliseconds, _ = time_all(paths, examples[:1])
        for form, path in paths.items():
            row[form] = {"ms": milliseconds[form], "bytes": path.stat().st_size}
    return row


def print_row(row, *, header):
    if header:
        print(f"{'layer':14}{'returns':8}{'scheme':14}{'H':>5}{'T':>5}" + "".join(f"{form:>18}" for form in FORMS))
    cells = [f"{row['layer']:14}{'all' if row['all'] else 'last':8}{row['scheme']:14}{row['units']:5}{row['steps']:5}"]
    for form in FORMS:
        found = row[form]
        text = "no such form" if "error" in found else f"{found['ms']:.3f} ms {found['bytes'] / 1024:.0f} K"
        cells.append(f"{text:>18}")
    print("".join(cells), flush=True)


if __name__ == "__main__":
    main()
