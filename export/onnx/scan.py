"""The loop of a recurrent layer as an ONNX `Scan` around the cell's own step, for cells that no ONNX op computes."""

import contextlib

import keras
import tensorflow as tf

from zoo import layers
from zoo.export.onnx.conversion import to_graph, trace
from zoo.export.onnx.graphs import subgraphs
from zoo.export.onnx.standins import stand_in
from zoo.export.rules import folded, loops_as_known
from zoo.export.stepping import Stepper, time_first


@contextlib.contextmanager
def loops_replaced(uses, plan):
    """Within this context the layers that `plan` makes loops trace to one `Scan` each."""
    chosen = [use.layer for use in uses if plan.form(use) == "loop" and loops_as_known(use.layer)]
    for layer in chosen:
        layer.inner_loop = _scan_loop(layer)
    try:
        yield
    finally:
        for layer in chosen:
            del layer.inner_loop  # the class's own shows again


def _scan_loop(layer):
    """Return a function with the face of `layer.inner_loop` that leaves a `Scan` in the trace.

    A cell that reads a tensor of the model around it, but for a memory that it attends to, keeps Keras' own loop.
    """

    cell = folded(layer.cell)

    def inner_loop(sequences, initial_state, mask, training=False):
        stepper = Stepper(layer, initial_state, cell)
        scanned, carried = stepper.scanned(sequences, mask), keras.tree.flatten(initial_state)
        attends = isinstance(layer, layers.AttentiveRecurrent)
        shared = layer.cell.attended if attends else []

        asked = mask is not None or not layer.return_sequences  # whether anybody asks for the output before

        def step(*tensors):
            """([previous output,] states, input[, mask], shared) -> ([output,] new states, output to be collected)"""
            previous, rest = (tensors[0], tensors[1:]) if asked else (None, tensors)
            states, now = rest[: len(carried)], rest[len(carried) : len(carried) + len(scanned)]
            with layer.cell.reading(rest[len(carried) + len(now) :]) if attends else contextlib.nullcontext():
                output, new_states = stepper.step(previous, states, now)
            return [*([tf.identity(output)] if asked else []), *map(tf.identity, new_states), tf.identity(output)]

        start = [stepper.zero_output(scanned), *carried] if asked else carried
        try:
            finals, outputs = _scan(step, start, scanned, shared, backwards=layer.go_backwards)
        except _ReadsOutside:  # a Loop can: Keras' own, as tf2onnx makes it
            return type(layer).inner_loop(layer, sequences, initial_state, mask, training)
        last = finals.pop(0) if asked else outputs[-1]
        return last, time_first(outputs), keras.tree.pack_sequence_as(initial_state, finals)

    return inner_loop


def _scan(step, carried, scanned, shared, *, backwards):
    """Put a `Scan` into the trace; return (what is carried after the last step, all outputs (time, batch, ...)).

    The body reads the tensors in `shared` by their names in the model around it: neither carried nor copied.

    Raises:
        _ReadsOutside: the step reads a tensor that is neither carried, scanned nor shared.
    """
    carried_specs = [_spec(tensor, tensor.shape[1:], f"state_{i}") for i, tensor in enumerate(carried)]
    scanned_specs = [_spec(tensor, tensor.shape[2:], f"scanned_{i}") for i, tensor in enumerate(scanned)]
    names = [f"new_{spec.name}" for spec in carried_specs] + ["collected"]
    shared_specs = [_spec(tensor, tensor.shape[1:], f"shared_{i}") for i, tensor in enumerate(shared)]
    traced = trace(step, [*carried_specs, *scanned_specs, *shared_specs])
    if not traced.stands_alone:
        raise _ReadsOutside

    def build(nodes, inputs, outputs):
        own = len(carried) + len(scanned)
        body = _with_own_names(to_graph(traced, names), f"{nodes.scope}/step")
        _read_around(body, inputs[own:])
        written = [name or f"{nodes.scope}/unused_{i}" for i, name in enumerate(outputs)]
        if not outputs[-1]:
            del body.output[-1], written[-1]
        directions = [int(backwards)] * len(scanned)
        attributes = {"num_scan_inputs": len(scanned), "scan_input_directions": directions}
        nodes.add("Scan", inputs[:own], written, body=body, **attributes)

    specs = [tf.TensorSpec(spec.shape, spec.dtype) for spec in carried_specs]
    collected = traced.concrete.outputs[-1]
    specs.append(tf.TensorSpec([scanned[0].shape[0], *collected.shape], collected.dtype))
    *finals, outputs = stand_in(build, [*carried, *scanned, *shared], specs)
    return finals, outputs


class _ReadsOutside(Exception):
    pass


def _read_around(body, names):
    """Let `body` read the tensors of these names around it in place of its last inputs."""
    first = len(body.input) - len(names)
    renamed = {value.name: name for value, name in zip(body.input[first:], names, strict=True)}
    del body.input[first:]
    for part in subgraphs(body):
        for node in part.node:
            node.input[:] = [renamed.get(name, name) for name in node.input]


def _spec(tensor, rest, name):
    return tf.TensorSpec([None, *rest], tensor.dtype, name=name)


def _with_own_names(graph, scope):
    """Put all names in `graph` below `scope`: a graph within a graph must not reuse a name of the one around it."""
    graph.name = "step"
    for part in subgraphs(graph):
        for named in (*part.input, *part.output, *part.initializer):
            named.name = f"{scope}/{named.name}"
        for node in part.node:
            node.name = f"{scope}/{node.name}"
            node.input[:] = [name and f"{scope}/{name}" for name in node.input]
            node.output[:] = [name and f"{scope}/{name}" for name in node.output]
    return graph
