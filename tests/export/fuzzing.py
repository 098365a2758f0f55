"""Export a random model in every form of both formats, whole and chunk by chunk, and hold each file against Keras."""

import keras
import litert_runs
import numpy as np
import onnx_runs
from litert_runs import model_answers
from random_models import STEPS, random_inputs, random_model

from zoo import export
from zoo.errors import ExportError, SettingError
from zoo.export.rules import SCHEMES
from zoo.export.session import Session
from zoo.export.signature import output_names
from zoo.export.streaming import streaming_signature

ATOL = 1e-5  # float32 sums of up to four layers in another order; of the largest answer, where that is above 1
LIKE = 0.9  # correlation of a rounded file's answers with the model's: a crossed wire has none, a rounding takes little
CHUNK = 2
WRITERS = {"tflite": (export.to_tflite, litert_runs), "onnx": (export.to_onnx, onnx_runs)}


def check(seed, folder):
    """Export the model of a seed in all that it can be, and run each file; return the names of the files.

    Every eighth model leaves from half precision, and every fourth in a scheme of integers or half floats too.
    """
    model, inputs = random_model(seed)
    expected = model_answers(model, inputs)
    source = random_model(seed, "mixed_float16")[0] if seed % 8 == 7 else model  # leaves in float32 as well
    atol = ATOL * max(1.0, *(np.abs(value).max() for value in expected.values()))
    checked = []
    for format in WRITERS:
        for form, options in _forms(source, inputs, format):
            write, runs = WRITERS[format]
            path = folder / f"{seed}-{form}.{format}"
            try:
                write(source, path, **options)
                runs.assert_same(path, inputs, expected, atol)
                checked.append(path.name)
            except ExportError as error:
                if form != "unrolled" or "a loop of its own" not in str(error):
                    raise AssertionError(f"seed {seed}, {format}, {form}: {error}") from error
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, {format}, {form}:\n{options['plan']}\n{error}") from error
        checked += _check_stream(seed, source, inputs, expected, format, folder, atol)
        if seed % 4 == 1 and not any(getattr(layer, "stateful", False) for layer in model._flatten_layers()):
            checked += _check_scheme(seed, model, format, folder)
    keras.backend.clear_session()
    return checked


def _forms(model, inputs, format):
    """Yield (name, options of the exporter) for each form that differs from those before."""
    rows = {"batch_size": len(next(iter(inputs.values())))} if format == "tflite" else {}
    seen = []
    chosen = export.plan(model, format=format, time_steps=STEPS)
    plans = {form: chosen.override({one.layer: form for one in chosen.choices}) for form in ("loop", "unrolled")}
    if all(_right_padded(array) for array in inputs.values()):
        plans["right_padded"] = export.plan(model, format=format, time_steps=STEPS, masks="right_padded")
    for form, plan in {"planned": chosen, **plans}.items():
        forms = [choice.form for choice in plan.choices]
        if forms not in seen:
            seen.append(forms)
            # A loop or an op of ONNX needs no fixed length, and no plan but an unrolled one one.
            steps = {"time_steps": STEPS} if format == "tflite" or form == "unrolled" else {}
            yield form, {"plan": plan, **rows, **steps}


def _right_padded(array):
    kept = array.reshape(*array.shape[:2], -1).any(axis=-1)
    return (kept[:, :-1] >= kept[:, 1:]).all()


def _check_stream(seed, model, inputs, expected, format, folder, atol):
    """Feed the inputs chunk by chunk, unless the model needs more than the past, which it says."""
    rows = len(next(iter(inputs.values())))
    try:
        leads = streaming_signature(model, batch_size=rows, time_steps=CHUNK).leads
    except (ExportError, SettingError):
        return []
    path = folder / f"{seed}-stream.{format}"
    state = "internal" if format == "tflite" and seed % 2 else "external"
    batch = {"batch_size": rows} if format == "tflite" else {}
    try:
        WRITERS[format][0](model, path, state=state, time_steps=CHUNK, **batch)
        session = Session(path)
        parts = [{name: array[:, at : at + CHUNK] for name, array in inputs.items()} for at in range(0, STEPS, CHUNK)]
        said = [session(part) for part in parts]
        for name, lead in zip(output_names(model, model.outputs), leads, strict=True):
            whole = said[-1][name] if lead is None else np.concatenate([one[name] for one in said], axis=1)[:, lead:]
            wanted = np.where(np.isnan(expected[name]), whole, expected[name])  # Keras' mean of no frame at all
            np.testing.assert_allclose(whole, wanted, atol=atol, rtol=0, err_msg=name)
    except (ExportError, AssertionError) as error:
        raise AssertionError(f"seed {seed}, {format}, chunk by chunk, state {state}: {error}") from error
    return [path.name]


def _check_scheme(seed, model, format, folder):
    """Write the model in one scheme other than float32, and ask that its answers go along with the model's."""
    scheme = SCHEMES[1 + seed // 4 % (len(SCHEMES) - 1)]
    examples = random_inputs(model, np.random.default_rng(seed), 32)
    rows = model.inputs[0].shape[0] or 8
    inputs = {name: array[:rows] for name, array in examples.items()}
    options = {"representative_data": examples} if scheme == "full_int8" else {}
    options |= {"batch_size": rows} if format == "tflite" else {}
    path = folder / f"{seed}-{scheme}.{format}"
    try:
        WRITERS[format][0](model, path, scheme=scheme, time_steps=STEPS, **options)
        said = Session(path)(inputs)
        for name, value in model_answers(model, inputs).items():
            if value.std() > 1e-3:  # else there is nothing to go along with
                like = np.corrcoef(said[name].ravel(), value.ravel())[0, 1]
                assert like > LIKE, f"{name} goes along by {like:.3f} only"
    except (ExportError, AssertionError) as error:
        raise AssertionError(f"seed {seed}, {format}, {scheme}: {error}") from error
    return [path.name]
