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
    """Return a function with the face of `layer.inner_loop` that leaves a `Scan` in the trace.

    A cell that reads a tensor of the model around it, such as the encoder's outputs, keeps Keras' own loop.
    """
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
        try:
            final, states, outputs = _scan(step, [previous, *carried], scanned, backwards=layer.go_backwards)
        except _ReadsOutside:  # a Loop can: Keras' own, as tf2onnx makes it
            return type(layer).inner_loop(layer, sequences, initial_state, mask, training)
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
    """Return zeros like the cell's output: from a state of the same shape, else from a first step."""
    output = first_output()
    for state in states:
        if state.shape[1:] == output.shape[1:] and state.dtype == output.dtype and output.shape[1:].is_fully_defined():
            return tf.zeros_like(state)
    return tf.zeros_like(output)


def _scan(step, carried, scanned, *, backwards):
    """Put a `Scan` into the trace; return (final output, final states, outputs of all steps (time, batch, ...)).

    Raises:
        _ReadsOutside: the step reads a tensor that is neither carried nor scanned.
    """
    carried_specs = [_spec(tensor, tensor.shape[1:], f"state_{i}") for i, tensor in enumerate(carried)]
    scanned_specs = [_spec(tensor, tensor.shape[2:], f"scanned_{i}") for i, tensor in enumerate(scanned)]
    names = [f"new_{spec.name}" for spec in carried_specs] + ["collected"]
    traced = trace(step, [*carried_specs, *scanned_specs])
    if not traced.stands_alone:
        raise _ReadsOutside

    def build(nodes, inputs, outputs):
        body = _with_own_names(to_graph(traced, names), f"{nodes.scope}/step")
        written = [name or f"{nodes.scope}/unused_{i}" for i, name in enumerate(outputs)]
        if not outputs[-1]:
            del body.output[-1], written[-1]
        directions = [int(backwards)] * len(scanned)
        nodes.add("Scan", inputs, written, body=body, num_scan_inputs=len(scanned), scan_input_directions=directions)

    specs = [tf.TensorSpec(spec.shape, spec.dtype) for spec in carried_specs]
    specs.append(tf.TensorSpec([scanned[0].shape[0], *carried_specs[0].shape], carried_specs[0].dtype))
    final, *states, outputs = stand_in(build, [*carried, *scanned], specs)
    return final, states, outputs


class _ReadsOutside(Exception):
    pass


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
