"""Which recurrent cells have an op of their own in TFLite, and how their weights are laid out for it.

While the model is traced, a layer becomes one marked function whose arguments are the op's inputs in its own order.
The converter keeps such a function as one custom op, which `fuse` then turns into the real one.
"""

import keras
import numpy as np
import tensorflow as tf

from zoo.errors import ExportError
from zoo.export.rules import SCHEMES, Unsuitable, rule
from zoo.export.tflite.fuse import LSTM, RNN
from zoo.layers import LayerNormLSTMCell, PeepholeLSTMCell
from zoo.layers.cell import state_sizes

# Steps, on targets with room. In benchmarks/forms.py unrolled is always quicker at 5, and nearly always at 10, where a
# small layer's file can be twice as large.
UNROLLED_UP_TO = 5
_ALL_BUT_FULL_INT8 = [scheme for scheme in SCHEMES if scheme != "full_int8"]


def why_unrolled(use, target, scheme):
    """Return why the plan should give a layer one copy of its step for each time step, or None."""
    steps = use.shape[1]
    if target == "mcu" or steps is None or steps > UNROLLED_UP_TO:
        return None
    return f"{steps} steps one by one are quicker than a loop and hardly larger"


def _another_is_quicker(use, target, scheme):
    """Where benchmarks/forms.py saw another form ahead of the op: its matmuls are XNNPACK's, the op's are not.

    It ran on x86; for phones, whose kernels of these ops are other code, nothing was measured and the op stays. A
    microcontroller has vendors' kernels for the op.
    """
    steps, units = use.shape[1], use.cell.units
    if steps == 1 and target != "mcu":
        return "one step at a time"
    if target != "linux" or steps is None:
        return None
    if scheme == "full_int8":
        return "in integers a loop is quicker than the op"
    if why_unrolled(use, target, scheme):
        return "a few steps one by one are quicker than the op"
    if use.layer.return_sequences and steps > units:  # the loop shifts all outputs at every turn
        return None
    return f"at {units} units a loop is quicker than the op" if units >= 64 else None


@rule(keras.layers.LSTMCell, format="tflite", unless=_another_is_quicker)
def lstm(use, target):
    """one UNIDIRECTIONAL_SEQUENCE_LSTM"""
    cell = use.cell
    _check_use(use, target)
    _check_activation(cell.activation, keras.activations.tanh)
    _check_activation(cell.recurrent_activation, keras.activations.sigmoid)
    return one_op(use.layer, lambda: _lstm_weights(cell), LSTM)


@rule(PeepholeLSTMCell, format="tflite", unless=_another_is_quicker)
def peephole_lstm(use, target):
    """one UNIDIRECTIONAL_SEQUENCE_LSTM with peepholes"""
    cell = use.cell
    _check_use(use, target)
    if target == "mcu":
        raise Unsuitable("the LSTM of TFLite Micro has no peepholes")
    if cell.projection is not None and use.scheme == "full_int8":  # LiteRT 2.3: those of cells beyond are taken as 0
        raise Unsuitable("the op's integer kernel has peepholes for as many cells as the projection is wide")

    def weights():
        projection = None if cell.projection is None else _value(cell.projection_kernel).T
        return _lstm_weights(cell, _value(cell.peephole), projection)

    return one_op(use.layer, weights, LSTM)


@rule(LayerNormLSTMCell, format="tflite")
def layer_norm_lstm(use, target):
    """none: what the op's norm inputs compute is another model

    It normalises each gate's sum of inputs and hidden state on its own, N(x W + h U) * s + b, and leaves the cell state
    as it is. This cell normalises x W and h U apart, over all gates at once, and the cell state on its way out.
    """
    raise Unsuitable("the op normalises each gate on its own, this cell all gates at once")


@rule(keras.layers.SimpleRNNCell, format="tflite", unless=_another_is_quicker, schemes=_ALL_BUT_FULL_INT8)
def simple_rnn(use, target):
    """one UNIDIRECTIONAL_SEQUENCE_RNN"""
    cell = use.cell
    _check_use(use, target)
    if target == "mcu":
        raise Unsuitable("TFLite Micro has no UNIDIRECTIONAL_SEQUENCE_RNN")
    _check_activation(cell.activation, keras.activations.tanh)

    def weights():
        return [_value(cell.kernel).T, _value(cell.recurrent_kernel).T, _bias(cell, cell.units)]

    return one_op(use.layer, weights, RNN)


def _check_use(use, target):
    if use.masked:
        _check_mask(use, target)
    if use.shape[0] is None:
        raise Unsuitable("the op's state needs a fixed batch, which this layer does not see")


def _check_mask(use, target):
    """The op takes no mask; but what it does before a sequence's padding is right."""
    if target == "mcu":
        raise Unsuitable("a mask reaches it, and the op takes none")
    if not use.right_padded:
        raise Unsuitable("a mask reaches it; with plan(..., masks='right_padded') the op could be taken")
    if use.layer.return_state and len(state_sizes(use.cell)) > 1:
        raise Unsuitable("a mask reaches it, and of its states the op gives those behind the padding only")


def _check_activation(found, expected):
    if found is not expected:
        name = getattr(found, "__name__", found)
        raise Unsuitable(f"the op has {expected.__name__} where this layer has {name}")


def _lstm_weights(cell, peephole=None, projection=None):
    """Return inputs 1 to 17 of the op: W and R of i f c o, each (units, inputs); p of i f o; b; projection W and b.

    None stands for what the cell has not. Without the weights of an input gate the op's is 1 - f.
    """
    gates = cell.kernel.shape[-1] // cell.units
    coupled = [None] * (4 - gates)
    kernels = np.split(_value(cell.kernel).T, gates)
    recurrent = np.split(_value(cell.recurrent_kernel).T, gates)
    peepholes = [None] * 3 if peephole is None else [*coupled, *peephole]
    biases = np.split(_bias(cell, gates * cell.units), gates)
    return [*coupled, *kernels, *coupled, *recurrent, *peepholes, *coupled, *biases, projection, None]


def _bias(cell, size):
    return np.zeros(size, "float32") if cell.bias is None else _value(cell.bias)


def _value(variable):
    with tf.init_scope():  # out of the function that is being traced, where a variable has a value
        return keras.ops.convert_to_numpy(variable).astype("float32")


def one_op(layer, weights, marker):
    """Return the `run` of a rule that makes `layer` one of TFLite's own recurrent ops, which starts afresh every time.

    Args:
        layer: the layer, whose cell has the op's states.
        weights: function that gives the op's inputs between the sequences and the states, a list of arrays, None for
            what the cell has not; called in a trace, in which variables have no values.
        marker: `zoo.export.tflite.fuse.LSTM` or `RNN`: UNIDIRECTIONAL_SEQUENCE_LSTM or UNIDIRECTIONAL_SEQUENCE_RNN.
    """
    sizes = state_sizes(layer.cell)

    def run(sequences, initial_state, mask):
        if sequences.shape[0] is None:
            raise ExportError(f"layer {layer.name} is given batches of unknown size; its op needs a fixed one")
        lengths = None if mask is None else tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
        if layer.go_backwards and mask is None:
            sequences = tf.reverse(sequences, [1])
        elif layer.go_backwards:
            sequences = tf.reverse_sequence(sequences, lengths, seq_axis=1)
        batch_size = sequences.shape[0]
        initial_state = initial_state or [tf.zeros((batch_size, size)) for size in sizes]
        constants = [np.zeros(0, "float32") if w is None else w for w in weights()]
        outputs, *finals = _marked(marker, batch_size, sizes)(sequences, *constants, *initial_state)
        if mask is not None:
            return _before_padding(layer, outputs, lengths, mask, initial_state[0])
        return outputs[:, -1], outputs, [outputs[:, -1], *finals]

    return run


def _before_padding(layer, outputs, lengths, mask, start):
    """Return (last output, outputs, [hidden state]) of an op that ran on over the padding behind each sequence.

    Of its other state nothing is known but its value behind the padding.
    """
    any_step = lengths[:, None] > 0
    hidden = tf.gather(outputs, tf.maximum(lengths - 1, 0), batch_dims=1)
    last, hidden = tf.where(any_step, hidden, tf.zeros_like(hidden)), tf.where(any_step, hidden, start)
    zeros, counts = tf.zeros_like(outputs), mask[..., None]
    if layer.go_backwards:  # Keras comes to the padding first, before there is an output
        outputs = tf.reverse(tf.where(counts, tf.reverse_sequence(outputs, lengths, seq_axis=1), zeros), [1])
    elif layer.zero_output_for_mask:
        outputs, last = tf.where(counts, outputs, zeros), tf.where(mask[:, -1:], last, tf.zeros_like(last))
    else:
        outputs = tf.where(counts, outputs, last[:, None] + zeros)
    return last, outputs, [hidden]


def _marked(marker, batch_size, sizes):
    """Return a function of the op's inputs that the converter keeps whole; only its outputs' shapes count."""

    @tf.function(
        autograph=False,
        experimental_implements=f'name: "{marker}" attr {{ key: "tfl_fusable_op" value {{ b: true }} }}',
    )
    def stand_in(sequences, *unread):  # TensorFlow names tensors so; of "_" it says that no name begins with it
        hidden, *others = sizes  # the first state is the last output
        outputs = tf.zeros([batch_size, tf.shape(sequences)[1], hidden])
        outputs.set_shape([batch_size, sequences.shape[1], hidden])
        return outputs, *[tf.zeros((batch_size, size)) for size in others]

    return stand_in
