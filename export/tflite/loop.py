"""The loop of a recurrent layer as one WHILE around a step that holds only what depends on the past."""

import contextlib

import tensorflow as tf

from zoo.export.rules import loops_as_known
from zoo.export.stepping import Stepper, time_first


@contextlib.contextmanager
def loops_replaced(uses, plan):
    """Within this context the layers that `plan` makes loops trace to one short WHILE each.

    Keras' own loop projects the input step by step, and collects outputs in a list that TFLite copies whole at each
    step, piece by piece.
    """
    chosen = [use.layer for use in uses if plan.form(use.path) == "loop" and loops_as_known(use.layer)]
    for layer in chosen:
        layer.inner_loop = _while_loop(layer)
    try:
        yield
    finally:
        for layer in chosen:
            del layer.inner_loop  # the class's own shows again


def _while_loop(layer):
    """Return a function with the face of `layer.inner_loop`."""

    def inner_loop(sequences, initial_state, mask, training=False):
        stepper = Stepper(layer, initial_state)
        scanned = stepper.scanned(sequences, mask)
        steps = scanned[0].shape[0]
        zero, carried = stepper.zero_output(scanned), tf.nest.flatten(initial_state)

        def body(t, previous, states, collected):
            at = steps - 1 - t if layer.go_backwards else t
            output, states = stepper.step(previous, states, [tf.gather(x, at) for x in scanned])
            if collected:  # a shift and an append: of the ways to keep the outputs, the quickest in LiteRT
                # tf.slice, as the kernel of STRIDED_SLICE copies number by number where XNNPACK does not replace it.
                kept = tf.slice(collected[0], [1] + [0] * len(zero.shape), [steps - 1, *zero.shape])
                collected = [tf.concat([kept, output[None]], 0)]
            return t + 1, output, states, collected

        collected = [tf.tile(zero[None], [steps] + [1] * len(zero.shape))] if layer.return_sequences else []
        start = (tf.constant(0), zero, carried, collected)
        _, last, states, collected = tf.while_loop(lambda t, *_: t < steps, body, start)
        outputs = time_first(collected[0]) if collected else last[:, None]
        return last, outputs, tf.nest.pack_sequence_as(initial_state, states)

    return inner_loop
