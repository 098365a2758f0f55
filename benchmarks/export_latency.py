"""Latency and size of our files against Keras' own exports of the same model.

    python benchmarks/export_latency.py

Each row is one layer at one size: float32, batch 1, one thread, the median of many invocations, both sides loaded in
one process and timed in turn. Keras' ONNX export leaves the batch open; its TFLite export gets a static signature, as
without one no device loads the file. Where Keras' export fails, its cell says so. Of the layers that Keras does not
have its exports get ours; all but the peephole LSTM are measured at one size.
"""

import pathlib
import tempfile
import time

import numpy as np
from record import record

SIZES = ((16, 10, 16), (49, 40, 64), (100, 64, 128))  # (steps, features, units); the middle one is a keyword model's
ROUNDS, REPEATS = 30, 10


def layers():
    """The layers that are measured at every size, by name."""
    import keras

    from zoo.layers import PeepholeLSTM

    return {
        "LSTM": keras.layers.LSTM,
        "GRU": keras.layers.GRU,
        "SimpleRNN": keras.layers.SimpleRNN,
        "PeepholeLSTM": PeepholeLSTM,
    }


def more_layers(steps):
    """The layers that are measured at the middle size, by name."""
    from zoo import layers

    def over(cell):
        return lambda units, **options: layers.Recurrent(cell(units), **options)

    return {
        "IndRNN": lambda units, **options: layers.IndRNN(units, steps, **options),
        "EchoState": lambda units, **options: layers.EchoState(units, seed=0, **options),
        "EchoState(leak=0.5)": lambda units, **options: layers.EchoState(units, leak=0.5, seed=0, **options),
        "ZoneoutLSTM": lambda units, **options: layers.ZoneoutLSTM(units, 0.5, 0.05, **options),
        "ZoneoutGRU": lambda units, **options: layers.ZoneoutGRU(units, 0.1, **options),
        "LayerNormLSTM": layers.LayerNormLSTM,
        "BatchNormLSTM": layers.BatchNormLSTM,
        "MinGRU": layers.MinGRU,
        "MinLSTM": layers.MinLSTM,
        "SLSTM": layers.SLSTM,
        "FastGRNN": layers.FastGRNN,
        "LIF": lambda units, **options: layers.LIF(units, recurrent=True, **options),
        "VariationalDropout(GRU)": over(lambda units: layers.VariationalDropout(layers.GRUCell(units), 0.2, 0.2)),
        "StackedCells(2 LSTM)": over(lambda units: layers.StackedCells([layers.LSTMCell(units) for _ in range(2)])),
    }


def build(layer, steps, features, units, return_sequences):
    """A model of one layer with weights that are not at their start."""
    import keras

    inputs = keras.Input((steps, features), name="x")
    model = keras.Model(inputs, layer(units, return_sequences=return_sequences)(inputs))
    random = np.random.default_rng(0)
    model.set_weights([w + 0.1 * random.normal(size=w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def export_all(model, folder, steps, features):
    """Write the four files; return {side: path or the error's first line}."""
    import keras

    from zoo import export

    def keras_tflite(path):
        static = keras.InputSpec(shape=(1, steps, features), dtype="float32")
        model.export(path, format="litert", input_signature=[static], verbose=False)

    writers = {
        "ours.onnx": lambda path: export.to_onnx(model, path),
        "keras.onnx": lambda path: model.export(path, format="onnx", verbose=False),
        "ours.tflite": lambda path: export.to_tflite(model, path),
        "keras.tflite": keras_tflite,
    }
    written = {}
    for side, write in writers.items():
        path = pathlib.Path(folder, side)
        try:
            write(str(path))
            written[side] = path
        except Exception as error:  # whatever a foreign exporter raises is its result here
            written[side] = str(error).strip().split("\n")[0][:100]
    return written


def time_all(paths, inputs):
    """Median milliseconds of one invocation of each file; they take turns, so that the machine's drift hits all."""
    from zoo.export.session import Session

    sessions = {side: Session(path) for side, path in paths.items()}
    calls = {side: (session, {name: inputs for name in session.inputs}) for side, session in sessions.items()}
    answers = {side: next(iter(session(arrays).values())) for side, (session, arrays) in calls.items()}
    times = {side: [] for side in calls}
    for _ in range(ROUNDS):
        for side, (session, arrays) in calls.items():
            start = time.perf_counter()
            for _ in range(REPEATS):
                session(arrays)
            times[side].append((time.perf_counter() - start) / REPEATS)
    return {side: 1000 * float(np.median(values)) for side, values in times.items()}, answers


def main():
    rows = []
    middle = SIZES[1]
    measured = [(name, layer, size) for name, layer in layers().items() for size in SIZES]
    measured += [(name, layer, middle) for name, layer in more_layers(middle[0]).items()]
    for name, layer, size in measured:
        for return_sequences in (False, True):
            rows.append(measure(name, layer, *size, return_sequences))
            print_row(rows[-1], header=len(rows) == 1)
    record("export_latency", {"rows": rows, "seeds": [0, 1], "rounds": ROUNDS, "repeats": REPEATS})


def measure(name, layer, steps, features, units, return_sequences):
    """Return one row: milliseconds and bytes of each side, and Keras' time over ours for each format."""
    inputs = np.random.default_rng(1).normal(size=(1, steps, features)).astype("float32")
    model = build(layer, steps, features, units, return_sequences)
    row = {"layer": name, "returns": "all" if return_sequences else "last"}
    row |= {"steps": steps, "features": features, "units": units}
    with tempfile.TemporaryDirectory() as folder:
        written = export_all(model, folder, steps, features)
        paths = {side: path for side, path in written.items() if isinstance(path, pathlib.Path)}
        milliseconds, answers = time_all(paths, inputs)
        for side, answer in answers.items():
            np.testing.assert_allclose(answer, model(inputs).numpy(), atol=1e-5, err_msg=f"{name} {side}")
        for side, path in written.items():
            measured = side in paths
            row[side] = {"ms": milliseconds[side], "bytes": path.stat().st_size} if measured else {"error": path}
    for format in ("onnx", "tflite"):
        ours, theirs = milliseconds[f"ours.{format}"], milliseconds.get(f"keras.{format}")
        row[f"{format}_ratio"] = None if theirs is None else theirs / ours
    return row


def print_row(row, *, header):
    if header:
        columns = ("ONNX ours", "Keras", "ratio", "TFLite ours", "Keras", "ratio")
        print(f"{'layer':24}{'returns':8}{'T':>5}{'D':>5}{'H':>5}" + "".join(f"{column:>12}" for column in columns))
    cells = [f"{row['layer']:24}{row['returns']:8}{row['steps']:5}{row['features']:5}{row['units']:5}"]
    for format in ("onnx", "tflite"):
        ours, theirs, ratio = row[f"ours.{format}"]["ms"], row[f"keras.{format}"].get("ms"), row[f"{format}_ratio"]
        cells += [
            f"{'failed' if value is None else format_(value):>12}"
            for value, format_ in ((ours, "{:.3f}".format), (theirs, "{:.3f}".format), (ratio, "{:.1f}".format))
        ]
    print("".join(cells), flush=True)


if __name__ == "__main__":
    main()
