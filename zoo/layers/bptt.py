"""Back-propagation through time for a split cell, in the loops of each backend.

The custom gradient replays the steps backward through the vector-Jacobian product of one step, which the backend
takes, collects the gradient of each step's projected input and recurrent part, and forms the weights' gradients after
the loop.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
from keras import ops

from zoo.layers.cell import as_tensors, step_of


def run_steps(
    cell, projected, carry, *, mask, noise, zero_output_for_mask, return_sequences, unroll=False, training=True
):
    """Run `cell` over time-major projected inputs.

    Args:
        cell: a built `Cell`.
        projected: (time, batch, ...), from `cell.project`.
        carry: list of the initial states, each (batch, ...), and of the output before, (batch, ...).
        mask: bool (time, batch) or None.
        noise: from `cell.draw_noise`, or None.
        zero_output_for_mask: bool, zeros at masked steps instead of the previous output.
        return_sequences: bool, whether the outputs of all steps are wanted.
        unroll: bool, a Python loop in place of the backend's.
        training: bool; at inference the loop keeps nothing for a backward pass (its gradient is still right).

    Returns:
        The list of the final states and the last output; all outputs (time, batch, ...) or None.
    """
    timed_noise, fixed_noise, join_noise = split_noise(noise)
    recurrent_structure = None

    def recall(states, inputs):
        return states if noise is None else cell.recall(states, join_noise(inputs["noise"], inputs["fixed"]))

    def recur(states, weights):
        nonlocal recurrent_structure
        recurrent = cell.recur(states, weights)
        recurrent_structure = keras.tree.map_structure(lambda part: part is not None, recurrent)
        return [part for part in keras.tree.flatten(recurrent) if part is not None]

    def advance(inputs, recurrent, carry, weights):
        states, previous, parts = carry[:-1], carry[-1], iter(recurrent)
        recurrent = keras.tree.map_structure(lambda given: next(parts) if given else None, recurrent_structure)
        now = None if noise is None else join_noise(inputs["noise"], inputs["fixed"])
        output, new_states = cell.advance(inputs["projected"], recurrent, states, weights, now)
        if "mask" in inputs:
            keep = inputs["mask"]
            output = _where(keep, output, ops.zeros_like(previous) if zero_output_for_mask else previous)
            new_states = [_where(keep, new, old) for new, old in zip(new_states, states, strict=True)]
        return [*new_states, output]

    inputs = {"projected": projected, "noise": timed_noise}
    if mask is not None:
        inputs["mask"] = mask
    run = _python_loop if unroll else _loop(training)
    return run(
        Step(recall, recur, advance),
        inputs,
        step_of(fixed_noise),
        carry,
        as_tensors(cell.recur_weights),
        as_tensors(cell.advance_weights),
        return_sequences,
    )


def _loop(training):
    """Return the backend's loop for training or for inference; the backend differentiates the latter by itself."""
    match keras.backend.backend():
        case "tensorflow":
            from zoo.layers import bptt_tensorflow as loops
        case "jax":
            from zoo.layers import bptt_jax as loops
        case _:
            return _python_loop
    return loops.run_trained if training else loops.run_plain


class Step(NamedTuple):
    """A cell's step on flat lists: what `recur` reads of the states, its part, and the rest with the mask applied.

    `inputs` below are a dict: projected, noise, mask if any, of one step, and "fixed", the noise that all steps share.
    """

    recall: Callable  # (states, inputs) -> states; of one step or of all
    recur: Callable  # (states, weights) -> list of tensors
    advance: Callable  # (inputs, recurrent, carry, weights) -> carry


def split_noise(noise):
    """Split what `draw_noise` gave: the list that changes with time, the list that does not, and what joins them."""
    parts = keras.tree.flatten(noise)
    timed = [part is not None and part.shape[0] != 1 for part in parts]

    def join(changing, fixed):
        changing, fixed = iter(changing), iter(fixed)
        return keras.tree.pack_sequence_as(noise, [next(changing) if one else next(fixed) for one in timed])

    return (
        [part for part, one in zip(parts, timed, strict=True) if one],
        [part for part, one in zip(parts, timed, strict=True) if not one],
        join,
    )


def _where(keep, new, old):
    """Choose rows: `keep` is (batch,), the others (batch, ...)."""
    return ops.where(ops.reshape(keep, (-1, *[1] * (len(new.shape) - 1))), new, old)


def _python_loop(step, inputs, fixed, carry, recur_weights, advance_weights, return_sequences):
    """One Python iteration for each time step; the backend differentiates it as it stands."""
    outputs = []
    for t in range(inputs["projected"].shape[0]):
        now = {**step_of(inputs, t), "fixed": fixed}
        recurrent = step.recur(step.recall(carry[:-1], now), recur_weights)
        carry = step.advance(now, recurrent, carry, advance_weights)
        outputs.append(carry[-1])
    return carry, ops.stack(outputs) if return_sequences else None


def add_lists(ones, others):
    """Return the sums of two lists, place by place."""
    return [one + other for one, other in zip(ones, others, strict=True)]


def recur_gradients(recur, states, recur_weights, gradients, vjp):
    """Gradient of the weights that `recur` reads: all time steps, (time, batch, ...), as one batch."""
    states, gradients = [[ops.reshape(x, (-1, *x.shape[2:])) for x in several] for several in (states, gradients)]
    return vjp(lambda *weights: recur(states, list(weights)), recur_weights, gradients)
