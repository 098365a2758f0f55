"""ONNX's own recurrent ops: LSTM (with peepholes), GRU (both reset orders) and RNN, in one or both directions."""

from dataclasses import dataclass, replace

import keras
import numpy as np
import tensorflow as tf

from zoo import layers
from zoo.export.onnx.activations import activation_attributes
from zoo.export.onnx.standins import stand_in
from zoo.export.rules import Unsuitable, find_rule, folded, rule


@dataclass(frozen=True)
class Recurrence:
    """One direction of an ONNX recurrent op: its weights in ONNX's layout, without the axis of directions.

    Args:
        op: "LSTM", "GRU" or "RNN".
        units: size of the hidden state.
        kernel: (gates * units, features).
        recurrent_kernel: (gates * units, units).
        bias: (2 * gates * units,), first that of the kernel, then that of the recurrent kernel.
        peephole: (3 * units,) or None.
        attributes: further attributes of the op; those that are lists hold one direction's part.
    """

    op: str
    units: int
    kernel: np.ndarray
    recurrent_kernel: np.ndarray
    bias: np.ndarray
    peephole: np.ndarray | None
    attributes: dict


def _loop_is_better(use, target, scheme):
    """Where benchmarks/onnx_forms.py saw the loop ahead of the op, or where it computes what the scheme asks for."""
    way = use.layer if hasattr(use.layer, "cell") else use.layer.forward_layer
    cell = folded(way.cell)
    if isinstance(cell, (keras.layers.LSTMCell, layers.PeepholeLSTMCell)):
        return None
    units = cell.units
    if scheme == "full_int8":
        return "the op has no integer kernel; a loop has for its products"
    if scheme == "dynamic_int8" and units >= (384 if isinstance(cell, keras.layers.GRUCell) else 256):
        return f"at {units} units a loop with integer products is quicker than the op, which has no integer kernel"
    if isinstance(cell, keras.layers.SimpleRNNCell) and units >= 384:
        return f"at {units} units a loop was seen to be quicker than the op"
    if isinstance(cell, layers.IndRNNCell) and units >= 128:
        return f"at {units} units a loop is smaller than an op whose matrix is but a diagonal, and soon quicker"
    if isinstance(cell, layers.EchoStateCell) and units >= 512 and cell.connectivity <= 0.25:
        return (
            f"with {units} units that hear few others a loop is smaller than an op with the whole matrix, and as quick"
        )
    return None


@rule(keras.layers.LSTMCell, format="onnx", unless=_loop_is_better)
@rule(layers.PeepholeLSTMCell, format="onnx", unless=_loop_is_better)
@rule(keras.layers.GRUCell, format="onnx", unless=_loop_is_better)
@rule(keras.layers.SimpleRNNCell, format="onnx", unless=_loop_is_better)
@rule(layers.IndRNNCell, format="onnx", unless=_loop_is_better)
@rule(layers.EchoStateCell, format="onnx", unless=_loop_is_better)
def recurrent_op(use, target):
    """ONNX's op for this cell"""
    _check(use)
    layer, recurrence = use.layer, describe(use.cell)

    def run(sequences, initial_state, mask):
        x = tf.transpose(sequences, [1, 0, 2])
        direction = "reverse" if layer.go_backwards else "forward"
        ((outputs, *states),) = _op([recurrence], direction, x, initial_state, _lengths(mask))
        outputs = tf.transpose(outputs, [1, 0, 2])
        return _as_keras_masks(layer, layer.go_backwards, outputs, states, initial_state, mask)

    return run


@rule(keras.layers.Bidirectional, format="onnx", unless=_loop_is_better)
def bidirectional_op(use, target):
    """ONNX's op for these cells, direction=bidirectional"""
    _check(use)
    layer, ways = use.layer, (use.layer.forward_layer, use.layer.backward_layer)
    for way in ways:
        if find_rule(replace(use, layer=way), format="onnx") is not recurrent_op:
            raise Unsuitable(f"no ONNX op has the mathematics of {type(way).__name__}")
    if ways[0].go_backwards:
        raise Unsuitable("its forward layer goes backwards")
    forward, backward = (describe(folded(way.cell)) for way in ways)
    if _kind(forward) != _kind(backward):
        raise Unsuitable("its two directions differ")

    def run(sequences, initial_state, mask):
        x = tf.transpose(sequences, [1, 0, 2])
        both = _op([forward, backward], "bidirectional", x, initial_state, _lengths(mask))
        lasts, sequences, finals = [], [], []
        for i, (outputs, *states) in enumerate(both):
            start = initial_state and initial_state[i * len(states) : (i + 1) * len(states)]
            outputs = tf.transpose(outputs, [1, 0, 2])
            last, outputs, states = _as_keras_masks(ways[i], i == 1, outputs, states, start, mask)
            lasts, sequences, finals = [*lasts, last], [*sequences, outputs], [*finals, *states]
        merged = _merge(layer.merge_mode, *(sequences if layer.return_sequences else lasts))
        result = (*merged, *finals) if layer.return_state else tuple(merged)
        return result if len(result) > 1 else result[0]

    return run


def describe(cell):
    """Return the `Recurrence` that computes what `cell` does.

    Raises:
        Unsuitable: an activation that ONNX does not know, or a projection.
    """
    if type(cell) in _OURS:
        return _OURS[type(cell)](cell)
    units = cell.units
    gates = {keras.layers.SimpleRNNCell: 1, keras.layers.GRUCell: 3}.get(type(cell), 4)
    kernel, recurrent_kernel = (_value(w).T for w in (cell.kernel, cell.recurrent_kernel))
    bias = np.zeros((2, gates * units), np.float32)
    if cell.bias is not None:
        given = np.atleast_2d(cell.bias.numpy())  # (1, gates * units), or (2, ...) of a GRU with reset_after
        bias[: len(given)] = given
    if gates == 1:
        return Recurrence(
            "RNN", units, kernel, recurrent_kernel, bias.ravel(), None, activation_attributes(cell.activation)
        )
    if gates == 3:  # z r h in both
        attributes = activation_attributes(cell.recurrent_activation, cell.activation)
        attributes["linear_before_reset"] = int(cell.reset_after)
        return Recurrence("GRU", units, kernel, recurrent_kernel, bias.ravel(), None, attributes)
    kernel, recurrent_kernel, bias = (_i_o_f_c(w, axis) for w, axis in ((kernel, 0), (recurrent_kernel, 0), (bias, 1)))
    attributes = activation_attributes(cell.recurrent_activation, cell.activation, cell.activation)
    return Recurrence("LSTM", units, kernel, recurrent_kernel, bias.ravel(), None, attributes)


def _describe_peepholes(cell):
    if cell.projection is not None:
        raise Unsuitable("the LSTM of ONNX has no projection")
    units, peephole = cell.units, _value(cell.peephole)
    weights = [_value(w) for w in (cell.kernel, cell.recurrent_kernel, cell.bias)]
    if cell.coupled:
        # As 1 - sigmoid(a) is sigmoid(-a), the input gate has the forget gate's weights, negated. The op's attribute
        # input_forget would make f = 1 - i, and not every runtime heeds it: onnx's reference evaluator does not.
        weights = [np.concatenate([-w[..., :units], w], axis=-1) for w in weights]
        peephole = np.concatenate([-peephole[:1], peephole])
    kernel, recurrent_kernel, bias = (_i_o_f_c(w, -1).T for w in weights)
    p_i, p_f, p_o = peephole
    return Recurrence(
        "LSTM",
        units,
        kernel,
        recurrent_kernel,
        np.concatenate([bias, np.zeros_like(bias)]),
        np.concatenate([p_i, p_o, p_f]),
        activation_attributes(keras.activations.sigmoid, keras.activations.tanh, keras.activations.tanh),
    )


def _describe_own_past(cell):
    """A unit that sees its own past only has a recurrent kernel of nothing but a diagonal."""
    return _describe_rnn(cell, np.diag(_value(cell.recurrent)), keras.activations.get(cell.activation))


def _describe_reservoir(cell):
    if cell.leak != 1:
        raise Unsuitable(f"the RNN of ONNX has no leak, here of {cell.leak}")
    return _describe_rnn(cell, cell.matrix().toarray().astype(np.float32), keras.activations.tanh)


def _describe_rnn(cell, matrix, activation):
    bias = _value(cell.bias)
    both = np.concatenate([bias, np.zeros_like(bias)])
    return Recurrence("RNN", cell.units, _value(cell.kernel).T, matrix.T, both, None, activation_attributes(activation))


_OURS = {
    layers.PeepholeLSTMCell: _describe_peepholes,
    layers.IndRNNCell: _describe_own_past,
    layers.EchoStateCell: _describe_reservoir,
}


def _value(variable):
    return np.asarray(variable.numpy(), np.float32)


def _check(use):
    if use.masked and not use.right_padded:
        raise Unsuitable("a mask reaches it; with plan(..., masks='right_padded') ONNX's op could be taken")
    if len(use.shape) != 3:
        raise Unsuitable(f"its sequences have {len(use.shape)} axes, where ONNX's recurrent ops take 3")
    if use.layer.compute_dtype == "float64":
        raise Unsuitable("it computes in float64")


def _kind(recurrence):
    """What both directions of one op must have in common."""
    order = recurrence.attributes.get("linear_before_reset")
    return recurrence.op, recurrence.units, order, recurrence.peephole is None


def _i_o_f_c(weights, axis):
    i, f, c, o = np.split(weights, 4, axis=axis)  # Keras' order
    return np.concatenate([i, o, f, c], axis=axis)


def _merge(mode, ahead, back):
    """Return what Bidirectional makes of its two outputs, as a list."""
    if mode is None:
        return [ahead, back]
    if mode == "concat":
        return [tf.concat([ahead, back], axis=-1)]
    return [{"sum": ahead + back, "ave": (ahead + back) / 2, "mul": ahead * back}[mode]]


def _lengths(mask):
    return None if mask is None else tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)


def _as_keras_masks(layer, backwards, outputs, states, initial_state, mask):
    """Return (last output, outputs, states) as Keras has them behind the end of a sequence.

    There ONNX gives zeros, as Keras does where it comes to these steps before any other: backwards.
    """
    if mask is None:
        return states[0], outputs, states
    any_step = tf.reduce_any(mask, axis=1)[:, None]  # of a sequence without, ONNX forgets the initial state
    last = states[0]
    if initial_state:
        states = [tf.where(any_step, state, start) for state, start in zip(states, initial_state, strict=True)]
        last = tf.where(any_step, last, 0.0)
    if backwards:
        return last, outputs, states
    if layer.zero_output_for_mask:
        return tf.where(mask[:, -1:], last, 0.0), outputs, states
    return last, tf.where(mask[..., None], outputs, last[:, None]), states


def _op(ways, direction, x, initial_state, lengths=None):
    """Run one op over `x` (time, batch, features); return (outputs, hidden[, cell]) for each of its directions."""
    first = ways[0]
    states = 2 if first.op == "LSTM" else 1
    initial_state, masked = initial_state or [], lengths is not None
    steps, batch = x.shape[0], x.shape[1]
    state = tf.TensorSpec([batch, first.units], tf.float32)
    specs = [tf.TensorSpec([steps, batch, first.units], tf.float32)] + [state] * states

    def build(nodes, inputs, outputs):
        x, *initial = inputs
        lengths = initial.pop(0) if masked else ""
        weights = [
            nodes.constant(np.stack([getattr(way, name) for way in ways]), name)
            for name in ("kernel", "recurrent_kernel", "bias")
        ]
        starts = [_stack(nodes, initial[i::states]) for i in range(states)] if initial else []
        if first.peephole is not None:
            starts = [*(starts or ["", ""]), nodes.constant(np.stack([way.peephole for way in ways]), "peephole")]
        arguments = [x, *weights, lengths, *starts] if starts or masked else [x, *weights]
        attributes = {}
        for name, value in [item for way in ways for item in way.attributes.items()]:
            attributes[name] = attributes.get(name, []) + value if isinstance(value, list) else value
        groups = [outputs[i :: 1 + states] for i in range(1 + states)]  # per output of the op, one name per direction
        written = [f"{nodes.scope}/{name}" if any(group) else "" for name, group in zip("yhc", groups, strict=False)]
        nodes.add(first.op, arguments, written, hidden_size=first.units, direction=direction, **attributes)
        if written[0] and direction == "reverse":  # ONNX gives the outputs in the order of the sequence
            written[0] = _reverse(nodes, written[0])
        for name, group, axis in zip(written, groups, [1, 0, 0], strict=False):
            if name:
                _unstack(nodes, name, group, axis)

    inputs = [x, *([lengths] if masked else []), *initial_state]
    flat = stand_in(build, inputs, specs * len(ways))
    return [flat[i * (1 + states) : (i + 1) * (1 + states)] for i in range(len(ways))]


def _stack(nodes, names):
    """Join tensors (batch, units) of one state, one for each direction, to (directions, batch, units)."""
    axis = nodes.constant(np.array([0]), "first_axis")
    rows = [nodes.add("Unsqueeze", [name, axis]) for name in names]
    return rows[0] if len(rows) == 1 else nodes.add("Concat", rows, axis=0)


def _reverse(nodes, name):
    """Turn a tensor's first axis around; return the name of the result."""
    slices = {"starts": -1, "ends": np.iinfo(np.int64).min, "axes": 0, "steps": -1}
    return nodes.add("Slice", [name, *(nodes.constant(np.array([v]), key) for key, v in slices.items())])


def _unstack(nodes, stacked, outputs, axis):
    """Take a tensor apart along its axis of directions into the names in `outputs`."""
    axes = nodes.constant(np.array([axis]), f"axis_{axis}")
    if len(outputs) == 1:
        nodes.add("Squeeze", [stacked, axes], outputs)
        return
    parts = [f"{stacked}_{way}" for way in ("forward", "backward")]
    nodes.add("Split", [stacked], parts, axis=axis)
    for part, output in zip(parts, outputs, strict=True):
        if output:
            nodes.add("Squeeze", [part, axes], [output])
