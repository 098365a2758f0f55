"""Write a Keras model as an ONNX file."""

import onnx
import tensorflow as tf
from google.protobuf.message import EncodeError

from zoo.errors import ExportError, SettingError
from zoo.export import trace as tracing
from zoo.export.onnx import quantizing
from zoo.export.onnx.conversion import OPSET, to_graph, trace
from zoo.export.onnx.scan import loops_replaced
from zoo.export.onnx.tidying import tidy
from zoo.export.options import check_options, check_path, write
from zoo.export.planning import check_plan, choose
from zoo.export.signature import signature

_IR_VERSION = 8  # of the ONNX release that brought opset 17


def to_onnx(
    model,
    path,
    *,
    scheme="float32",
    target="linux",
    state="reset",
    representative_data=None,
    time_steps=None,
    plan=None,
):
    """Write `model` as an ONNX file.

    LSTM, peephole LSTM, GRU and SimpleRNN, in one direction or both, become ONNX's own ops; every other recurrent layer
    becomes a `Scan` around its cell's step. The batch size is open in the file, and so is the time axis where the model
    leaves it open. The same model gives the same bytes.

    Args:
        model: any built Keras 3 model.
        path: the file to write, ending in .onnx; it must not exist.
        scheme: "float32"; or "dynamic_int8": the weights of LSTM and of matrix products (Dense and the like) become
            int8, one scale for each column, and so do embeddings; activations are quantised as they come. What ONNX
            Runtime has no such form for stays float32: GRU, SimpleRNN, `Scan`, convolutions, and every layer with
            `quantizable = False`.
        target: "linux", "android", "mcu" or "web".
        state: "reset", every run starts from the initial state; "external", a run takes a chunk and the states as
            inputs, zeros before the first chunk, and gives the next states as outputs named so and "_next".
        representative_data: for schemes that calibrate; none of these does.
        time_steps: length of the time axis, for models that leave it open and must not; of a chunk, with states.
        plan: what `zoo.export.plan(model, format="onnx")` returned, with overrides; made here if left out.

    Returns:
        The path, a `pathlib.Path`.

    Raises:
        SettingError: an argument that cannot be used.
        ExportError: a model that was never built, or that holds what ONNX has no form for.
    """
    check_options(format="onnx", scheme=scheme, target=target, state=state, time_steps=time_steps)
    if representative_data is not None:
        raise SettingError(f"scheme {scheme!r} does not calibrate; leave representative_data out")
    path = check_path(path, ".onnx")
    entry = signature(model, batch_size=None, time_steps=time_steps, state=state)
    uses = tracing.observe(model, entry)
    if plan is None:
        plan = choose(uses, format="onnx", target=target)
    else:
        check_plan(plan, uses, format="onnx", target=target)
    graph = _graph(model, entry, uses, plan)
    exported = _model_around(graph)
    if scheme == "dynamic_int8":
        kept = [node.name for node in graph.node if tracing.FLOAT_SCOPE in node.name]
        exported = _model_around(tidy(quantizing.dynamic_int8(exported, kept).graph, model.name))
    write(path, _content(exported))
    return path


def _graph(model, entry, uses, plan):
    def function(*tensors):
        return [tf.identity(output) for output in entry.call(*tensors)]

    with (
        tracing.for_inference(model),
        tracing.replaced(uses, plan),
        loops_replaced(uses, plan),
        tracing.float_scopes(model),
    ):
        traced = trace(function, entry.specs)
    return tidy(to_graph(traced, entry.output_names(traced.concrete.outputs)), model.name)


def _model_around(graph):
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    if any(node.domain for node in graph.node):
        opsets.append(onnx.helper.make_opsetid(quantizing.DOMAIN, 1))
    return onnx.helper.make_model(graph, producer_name="recurrent-zoo", ir_version=_IR_VERSION, opset_imports=opsets)


def _content(model):
    try:
        return model.SerializeToString(deterministic=True)
    except (ValueError, EncodeError) as error:
        raise ExportError(f"model {model.graph.name!r} is too large for one ONNX file: {error}") from error
