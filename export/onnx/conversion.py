"""Turn a traced TensorFlow function into an ONNX graph with tf2onnx."""

import contextlib
import logging
from dataclasses import dataclass

import numpy as np
import onnx
import tensorflow as tf

from zoo.errors import ExportError
from zoo.export.onnx import standins
from zoo.export.onnx.graphs import subgraphs

# 17 is read by every ONNX Runtime since 1.12 (2022), the web and mobile packages included; later opsets change no op
# that recurrent models need.
OPSET = 17


def _erfc(context, node, name, args):
    """erfc(x) = 1 - erf(x)"""
    element = context.get_dtype(node.output[0])
    erf = context.make_node("Erf", [node.input[0]], dtypes=[element])
    one = context.make_const(f"{name}/one", np.ones((), onnx.helper.tensor_dtype_to_np_dtype(element)))
    context.replace_inputs(node, [one.output[0], erf.output[0]])


def _reverse(context, node, name, args):
    axes = np.atleast_1d(node.inputs[1].get_tensor_value(as_list=False)).astype(np.int64)
    bounds = {"starts": -1, "ends": np.iinfo(np.int64).min, "axes": axes, "steps": -1}
    constants = [context.make_const(f"{name}/{key}", np.zeros_like(axes) + value) for key, value in bounds.items()]
    context.replace_inputs(node, [node.input[0], *(constant.output[0] for constant in constants)])


def _as_it_is(context, node, name, args):
    pass


_HANDLERS = {
    "SelectV2": (_as_it_is, ["Where"]),  # tf2onnx multiplies by 0 and 1, which lets a masked NaN through
    "Erfc": (_erfc, ["Sub"]),  # in Keras' gelu; tf2onnx has no form for it
    "ReverseV2": (_reverse, ["Slice"]),  # tf2onnx takes five nodes
}
# All that help here but the one that merges equal nodes: which of them it keeps differs from run to run.
_OPTIMIZERS = (
    "TransposeOptimizer",
    "ConstFoldOptimizer",
    "LoopOptimizer",
    "ReshapeOptimizer",
    "GlobalPoolOptimizer",
    "IdentityOptimizer",
    "BackToBackOptimizer",
)


@dataclass(frozen=True)
class Traced:
    """A traced function: what `to_graph` converts.

    Args:
        concrete: the TensorFlow function.
        builders: of the stand-ins in it.
        specs: those of its arguments.
    """

    concrete: object
    builders: list
    specs: list

    @property
    def stands_alone(self):
        """Whether the function reads nothing but its arguments and variables: no tensor of a trace around it."""
        return all(outer.dtype == tf.resource for outer in self.concrete.graph.external_captures)


def trace(function, specs):
    """Trace `function`, which takes one tensor for each of `specs` and returns a flat list, as `Traced`."""
    with standins.collected() as builders:
        concrete = tf.function(function, autograph=False).get_concrete_function(*specs)
    return Traced(concrete, builders, specs)


def to_graph(traced, output_names):
    """Convert `traced` to an ONNX graph, stand-ins filled in.

    The inputs are named as its specs. What it reads of an outer trace must be variables only.

    Raises:
        ExportError: an operation that ONNX has no form for.
    """
    inside = [tensor for tensor in traced.concrete.inputs if tensor.dtype != tf.resource]
    input_names = [spec.name for spec in traced.specs]
    renamed = {tensor.name: name for tensor, name in zip(inside, input_names, strict=True)}
    renamed |= {tensor.name: name for tensor, name in zip(traced.concrete.outputs, output_names, strict=True)}
    graph = _convert(traced.concrete, [tensor.name for tensor in inside], renamed)
    _check(graph)
    standins.fill_in(graph, traced.builders)
    del graph.input[:]  # tf2onnx drops those that are not read
    for name, tensor in zip(input_names, inside, strict=True):
        element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype.as_numpy_dtype))
        graph.input.append(onnx.helper.make_tensor_value_info(name, element, tensor.shape.as_list()))
    return graph


def _convert(concrete, input_names, renamed):
    from tf2onnx import optimizer, tf_loader, tfonnx

    output_names = [tensor.name for tensor in concrete.outputs]
    with quiet(), tf.device("/cpu:0"):
        frozen = tf_loader.from_function(concrete, input_names, output_names)
        with tf.Graph().as_default() as tf_graph:
            tf.import_graph_def(frozen, name="")
            try:
                graph = tfonnx.process_tf_graph(
                    tf_graph,
                    opset=OPSET,
                    input_names=input_names,
                    output_names=output_names,
                    tensors_to_rename=renamed,
                    custom_op_handlers={**standins.HANDLERS, **_HANDLERS},
                    extra_opset=standins.OPSETS,
                )
            except (ValueError, NotImplementedError, RuntimeError) as error:
                raise ExportError(f"tf2onnx cannot convert the model: {error}") from error
            steps = {name: getattr(optimizer, name) for name in _OPTIMIZERS}
            return optimizer.optimize_graph(graph, optimizers=steps).make_graph("")


@contextlib.contextmanager
def quiet():
    """Keep what converters log off the user's terminal: what goes wrong is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _check(graph):
    for part in subgraphs(graph):
        for node in part.node:
            known = node.domain == standins.DOMAIN or (
                node.domain == "" and onnx.defs.has(node.op_type, OPSET, node.domain)
            )
            if not known:
                raise ExportError(
                    f"{node.name} is a TensorFlow {node.op_type}, which ONNX has no form for; "
                    "replace it in the model by operations that it has"
                )
