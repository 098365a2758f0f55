"""The loop of a recurrent layer as one WHILE around a step that holds only what depends on the past."""

import contextlib
import math

import tensorflow as tf

from zoo.export.rules import folded, loops_as_known
from zoo.export.stepping import Stepper, time_first

STEPS_AT_ONCE = 4  # steps in one turn of a loop, which costs some microseconds whatever it does
# Numbers in the step's weights for which that pays: below, what the step itself adds is more than a turn; above, the
# copies of the weights, one for each step in the turn and laid out for its matmul, leave a core's cache.
FEWEST_WEIGHTS, MOST_WEIGHTS = 2048, 20000


@contextlib.contextmanager
def loops_replaced(uses, plan):
    """Within this context the layers that `plan` makes loops trace to one short WHILE each.

    Keras' own loop projects the input step by step, and collects outputs in a list that TFLite copies whole at each
    step, piece by piece.
    """
    chosen = [use.layer for use in uses if plan.form(use) == "loop" and loops_as_known(use.layer)]
    for layer in chosen:
        layer.inner_loop = _while_loop(layer, target=plan.target)
    try:
        yield
    finally:
        for layer in chosen:
            del layer.inner_loop  # the class's own shows again


def _while_loop(layer, *, target):
    """Return a function with the face of `layer.inner_loop`."""
    cell = folded(layer.cell)

    def inner_loop(sequences, initial_state, mask, training=False):
        stepper = Stepper(layer, initial_state, cell)
        scanned = stepper.scanned(sequences, mask)
        steps = scanned[0].shape[0]
        at_once = min(steps, 1 if target == "mcu" else _steps_at_once(cell))  # flash is dear
        zero, carried = stepper.zero_output(scanned), tf.nest.flatten(initial_state)

        def turn(t, previous, states, collected, *, count=at_once):
            outputs = []
            for step in range(count):
                at = steps - 1 - t - step if layer.go_backwards else t + step
                previous, states = stepper.step(previous, states, [tf.gather(x, at) for x in scanned])
                outputs.append(previous[None])
            if collected:  # a shift and an append: of the ways to keep the outputs, the quickest in LiteRT
                # tf.slice, as the kernel of STRIDED_SLICE copies number by number where XNNPACK does not replace it.
                shape = [steps - count, *zero.shape]
                collected = [tf.concat([tf.slice(collected[0], [count] + [0] * len(zero.shape), shape), *outputs], 0)]
            return t + count, previous, states, collected

        collected = [tf.tile(zero[None], [steps] + [1] * len(zero.shape))] if layer.return_sequences else []
        carry = (tf.constant(0), zero, carried, collected)
        if steps % at_once:
            carry = turn(*carry, count=steps % at_once)
        _, last, states, collected = tf.while_loop(lambda t, *_: t < steps, turn, carry)
        outputs = time_first(collected[0]) if collected else last[:, None]
        return last, outputs, tf.nest.pack_sequence_as(initial_state, states)

    return inner_loop


def _steps_at_once(cell):
    if hasattr(cell, "recur_weights"):
        read = [*cell.recur_weights, *cell.advance_weights]
    else:
        read = [cell.recurrent_kernel] if hasattr(cell, "recurrent_kernel") else getattr(cell, "weights", [])
    weights = sum(math.prod(weight.shape) for weight in read)
    return STEPS_AT_ONCE if FEWEST_WEIGHTS <= weights <= MOST_WEIGHTS else 1
