"""Stand-ins: single nodes in a traced TensorFlow graph that become other ONNX nodes once the rest is converted."""

import contextlib
import contextvars

import onnx
import tensorflow as tf

from zoo.export.onnx.graphs import Nodes, consumed_names

DOMAIN = "zoo.stand_in"
_builders = contextvars.ContextVar("builders of the trace in progress")


@contextlib.contextmanager
def collected():
    """Within this context stand-ins may be traced; it gives the list that `fill_in` needs afterwards."""
    builders = []
    before = _builders.set(builders)
    try:
        yield builders
    finally:
        _builders.reset(before)


def stand_in(build, inputs, outputs):
    """Put one node into the graph that is being traced.

    Args:
        build: called by `fill_in` with `(nodes, inputs, outputs)`: a `Nodes` to add to, the names of the tensors that
            the stand-in reads, and those it writes, "" for one that nobody reads.
        inputs: the tensors that it reads.
        outputs: `tf.TensorSpec` of the tensors that it writes.

    Returns:
        The tensors that it writes, as a list.
    """
    builders = _builders.get()
    builders.append(build)
    written = tf.raw_ops.PyFuncStateless(
        input=list(inputs), token=str(len(builders) - 1), Tout=[spec.dtype for spec in outputs]
    )
    return [tf.ensure_shape(tensor, spec.shape) for tensor, spec in zip(written, outputs, strict=True)]


def _keep(context, node, name, args):
    node.domain = DOMAIN


HANDLERS = {"PyFuncStateless": (_keep, ["StandIn"])}  # with it tf2onnx carries stand-ins over
OPSETS = [onnx.helper.make_opsetid(DOMAIN, 1)]


def fill_in(graph, builders, consumed=None):
    """Replace all stand-ins in the ONNX `graph`, subgraphs included, by what their builders add."""
    consumed = consumed or consumed_names(graph)
    nodes = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                fill_in(attribute.g, builders, consumed)
        if node.domain != DOMAIN:
            nodes.append(node)
            continue
        added = Nodes(node.name.removesuffix("/PyFuncStateless"))
        token = next(a.s for a in node.attribute if a.name == "token")
        builders[int(token)](added, list(node.input), [name if name in consumed else "" for name in node.output])
        nodes.extend(added.nodes)
        graph.initializer.extend(added.constants)
    del graph.node[:]
    graph.node.extend(nodes)
