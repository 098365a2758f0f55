"""The loop of a recurrent layer as an ONNX `Scan` around the cell's own step, for cells that no ONNX op computes."""

import contextlib

import keras
import tensorflow as tf

from zoo import layers
from zoo.export.onnx.conversion import to_graph, trace
from zoo.export.onnx.graphs import subgraphs
from zoo.export.onnx.standins import stand_in

_LOOPS = (keras.layers.RNN, keras.layers.LSTM, keras.layers.GRU, layers.Recurrent)  # whose inner_loop is known


@contextlib.contextmanager
def loops_replaced(uses, plan):
    """Within this context the layers that `plan` makes loops trace to one `Scan` each."""
    chosen = [use.layer for use in uses if plan.form(use.path) == "loop" and hasattr(use.layer, "cell")]
    chosen = [layer for layer in chosen if any(type(layer).inner_loop is loop.inner_loop for loop in _LOOPS)]
    for layer in chosen:
        layer.inner_loop = _scan_loop(layer)
    try:
        yield
    finally:
        for layer in chosen:
            del layer.inner_loop  # the class's own shows again


def _scan_loop(layer):
    """Return a function with the face of `layer.inner_loop` that leaves a `Scan` in the trace."""
    cell = layer.cell
    takes_training = isinstance(cell, keras.layers.Layer) and cell._call_has_training_arg

    def inner_loop(sequences, initial_state, mask, training=False):
        x = _time_first(sequences)
        if isinstance(cell, layers.Cell):
            x = _project(cell, x)
        scanned = [x]
        if mask is not None:
            scanned.append(_time_first(tf.cast(keras.tree.flatten(mask)[0], tf.bool)))

        def advance(x, states):
            if isinstance(cell, layers.Cell):
                return cell.step(x, states)
            return cell(x, states, **({"training": False} if takes_training else {}))

        def step(*tensors):
            """(previous output, states, input[, mask]) -> (output, new states, output once more to be collected)"""
            previous, *rest = tensors
            flat_states, x = rest[: len(carried)], rest[len(carried)]
            output, new_states = advance(x, keras.tree.pack_sequence_as(initial_state, flat_states))
            new_states = keras.tree.flatten(new_states)
            shown = output
            if mask is not None:
                shown = _where(rest[-1], output, tf.zeros_like(output) if layer.zero_output_for_mask else previous)
                new_states = [_where(rest[-1], n, o) for n, o in zip(new_states, flat_states, strict=True)]
            return [tf.identity(shown), *map(tf.identity, new_states), tf.identity(shown)]

        carried = keras.tree.flatten(initial_state)
        previous = _zero_output(lambda: advance(x[0], initial_state)[0], carried)
        final, states, outputs = _scan(step, [previous, *carried], scanned, backwards=layer.go_backwards)
        return final, _time_first(outputs), keras.tree.pack_sequence_as(initial_state, states)

    return inner_loop


def _time_first(x):
    """Swap the first two axes: (batch, time, ...) to (time, batch, ...) and back."""
    return tf.transpose(x, [1, 0, *range(2, len(x.shape))])


def _project(cell, x):
    """Return what `cell` needs of all inputs (time, batch, features...), in one matmul."""
    steps, batch = tf.shape(x)[0], tf.shape(x)[1]
    rows = cell.project(tf.reshape(x, [-1, *x.shape[2:]]))
    projected = tf.reshape(rows, [steps, batch, *rows.shape[1:]])
    projected.set_shape([x.shape[0], x.shape[1], *rows.shape[1:]])
    return projected


def _where(mask, new, old):
    """Return `new` in the rows of the batch where `mask` (batch,) is True, else `old`."""
    return tf.where(tf.reshape(mask, [-1] + [1] * (len(new.shape) - 1)), new, old)


def _zero_output(first_output, states):
    """Return zeros like the cell's output; shaped like a state where one has its shape, which costs no step."""
    output = first_output()
    for state in states:
        if state.shape[1:] == output.shape[1:] and state.dtype == output.dtype and output.shape[1:].is_fully_defined():
            return tf.zeros_like(state)
    return tf.zeros_like(output)


def _scan(step, carried, scanned, *, backwards):
    """Put a `Scan` into the trace; return (final output, final states, outputs of all steps (time, batch, ...))."""
    carried_specs = [_spec(tensor, tensor.shape[1:], f"state_{i}") for i, tensor in enumerate(carried)]
    scanned_specs = [_spec(tensor, tensor.shape[2:], f"scanned_{i}") for i, tensor in enumerate(scanned)]
    names = [f"new_{spec.name}" for spec in carried_specs] + ["collected"]
    traced = trace(step, [*carried_specs, *scanned_specs])

    def build(nodes, inputs, outputs):
        own = len(carried) + len(scanned)
        outer = {f"captured_{i}": name for i, name in enumerate(inputs[own:])}
        graph = _step_graph(to_graph(traced, names), f"{nodes.scope}/step", outer)
        del graph.input[own:]
        written = [name or f"{nodes.scope}/unused_{i}" for i, name in enumerate(outputs)]
        if not outputs[-1]:
            del graph.output[-1], written[-1]
        nodes.add(
            "Scan",
            inputs[:own],
            written,
            body=graph,
            num_scan_inputs=len(scanned),
            scan_input_directions=[int(backwards)] * len(scanned),
        )

    time = scanned[0].shape[0]
    specs = [tf.TensorSpec(spec.shape, spec.dtype) for spec in carried_specs]
    specs.append(tf.TensorSpec([time, *carried_specs[0].shape], carried_specs[0].dtype))
    final, *states, outputs = stand_in(build, [*carried, *scanned, *traced.captured], specs)
    return final, states, outputs


def _spec(tensor, rest, name):
    return tf.TensorSpec([None, *rest], tensor.dtype, name=name)


def _step_graph(graph, scope, outer):
    """Make all names in `graph` its own, except those that `outer` maps to names of the graph around it."""
    graph.name = "step"

    def renamed(name):
        return outer.get(name, f"{scope}/{name}") if name else ""

    for part in subgraphs(graph):
        for named in (*part.input, *part.output, *part.initializer):
            named.name = renamed(named.name)
        for node in part.node:
            node.name = renamed(node.name)
            node.input[:] = map(renamed, node.input)
            node.output[:] = map(renamed, node.output)
    return graph
