"""How much each layer of a model loses by a quantising scheme: which one hurts, and which to name in `keep_float`."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo import checks
from zoo.errors import DataError, ExportError, SettingError
from zoo.export.rules import FORMATS, SCHEMES


@dataclass(frozen=True)
class LayerError:
    """What a layer adds: its name, and rms error over spread of the outputs when all the others stay float32."""

    layer: str
    error: float


@dataclass(frozen=True)
class QuantizationError:
    """The rows of `quantization_error`, the worst layer first; `print(...)` shows the table."""

    scheme: str
    whole: float
    layers: tuple

    def __str__(self):
        rows = [("layer", "error"), *((row.layer, f"{row.error:.4f}") for row in self.layers)]
        rows.append(("all of them", f"{self.whole:.4f}"))
        width = max(len(name) for name, _ in rows)
        return "\n".join(
            [f"{self.scheme}: rms error / spread of the outputs", *(f"{n.ljust(width)}  {e}" for n, e in rows)]
        )


def quantization_error(model, inputs, *, format="tflite", scheme="full_int8", **options):
    """Measure what each layer loses by a scheme, by quantising it alone.

    The model is exported once for each layer with weights, all other layers named in `keep_float`, and each file runs
    in its runtime. So activations count as much as weights, and every scheme of both formats is measured alike. Errors
    of several layers add up like independent ones, roughly as the root of the sum of squares.

        error = sqrt(mean((file - model)^2)) / std(model), over all outputs; the largest of several outputs

    Args:
        model: any built Keras 3 model.
        inputs: examples, an array or {input name: array}, the first axis counting examples.
        format: "tflite" or "onnx".
        scheme: "float16", "dynamic_int8", "weight_int8" or "full_int8".
        options: further options of `to_tflite` or `to_onnx`. `representative_data` is `inputs` if left out.

    Returns:
        A `QuantizationError`: `layers`, the worst first, and `whole`, the error with no layer left in float32.

    Raises:
        SettingError: scheme "float32", or `keep_float` among the options.
        DataError: no inputs, or outputs that are the same everywhere.
        ExportError: a file crashes its runtime; the message says with which layer.
    """
    from zoo import export
    from zoo.export import signature, trace
    from zoo.export.verification import checked_inputs, opened

    checks.choice(scheme, "scheme", SCHEMES)
    checks.choice(format, "format", FORMATS)
    if scheme == "float32" or "keep_float" in options:
        raise SettingError(
            "quantization_error chooses itself what stays float32; give a quantising scheme and no keep_float"
        )
    specs = signature.input_specs(model, batch_size=None)
    arrays = checked_inputs(inputs, specs)
    if scheme == "full_int8":
        options = {"representative_data": arrays, **options}
    with trace.for_inference(model):
        outputs = signature.flat_call(model)(*[arrays[spec.name] for spec in specs])
    expected = dict(zip(signature.output_names(model, outputs), map(np.asarray, outputs), strict=True))
    write = export.to_tflite if format == "tflite" else export.to_onnx

    def measure(folder, number, name, keep_float):
        path = write(model, Path(folder, f"{number}.{format}"), scheme=scheme, keep_float=keep_float, **options)
        try:
            session = opened(path)
        except DataError as error:
            raise ExportError(f"a file with {name} in {scheme} cannot be measured: {error}") from error
        return _distance(session, arrays, expected)

    names = _layers(model)
    with tempfile.TemporaryDirectory(prefix="recurrent-zoo-") as folder:
        whole = measure(folder, 0, "all layers", ())
        rows = [
            LayerError(name, measure(folder, number, repr(name), [other for other in names if other != name]))
            for number, name in enumerate(names, 1)
        ]
    return QuantizationError(scheme, whole, tuple(sorted(rows, key=lambda row: -row.error)))


def _layers(model):
    """Return the names of the outermost layers that have weights.

    Without those that stay float32 anyway, and without batch normalisation, which becomes part of the layer before it.
    """
    import keras

    return [
        layer.name
        for layer in model.layers
        if layer.weights
        and getattr(layer, "quantizable", True)
        and not isinstance(layer, keras.layers.BatchNormalization)
    ]


def _distance(session, arrays, expected):
    from zoo.export.verification import run_examples

    got = run_examples(session, arrays)
    worst = 0.0
    for name, value in expected.items():
        spread = float(np.std(value))
        if not spread:
            raise DataError(f"output {name!r} is the same for all inputs; give inputs that differ")
        worst = max(worst, float(np.sqrt(np.mean((got[name].astype("float64") - value) ** 2))) / spread)
    return worst
