"""Prove that a written file does what the model does, by running the file in the runtime that a device uses."""

from dataclasses import dataclass
from numbers import Real

import numpy as np

from zoo import checks
from zoo.errors import DataError, SettingError, VerifyError
from zoo.export import runner
from zoo.export.contents import file_at
from zoo.export.representative import as_array
from zoo.export.rules import SCHEMES
from zoo.export.session import Session, answer

LOOPS = {"tflite": ("WHILE",), "onnx": ("Loop", "Scan")}
MICRO_EXAMPLES = 4  # invocations of TFLite Micro, whose kernels are slow here
NATIVE = {
    "tflite": ("UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN"),
    "onnx": ("LSTM", "GRU", "RNN", "com.microsoft.DynamicQuantizeLSTM"),
}


@dataclass(frozen=True)
class Check:
    """One thing that was checked of a file: whether it passed, and the sentence that says what was seen."""

    file: str
    passed: bool
    sentence: str


@dataclass(frozen=True)
class Report:
    """What `verify` saw; `print(report)` shows a line for each check."""

    checks: tuple

    @property
    def passed(self):
        return all(check.passed for check in self.checks)

    def __str__(self):
        width = max((len(check.file) for check in self.checks), default=0)
        lines = [f"{'ok    ' if c.passed else 'FAILED'}  {c.file.ljust(width)}  {c.sentence}" for c in self.checks]
        return "\n".join(lines)


def verify(model_or_bundle, path=None, inputs=None, *, atol=1e-5, scheme="float32", plan=None):
    """Run a file, or every file of a bundle, in its runtime and compare it with the model it came from.

    Of a single file: names, shapes and types of inputs and outputs; every value of every output, of a file that streams
    after the last chunk; the same answer at a second invocation, as a recurrent op may keep its state; no op that needs
    a runtime with extras, and no loop where the plan says native. Of a bundle, on a device too: size and sha256 of
    every file, its answer to the stored example.

    Args:
        model_or_bundle: the Keras model that `path` was made from, or the folder of a bundle.
        path: a .tflite or .onnx file; None for a bundle.
        inputs: examples, an array or {input name: array}, the first axis counting examples.
        atol: the largest difference allowed at any element. 1e-5 is for float32: rounding in another order of sums.
        scheme: that the file was written in.
        plan: the plan that the file was made by; the default plan for its format and scheme if left out.

    Returns:
        A `Report` of all checks, all passed.

    Raises:
        SettingError: `atol`, `scheme` or `plan` cannot be used.
        VerifyError: a check failed; the message names the worst element.
        DataError: there is no such file or bundle, or it cannot be read.
    """
    if isinstance(atol, bool) or not isinstance(atol, Real) or not 0 <= atol < np.inf:
        raise SettingError(f"atol is {checks.shown(atol)}; expected a number of at least 0, such as 1e-5")
    if path is None:
        seen = [Check(*result) for result in runner.check(model_or_bundle)]
    else:
        seen = _check_file(model_or_bundle, path, inputs, atol, scheme, plan)
    report = Report(tuple(seen))
    if not report.passed:
        error = VerifyError("; ".join(f"{c.file}: {c.sentence}" for c in seen if not c.passed))
        error.report = report
        raise error
    return report


def opened(path):
    """Return the `Session` of a file that ran in a process of its own first: a bad one can crash its runtime.

    Raises:
        DataError: the runtime refuses the file, or crashes.
    """
    runner.check_loads(path)
    return Session(path)


def run_examples(session, inputs, leads=None):
    """Return {output: array} of a `zoo.export.session.Session` for all examples, in the batches that the file takes.

    Args:
        session: the loaded file.
        inputs: {input name: array}, the first axis counting examples.
        leads: of a file that streams, as `answer` takes them.
    """
    sizes = {shape[0] for shape, _ in session.inputs.values() if shape}
    count = min(len(array) for array in inputs.values())
    batch = max(sizes) if max(sizes) > 0 else count
    if count % batch:
        raise DataError(f"{count} examples do not fill batches of {batch}, which the file was made for")
    starts = range(0, count, batch)
    parts = [answer(session, {n: a[i : i + batch] for n, a in inputs.items()}, leads) for i in starts]
    return {name: np.concatenate([part[name] for part in parts]) for name in session.outputs}


def named(session, inputs):
    """Return `inputs` as {input name: array} for a `zoo.export.session.Session`."""
    if isinstance(inputs, dict):
        return inputs
    arrays = inputs if isinstance(inputs, (tuple, list)) else [inputs]
    return dict(zip(session.inputs, arrays, strict=True))


def _check_file(model, path, inputs, atol, scheme, plan):
    import keras

    from zoo.export import planning, signature, trace

    path = file_at(path, "a .tflite or .onnx model")
    file, format = path.name, path.suffix.removeprefix(".")
    checks.choice(scheme, "scheme", SCHEMES)
    planning.check_plan(plan, format=format)
    session = opened(path)
    specs = signature.input_specs(model, batch_size=None)
    time_steps, state, leads, expected_specs = None, "reset", None, specs
    if session.streams:
        time_steps, state = next(iter(session.inputs.values()))[0][1], "external"
        entry = signature.signature(model, batch_size=None, time_steps=time_steps, state=state)
        expected_specs, leads = entry.specs[: len(specs)], entry.leads
    seen = [_names(file, session, expected_specs)]
    if not seen[0].passed:
        return seen
    if inputs is None:
        raise DataError(f"no inputs to compare {file} with its model on; give a few examples")
    arrays = checked_inputs(inputs, specs)
    # Twice, where the model takes any batch: of one example Keras' `add` takes (1, ..., n, 1) for a bias of n channels.
    twice = {s.name: np.concatenate([arrays[s.name]] * 2) if s.shape[0] is None else arrays[s.name] for s in specs}
    with trace.for_inference(model):  # as the file was made: a stateful layer starts afresh, half precision is float32
        outputs = signature.flat_call(model)(*[keras.ops.convert_to_tensor(twice[spec.name]) for spec in specs])
    count = len(next(iter(arrays.values())))
    expected = [np.asarray(keras.ops.convert_to_numpy(output))[:count] for output in outputs]
    expected = dict(zip(signature.output_names(model, expected), expected, strict=True))
    leads = None if leads is None else dict(zip(expected, leads, strict=True))
    got = run_examples(session, arrays, leads)
    seen += [_values(file, got, expected, atol), _again(file, got, run_examples(session, arrays, leads))]
    if plan is None:
        steps = time_steps or _steps(arrays)
        plan = planning.plan(model, format=format, scheme=scheme, time_steps=steps, state=state)
    seen.append(_ops(file, path, format, plan))
    if plan.target == "mcu" and not session.streams:
        seen.append(_micro(file, path, session, arrays, expected, atol))
    return seen


def checked_inputs(inputs, specs):
    """Return `inputs` as {input name: array}; raise DataError unless they are examples of what the model takes."""
    names = [spec.name for spec in specs]
    if not isinstance(inputs, dict):
        given = inputs if isinstance(inputs, (tuple, list)) else [inputs]
        if len(given) != len(names):
            raise DataError(f"inputs is a list of {len(given)}; expected an array for each of {', '.join(names)}")
        inputs = dict(zip(names, given, strict=True))
    if set(inputs) != set(names):
        raise DataError(f"inputs is for {', '.join(map(str, inputs))}; the model takes {', '.join(names)}")
    arrays = {name: as_array(inputs[name], f"inputs for {name!r}") for name in names}
    for spec in specs:
        array, expected = arrays[spec.name], tuple(spec.shape)
        fits = array.ndim == len(expected) and all(e in (None, a) for a, e in zip(array.shape, expected, strict=True))
        if not fits or array.dtype.kind not in "fiub" or not array.size:
            said = f"{array.shape} of {array.dtype}"
            raise DataError(f"input {spec.name!r} is given {said}; expected examples of shape {expected}, numbers")
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise DataError(f"inputs has {counts} examples; expected as many for each input")
    return {spec.name: arrays[spec.name].astype(spec.dtype.as_numpy_dtype) for spec in specs}


def _micro(file, path, session, arrays, expected, atol):
    """Compare TFLite Micro's answers to a few examples with the model's."""
    from zoo.export.tflite.micro_runtime import arena_size, run_micro

    batch = next(iter(session.inputs.values()))[0][0]
    count = min(MICRO_EXAMPLES, len(next(iter(arrays.values()))) // batch)
    answers = run_micro(path, [{n: a[i * batch : (i + 1) * batch] for n, a in arrays.items()} for i in range(count)])
    got = {name: np.concatenate([answer[name] for answer in answers]) for name in expected}
    check = _values(file, got, {name: array[: count * batch] for name, array in expected.items()}, atol)
    return Check(file, check.passed, f"TFLite Micro, in {arena_size(path)} bytes: {check.sentence}")


def _steps(arrays):
    first = next(iter(arrays.values()))
    return first.shape[1] if first.ndim > 1 else None


def _names(file, session, specs):
    expected = {spec.name: spec for spec in specs}
    if set(session.inputs) != set(expected):
        return Check(file, False, f"its inputs are {sorted(session.inputs)}; the model's are {sorted(expected)}")
    for name, (shape, dtype) in session.inputs.items():
        spec = expected[name]
        fits = len(shape) == len(spec.shape) and all(
            one in (-1, other) or other is None for one, other in zip(shape, spec.shape, strict=True)
        )
        if not fits or np.dtype(dtype) != spec.dtype.as_numpy_dtype:
            seen = f"{shape} {np.dtype(dtype).name}"
            return Check(file, False, f"input {name!r} is {seen}; the model's is {spec.shape} {spec.dtype.name}")
    return Check(file, True, f"inputs {', '.join(session.inputs)}; outputs {', '.join(session.outputs)}")


def _values(file, got, expected, atol):
    if list(got) != list(expected) and set(got) != set(expected):
        return Check(file, False, f"its outputs are {list(got)}; the model's are {list(expected)}")
    worst = (-1.0, "")
    for name, array in expected.items():
        if got[name].shape != array.shape:
            return Check(file, False, f"output {name!r} has shape {got[name].shape}; the model's has {array.shape}")
        difference = np.abs(got[name].astype("float64") - array.astype("float64"))
        difference = np.where(np.isnan(difference), np.inf, difference)
        at = np.unravel_index(int(difference.argmax()), difference.shape)
        where = f"{name}{list(map(int, at))} is {got[name][at]:.6g}, the model's {array[at]:.6g}"
        worst = max(worst, (float(difference[at]), where))
    return Check(file, worst[0] <= atol, f"largest difference {worst[0]:.1e} (tolerance {atol:g}): {worst[1]}")


def _again(file, first, second):
    changed = [name for name in first if not np.array_equal(first[name], second[name], equal_nan=True)]
    if changed:
        return Check(file, False, f"a second invocation gives another {', '.join(changed)}: the state is not reset")
    return Check(file, True, "a second invocation gives the same")


def _ops(file, path, format, plan):
    if format == "tflite":
        from zoo.export.tflite import op_histogram
    else:
        from zoo.export.onnx import op_histogram
    histogram = op_histogram(path)
    foreign = [op for op in histogram if op.startswith(("CUSTOM", "Flex"))]
    loops = sum(histogram.get(op, 0) for op in LOOPS[format])
    native = sum(histogram.get(op, 0) for op in NATIVE[format])
    planned = [choice.form for choice in plan.choices]
    said = ", ".join(f"{count} {op}" for op, count in sorted(histogram.items(), key=lambda item: -item[1]))
    if foreign:
        return Check(file, False, f"needs {', '.join(foreign)}, which the plain runtime does not have")
    if loops and "loop" not in planned:
        return Check(file, False, f"has {loops} loops where the plan says native ({said})")
    if native < planned.count("native") and loops > planned.count("loop"):  # a rule of the user's may emit other ops
        return Check(file, False, f"has {native} native recurrent ops, the plan {planned.count('native')} ({said})")
    return Check(file, True, f"ops: {said}")
