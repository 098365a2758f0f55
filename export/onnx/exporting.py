"""Write a Keras model as an ONNX file."""

import json

import numpy as np
import onnx
import tensorflow as tf
from google.protobuf.message import EncodeError

from zoo import checks
from zoo.errors import ExportError
from zoo.export import child
from zoo.export import trace as tracing
from zoo.export.crashes import explained
from zoo.export.onnx.conversion import OPSET, to_graph, trace
from zoo.export.onnx.dynamic_int8 import MICROSOFT, dynamic_int8
from zoo.export.onnx.full_int8 import calibrated, full_int8
from zoo.export.onnx.ranges import seen_ranges
from zoo.export.onnx.scan import loops_replaced
from zoo.export.onnx.tidying import tidy
from zoo.export.onnx.weights import float16, weight_int8
from zoo.export.options import check_options, check_path, check_scheme, write
from zoo.export.planning import check_plan, check_planned, choose
from zoo.export.representative import read_representative
from zoo.export.session import NEXT
from zoo.export.signature import signature
from zoo.export.stepping import steps_replaced

_REWRITTEN = {"float16": float16, "weight_int8": weight_int8, "dynamic_int8": dynamic_int8}
ENDS = "int8"  # of the file's metadata: scale and zero point of its int8 inputs and outputs, as JSON
_IR_VERSION = 8  # of the ONNX release that brought opset 17


def to_onnx(
    model,
    path,
    *,
    scheme="float32",
    target="linux",
    state="reset",
    representative_data=None,
    io_dtype="float32",
    keep_float=(),
    time_steps=None,
    plan=None,
):
    """Write `model` as an ONNX file.

    LSTM, peephole LSTM, GRU, SimpleRNN and what has their mathematics, in one direction or both, become ONNX's own ops;
    every other recurrent layer becomes a `Scan` around its cell's step. The batch size is open in the file, and so is
    the time axis where the model leaves it open. The same model gives the same bytes.

    Args:
        model: any built Keras 3 model.
        path: the file to write, ending in .onnx; it must not exist.
        scheme: "float32"; "float16" or "weight_int8", smaller weights, see `zoo.export.onnx.weights`; "dynamic_int8",
            see `zoo.export.onnx.dynamic_int8`; "full_int8", see `zoo.export.onnx.full_int8`.
        target: "linux", "android", "mcu" or "web".
        state: "reset", every run starts from the initial state; "external", a run takes a chunk and the states as
            inputs, zeros before the first chunk, and gives the next states as outputs named so and "_next".
        representative_data: for "full_int8", some hundred examples of what the device will see: an array, {input name:
            array}, or an iterable of examples. With states, whole sequences.
        io_dtype: "float32", or "int8" with "full_int8": inputs and outputs as integers, whose scales and zero points
            the file's metadata have as JSON under "int8". States stay float32.
        keep_float: names of layers that stay float32 in every scheme.
        time_steps: length of the time axis, for models that leave it open and must not; of a chunk, with states.
        plan: what `zoo.export.plan(model, format="onnx")` returned, with overrides; made here if left out.

    Returns:
        The path, a `pathlib.Path`.

    Raises:
        SettingError: an argument that cannot be used.
        DataError: representative_data shows no ranges; the message says why.
        ExportError: a model that was never built, or that holds what ONNX has no form for.
    """
    check_options(format="onnx", scheme=scheme, target=target, state=state)
    check_scheme(
        scheme, target=target, representative_data=representative_data, keep_float=keep_float, io_dtype=io_dtype
    )
    check_plan(plan, format="onnx", target=target)
    time_steps = checks.whole(time_steps, "time_steps", or_none=True)
    path = check_path(path, ".onnx")
    entry = signature(model, batch_size=None, time_steps=time_steps, state=state)
    uses = tracing.observe(model, entry)
    if plan is None:
        plan = choose(uses, format="onnx", target=target, scheme=scheme)
    else:
        check_planned(plan, uses, format="onnx", target=target)
    graph = _graph(model, entry, uses, plan, keep_float)
    ends = {}
    if scheme == "full_int8":
        states = [] if state == "reset" else list(entry.states)
        specs = [spec for spec in entry.specs if spec.name not in states]
        examples = read_representative(representative_data, specs, open_time=bool(states))
        try:
            ends = _calibrate(graph, examples, states, io_dtype)
        except child.CrashError as crash:
            raise _explained(crash, model, entry, plan, keep_float) from crash
    elif scheme != "float32":
        _REWRITTEN[scheme](graph)
    if scheme != "float32":
        graph = tidy(graph, model.name)
    exported = _model_around(graph)
    if ends:
        onnx.helper.set_model_props(exported, {ENDS: json.dumps(ends, sort_keys=True)})
    write(path, _content(exported))
    return path


def _graph(model, entry, uses, plan, keep_float):
    def function(*tensors):
        return [tf.identity(output) for output in entry.call(*tensors)]

    with (
        tracing.for_inference(model),
        tracing.replaced(uses, plan),
        loops_replaced(uses, plan),
        steps_replaced(uses, plan),
        tracing.float_scopes(model, keep_float),
    ):
        traced = trace(function, entry.specs)
        # in here, as the variables that it reads may be those of folded cells, which live no longer than this
        graph = to_graph(traced, entry.output_names(traced.concrete.outputs))
    return tidy(graph, model.name)


def _calibrate(graph, examples, states, io_dtype):
    """Bring `graph` to full_int8 by what it computes from examples; return {end in int8: its grid}."""
    ends = []
    if io_dtype == "int8":
        kept = {*states, *(f"{name}{NEXT}" for name in states)}
        ends = [value.name for value in (*graph.input, *graph.output) if value.name not in kept and _is_float(value)]
    names = list(dict.fromkeys([*calibrated(graph), *ends]))
    grids = full_int8(graph, seen_ranges(_content(_model_around(graph)), names, examples, states), ends=ends)
    return {name: {"scale": float(scale), "zero_point": int(zero)} for name, (scale, zero) in grids.items()}


def _explained(crash, model, entry, plan, keep_float):
    """Return the error that names the layer on which the runtime crashed."""

    def calibrate(part, plan, folder):
        graph = _graph(model, part, tracing.observe(model, part), plan, keep_float)
        with np.load(f"{folder}/examples.npz") as stored:
            _calibrate(graph, {part.specs[0].name: stored["input_0"]}, [], "float32")

    return explained(crash, model, entry, plan, calibrate)


def _is_float(value):
    return value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def _model_around(graph):
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    if any(node.domain for node in graph.node):
        opsets.append(onnx.helper.make_opsetid(MICROSOFT, 1))
    return onnx.helper.make_model(graph, producer_name="recurrent-zoo", ir_version=_IR_VERSION, opset_imports=opsets)


def _content(model):
    try:
        return model.SerializeToString(deterministic=True)
    except (ValueError, EncodeError) as error:
        raise ExportError(f"model {model.graph.name!r} is too large for one ONNX file: {error}") from error
