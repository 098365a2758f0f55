"""Write all that a device needs, and nothing else, into one folder."""

import datetime
import hashlib
import importlib.metadata
import inspect
import itertools
import json
import os
import shutil
import tempfile
from dataclasses import asdict, is_dataclass
from pathlib import Path

import numpy as np

from zoo import checks
from zoo.errors import DataError, SettingError, VerifyError
from zoo.export import contents, runner, session
from zoo.export.options import CALIBRATED, ON_MCU, as_path
from zoo.export.parts import answers, parts_of
from zoo.export.rules import FORMATS, SCHEMES, TARGETS
from zoo.export.session import answer, latency_ms
from zoo.export.verification import checked_inputs

PROGRAM = {"run.py": runner, "session.py": session, "contents.py": contents}  # what a bundle runs, beside its task
FACE = ("name", "labels", "metric_name", "device_files", "example", "held_out", "metric")
HELD_OUT = 200  # test examples on which every file's metric is measured
# float32: sums in another order, through a logarithm and a few hundred recurrent steps; of the largest output of the
# example, where that is above 1 and no probability
FLOAT_ATOL = 1e-4
INT8_MARGIN = 0.05  # of the same: what another device's int8 kernels may add to the difference seen here
INT8_LOSS = 0.005  # of the metric, or one and a half examples where there are too few to tell


def bundle(
    recipe,
    model,
    folder,
    *,
    formats=FORMATS,
    schemes=("float32", "dynamic_int8"),
    targets=("linux",),
    streaming=False,
):
    """Export a trained model in every format and scheme, verify each file in its runtime, and write the folder.

    The folder holds the model files, `labels.json`, the runner (`run.py`, `session.py`, `contents.py`, `task.py` and
    what that imports: NumPy and one runtime), `example.npz` (an input and the model's output), `card.json` and
    `card.md` with `card.png` (all that was measured); for microcontrollers also `model_data.cc` and `model_data.h`, the
    smallest of their files as C++ source. float32 files must equal the model; of int8 files the recipe's metric on
    held-out examples must not fall by more than half a point.

    Args:
        recipe: any object with a recipe's face: `name`, `labels`, `example()`, `held_out(count)`, `metric(outputs,
            labels)`, `device_files` (the task's own first, then those it imports), and dataclass fields as settings;
            for "full_int8" also `representative()`, examples from training. It may have `assets(model)`, {file name:
            bytes} of what else its device file needs, `masks`, as `zoo.export.plan` takes them, and `device_packages`,
            what its device files import beside NumPy. Where a device runs several models in turn, `parts(model)` gives
            them, {part: Keras model}, each to be a file; `run_parts(parts, inputs)` gives what the whole model does,
            from functions of {input: array} to {output: array} in their place; and the device file has `run(parts,
            inputs, card)`, of one input, whose outputs it answers from.
        model: the trained Keras model.
        folder: to create; it must not exist.
        formats: of "tflite", "onnx".
        schemes: of `zoo.export.rules.SCHEMES`.
        targets: of "linux", "android", "mcu", "web". ONNX files are the same for all.
        streaming: also write files that read chunks of `recipe.chunk` time steps and go on where the last ended; after
            the last chunk of a clip they say what the model says of the whole. Their states are inputs and outputs, or
            on microcontrollers variables of the file.

    Returns:
        The folder's path.

    Raises:
        SettingError: an option or the folder cannot be used; nothing was done.
        ExportError: the model is none that can be exported, or a file could not be written.
        VerifyError: a file does not do what the model does, or crashes its runtime; nothing is left behind.
    """
    from zoo.export.signature import check_finite, check_model

    formats = checks.choices(formats, "formats", FORMATS)
    schemes = checks.choices(schemes, "schemes", SCHEMES)
    targets = checks.choices(targets, "targets", TARGETS)
    lacking = [name for name in FACE if inspect.getattr_static(recipe, name, None) is None]
    if lacking or isinstance(recipe, type) or not is_dataclass(recipe):
        said = f"without {', '.join(lacking)}" if lacking else "and no object of a dataclass"
        raise SettingError(f"recipe is a {type(recipe).__name__}, {said}; expected an object with a recipe's face")
    check_model(model)
    check_finite(model)
    if not isinstance(streaming, bool):
        raise SettingError(f"streaming is {checks.shown(streaming)}; expected True or False")
    if streaming and not hasattr(recipe, "chunk"):
        raise SettingError(f"streaming is True, and recipe {recipe.name} names no chunk; it reads whole examples only")
    if set(schemes) & set(CALIBRATED) and not hasattr(recipe, "representative"):
        raise SettingError(f"scheme 'full_int8' calibrates, and recipe {recipe.name} has no representative() examples")
    if "mcu" in targets:
        _check_mcu(recipe, formats, schemes)
    folder = as_path(folder, "folder", "the name of a new folder").expanduser().absolute()
    if os.path.exists(folder):
        raise SettingError(f"{folder} exists already; remove it or choose another name")
    parent = next(parent for parent in folder.parents if os.path.exists(parent))
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise SettingError(f"{folder} cannot be created: {parent} is not a folder that can be written to")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise SettingError(f"{folder} cannot be created: {error.strerror}") from error
    try:
        _fill(unfinished, recipe, model, formats, schemes, targets, streaming)
        unfinished.chmod(0o755)
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _check_mcu(recipe, formats, schemes):
    """Raise SettingError unless there is one file, and a scheme of TFLite files that a microcontroller runs."""
    if hasattr(recipe, "parts"):
        raise SettingError(f"targets has 'mcu', whose source holds one model; recipe {recipe.name} runs several")
    if "tflite" in formats and not set(schemes) & set(ON_MCU):
        raise SettingError(f"schemes has {', '.join(schemes)}; target 'mcu' needs one of {', '.join(ON_MCU)}")


def _fill(folder, recipe, model, formats, schemes, targets, streaming):
    from zoo.export.signature import input_specs

    task, *shared = recipe.device_files
    program = {name: module.__file__ for name, module in PROGRAM.items()} | {"task.py": task}
    program |= {Path(source).name: source for source in shared}
    for name, source in program.items():
        shutil.copyfile(source, folder / name)
    (folder / contents.LABELS).write_text(json.dumps(list(recipe.labels), ensure_ascii=False), encoding="utf-8")
    assets = recipe.assets(model) if hasattr(recipe, "assets") else {}
    for name, data in assets.items():
        (folder / name).write_bytes(data)
    inputs, labels = recipe.held_out(HELD_OUT)
    checked_inputs(inputs, input_specs(model, batch_size=None))
    expected = np.asarray(model.predict(inputs, verbose=0, batch_size=64))
    parts = parts_of(recipe, model, inputs, calibrates=bool(set(schemes) & set(CALIBRATED)))
    for part in parts:
        _write_example(folder / contents.example_name(part.name), part.model, part.example)
    card = {
        "recipe": recipe.name,
        "settings": {name: _without_folders(value) for name, value in asdict(recipe).items()},
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {p: importlib.metadata.version(p) for p in ("recurrent-zoo", "keras", "tensorflow", "numpy")},
        "metric": {"name": recipe.metric_name, "examples": len(labels), "model": recipe.metric(expected, labels)},
        "example": {"label": recipe.example()[1]},
        "assets": list(assets),
        "packages": list(getattr(recipe, "device_packages", ())),
        "models": [],
    }
    for format in formats:
        others = [target for target in targets if target != "mcu"]  # one ONNX file serves them all
        for target in targets if format == "tflite" else others[:1]:
            possible = [scheme for scheme in schemes if target != "mcu" or scheme in ON_MCU]
            for scheme, chunk in itertools.product(possible, [None, recipe.chunk] if streaming else [None]):
                card["models"] += _export(
                    *(folder, recipe, parts, format, target, scheme, chunk, len(targets) > 1),
                    held_out=(inputs, labels, expected),
                )
    names = [*program, contents.LABELS, *(contents.example_name(part.name) for part in parts), *assets]
    names += _write_c_array(folder, card["models"])
    card["files"] = [_entry(folder / name) for name in names]
    _write_card(folder, card)


def _export(folder, recipe, parts, format, target, scheme, chunk, name_target, *, held_out):
    """Write one file for each part, which streams if it is given a chunk, verify them; return entries for the card."""
    from zoo import export
    from zoo.export.verification import Check, opened

    state = "reset" if chunk is None else "internal" if target == "mcu" else "external"
    options = {"target": target, "scheme": scheme, "state": state, "time_steps": chunk}
    write = export.to_tflite if format == "tflite" else export.to_onnx
    paths, plans = {}, {}
    for part in parts:
        plan = export.plan(part.model, format=format, masks=getattr(recipe, "masks", "any"), **options)
        words = [recipe.name, part.name, "stream" if chunk else "", scheme]
        words += [target] if name_target and format == "tflite" else []
        path = folder / ".".join([*filter(None, words), format])
        examples = {"representative_data": part.representative} if scheme in CALIBRATED else {}
        paths[part.name], plans[part.name] = write(part.model, path, plan=plan, **options, **examples), plan
    streams = {} if chunk is None else {"chunk": chunk, "leads": export.leads(parts[0].model, time_steps=chunk)}
    try:
        files = {name: opened(path) for name, path in paths.items()}
    except DataError as error:
        raise VerifyError(f"{error}, or leave scheme {scheme!r} out") from error
    inputs, labels, expected = held_out
    outputs = answers(recipe, files, inputs, streams.get("leads"))
    wanted, metric = recipe.metric(expected, labels), recipe.metric(outputs, labels)
    names, checks = ", ".join(path.name for path in paths.values()), []
    if scheme != "float32":
        allowed = max(INT8_LOSS, 1.5 / len(labels))
        sentence = f"{recipe.metric_name} {metric:.4f}, the model's {wanted:.4f} (allowed loss {allowed:.4f})"
        checks.append(Check(names, wanted - metric <= allowed, sentence))
    elif len(parts) > 1:  # each is compared with its own model below
        difference, allowed = float(np.abs(outputs - expected).max()), FLOAT_ATOL * max(1.0, np.abs(expected).max())
        sentence = f"in turn they differ from the whole model by {difference:.1e} (tolerance {allowed:.1g})"
        checks.append(Check(names, difference <= allowed, sentence))
    for check in checks:
        if not check.passed:
            raise VerifyError(f"{check.file}: {check.sentence}; leave scheme {scheme!r} out, or train longer")
    return [
        {
            **({"part": part.name} if part.name else {}),
            **_measured(folder, part, paths[part.name], files[part.name], plans[part.name], checks, streams),
            "format": format,
            "target": target,
            "scheme": scheme,
            **streams,
            "metric": metric,
        }
        for part in parts
    ]


def _measured(folder, part, path, file, plan, checks, streams):
    """Return what the card says of one file, beside what it has in common with others; a float32 file is verified."""
    from zoo import export
    from zoo.export.verification import verify

    example = contents.read_example(folder, contents.example_name(part.name))
    size = max(1.0, *(float(np.abs(output).max()) for output in example[1].values()))
    atol = FLOAT_ATOL * size
    if plan.scheme == "float32":
        checks = [*checks, *verify(part.model, path, part.inputs, atol=atol, plan=plan).checks]
    else:
        atol = _difference(file, example, streams.get("leads")) + INT8_MARGIN * size
    return {
        **_entry(path),
        "atol": atol,
        **({"arena_bytes": export.arena_size(path)} if plan.target == "mcu" else {}),
        "latency_ms": latency_ms(file, example[0]),
        "plan": [asdict(choice) for choice in plan.choices],
        "checks": [check.sentence for check in checks],
    }


def _difference(file, example, leads):
    """Return the largest difference between a file's answer to the stored example and the model's."""
    inputs, outputs = example
    said = answer(file, inputs, leads)
    return max(float(np.abs(said[name] - value).max()) for name, value in outputs.items())


def _without_folders(value):
    """Return a setting as the card may show it: a path of the training machine is reduced to its last part."""
    return Path(value).name if isinstance(value, str) and os.path.isabs(value) else value


def _entry(path):
    data = path.read_bytes()
    return {"name": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _write_example(path, model, example):
    import keras

    from zoo.export import signature, trace

    specs = signature.input_specs(model, batch_size=None)
    arrays = example if isinstance(example, dict) else {specs[0].name: example}
    with trace.for_inference(model):
        outputs = signature.flat_call(model)(*[keras.ops.convert_to_tensor(arrays[spec.name]) for spec in specs])
    outputs = [keras.ops.convert_to_numpy(output) for output in outputs]
    stored = {f"input_{name}": array for name, array in arrays.items()}
    stored |= {f"output_{n}": a for n, a in zip(signature.output_names(model, outputs), outputs, strict=True)}
    np.savez(path, **stored)


def _write_c_array(folder, models):
    """Write the smallest model for microcontrollers as C++ source; return the names of the files, none without one."""
    from zoo.export import to_c_array

    smallest = min((m for m in models if m["target"] == "mcu"), key=lambda m: m["bytes"], default=None)
    return [] if smallest is None else [path.name for path in to_c_array(folder / smallest["name"], folder)]


def _write_card(folder, card):
    from zoo.export.card import markdown, picture

    picture(card, folder / "card.png")
    (folder / "card.md").write_text(markdown(card), encoding="utf-8")
    (folder / contents.CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
