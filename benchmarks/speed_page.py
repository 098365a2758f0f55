"""Write docs/speed.md from what the benchmarks recorded in docs/results.

python benchmarks/speed_page.py
"""

import json

from record import RESULTS

PAGE = RESULTS.parent / "speed.md"
FORMATS = "onnx", "tflite"
TRAINING = {"TensorFlow": "tensorflow", "TensorFlow with XLA": "tensorflow-xla", "JAX": "jax"}


def load(name):
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def size(row):
    return "batch {}, {} steps of {} features, {} units".format(*row["size"])


def training():
    parts = []
    for title, name in TRAINING.items():
        rows = load(f"train_step-{name}")["rows"]
        layers = [layer for layer in rows[0]["ms"] if not layer.startswith("RNN(")]
        cells = [[layer, *(_step(row, layer) for row in rows)] for layer in layers]
        parts.append(f"### {title}\n\n{table(['layer', *map(size, rows)], cells)}")
    return "\n\n".join(parts)


def _step(row, layer):
    over, as_fast = row["over_keras_lstm"][layer], row["times_as_fast_as_rnn"].get(layer)
    return f"{over:.2f}" if as_fast is None else f"{over:.2f} ({as_fast:.1f})"


def scaling():
    parts = []
    for title, name in (("TensorFlow with XLA", "tensorflow"), ("JAX", "jax")):
        rows = load(f"scaling-{name}")["rows"]
        cells = [
            [row["steps"], row["checkpoint_every"] or "none", f"{row['ms']:.1f}", f"{row['peak_mb']:.0f}"]
            for row in rows
        ]
        head = ["steps", "checkpoint every", "ms", "peak MB"]
        parts.append(f"### {title}\n\n{table(head, cells)}\n\n![time and memory](pictures/scaling-{name}.svg)")
    return "\n\n".join(parts)


def export():
    head = ["layer", "outputs", "steps", "units", "ONNX", "TFLite"]
    rows = load("export_latency")["rows"]
    cells = [
        [r["layer"], r["returns"], r["steps"], r["units"], *(_ratio(r[f"{format}_ratio"]) for format in FORMATS)]
        for r in rows
    ]
    return table(head, cells)


def _ratio(value):
    return "Keras' fails" if value is None else f"{value:.1f}"


def forms():
    """The quickest form of each layer, and how many times as fast as the loop it is."""
    rows = load("tflite_forms")["rows"]
    sizes = list(dict.fromkeys((row["units"], row["steps"]) for row in rows))
    cells = {}
    for row in rows:
        times = {form: row[form]["ms"] for form in ("native", "loop", "unrolled") if "ms" in row[form]}
        best = min(times, key=times.get)
        cell = best if best == "loop" else f"{best} {times['loop'] / times[best]:.1f}"
        cells.setdefault((row["layer"], "all" if row["all"] else "last", row["scheme"]), []).append(cell)
    head = ["layer", "outputs", "scheme", *(f"{units} units, {steps} steps" for units, steps in sizes)]
    return table(head, [[*which, *found] for which, found in cells.items()])


def unrolled_growth():
    """How much larger than the loop's the unrolled file of a layer is, by the number of steps: KiB, least to most."""
    growth = {}
    for row in load("tflite_forms")["rows"]:
        if all("bytes" in row[form] for form in ("loop", "unrolled")):
            more = (row["unrolled"]["bytes"] - row["loop"]["bytes"]) / 1024
            growth.setdefault(row["steps"], []).append(more)
    cells = [[steps, f"{min(more):.0f}", f"{max(more):.0f}"] for steps, more in sorted(growth.items())]
    return table(["steps", "least", "most"], cells)


def echo():
    head = ["connections of a unit", "times as fast", "our error", "reservoirpy's"]
    cells = [
        [
            f"{each['connectivity']:.0%}",
            f"{each['times_as_fast']:.1f}",
            *(f"{each['median'][name]['error']:.4f}" for name in ("zoo", "reservoirpy")),
        ]
        for each in load("echo_state")["compared"]
    ]
    return table(head, cells)


def origin(name):
    """Say what wrote a result, where and when."""
    about = load(name)
    machine = about["machine"]
    script = about["command"].removeprefix("python ").split()[0]
    return f"`{script}`, {machine['cores']} cores of {machine['cpu']}, {about['date']}"


def page():
    """Return the text of the page."""
    versions = load("train_step-jax")["versions"]
    return f"""# Speed

Both sides of every comparison ran in one process, in turns. Other processors order them differently; nothing here was
measured on a GPU or on ARM. TensorFlow {versions["tensorflow"]}, JAX {versions["jax"]}, Keras {versions["keras"]},
torch {versions["torch"]}. `python benchmarks/speed_page.py` writes this page from [results](results).

## A training step

Forward, backward and update of one layer with the outputs of all steps, as a multiple of the time of
`keras.layers.LSTM` on the same backend; below 1 is quicker. In brackets how many times as fast it is as the same cell
in `keras.layers.RNN`, where that can run it: `BatchNormLSTM` and attention need their own layer, and on JAX no cell
that draws noise trains there. A cell stands for `Recurrent` over it. `torch LSTM` is `torch.nn.LSTM`. On TensorFlow
without a GPU Keras leaves XLA off unless told otherwise: `model.compile(..., jit_compile=True)`.
({origin("train_step-jax")})

{training()}

## Long sequences

`PeepholeLSTM(64)`, a batch of 8: time of a training step, and how far it raises the memory of the process, with and
without `checkpoint_every`.
({origin("scaling-jax")})

{scaling()}

## Exported files

One layer in float32, batch 1, one thread: how many times as fast our file runs as Keras' own export of the same model
(for TFLite with a static signature); of layers that Keras does not have, as its export of ours.
({origin("export_latency")})

{export()}

## Forms in TFLite

The quickest form of one layer on this machine, and how many times as fast as the loop it is: batch 1, one thread. Other
kernels, a phone's say, may order them differently.
({origin("tflite_forms")})

{forms()}

An unrolled file holds a copy of the step for each time step. So many KiB more than the loop's it has:

{unrolled_growth()}

## Echo state network

1,000 units, 10,000 steps of Mackey-Glass: fit on the first half, predict the second, against reservoirpy; the error is
the normalised root mean square.
({origin("echo_state")})

{echo()}
"""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
