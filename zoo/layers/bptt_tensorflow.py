"""Back-propagation through time in the loops of TensorFlow."""

import tensorflow as tf

from zoo.layers.bptt import add_lists, recur_gradients
from zoo.layers.row_gradients import vjp


def run_plain(step, inputs, fixed, carry, recur_weights, advance_weights, return_sequences):
    """Run a `bptt.Step` over time, keep nothing for a backward pass; return the last carry, and all outputs or None."""
    steps = tf.shape(inputs["projected"])[0]
    outputs = time_arrays(carry[-1:] if return_sequences else [], steps)

    def body(t, carry, outputs):
        now = _at(inputs, fixed, t)
        recurrent = step.recur(step.recall(carry[:-1], now), recur_weights)
        carry = step.advance(now, recurrent, carry, advance_weights)
        return t + 1, carry, write_arrays(outputs, t, carry[-1:])

    _, carry, outputs = while_steps(body, steps, inputs["projected"], (tf.constant(0), carry, outputs))
    return carry, stack_arrays(outputs, inputs["projected"])[0] if return_sequences else None


def run_trained(step, inputs, fixed, carry, recur_weights, advance_weights, return_sequences):
    """Do as `run_plain`, with a gradient that replays the steps backward; see `zoo.layers.bptt`."""
    others = {name: value for name, value in inputs.items() if name != "projected"}
    widths = len(carry), len(recur_weights), len(advance_weights)

    @tf.custom_gradient
    def loop(projected, *tensors):
        carry, recur_weights, advance_weights = split_tensors(tensors, widths)
        initial, steps = carry[:-1], tf.shape(projected)[0]

        def at(t):
            return _at({"projected": projected, **others}, fixed, t)

        def forward(t, carry, before, recurrents, outputs):
            now = at(t)
            recurrent = step.recur(step.recall(carry[:-1], now), recur_weights)
            before, recurrents = write_arrays(before, t, carry[:-1]), write_arrays(recurrents, t, recurrent)
            carry = step.advance(now, recurrent, carry, advance_weights)
            return t + 1, carry, before, recurrents, write_arrays(outputs, t, carry[-1:])

        likes = step.recur(initial, recur_weights)
        start = (
            tf.constant(0),
            carry,
            time_arrays(initial, steps),
            time_arrays(likes, steps),
            time_arrays(carry[-1:] if return_sequences else [], steps),
        )
        _, final, before, recurrents, outputs = while_steps(forward, steps, projected, start)
        only_added = False

        def gradient(*d_results):
            d_carry, d_outputs = list(d_results[: len(carry)]), d_results[len(carry) :]

            def backward(k, d_carry, d_projected, d_recurrents, d_weights):
                t = steps - 1 - k
                if return_sequences:
                    d_carry = [*d_carry[:-1], d_carry[-1] + tf.gather(d_outputs[0], t)]
                now, states = at(t), [array.read(t) for array in before]
                previous = tf.zeros_like(d_carry[-1])  # only chosen or not: its value has no part in any derivative
                sources = [
                    now["projected"],
                    [array.read(t) for array in recurrents],
                    [*states, previous],
                    advance_weights,
                ]
                d_now, d_recurrent, d_carry, d_step_weights = vjp(
                    lambda p, r, c, w: step.advance({**now, "projected": p}, r, c, w), sources, d_carry
                )
                d_states = vjp(lambda *s: step.recur(step.recall(list(s), now), recur_weights), states, d_recurrent)
                d_carry = [*add_lists(d_carry[:-1], d_states), d_carry[-1]]
                nonlocal only_added  # to the projection: one array does for both
                only_added = len(d_recurrent) == 1 and d_recurrent[0] is d_now
                d_projected = write_arrays(d_projected, t, [d_now])
                d_recurrents = d_recurrents if only_added else write_arrays(d_recurrents, t, d_recurrent)
                return k + 1, d_carry, d_projected, d_recurrents, add_lists(d_weights, d_step_weights)

            start = (
                tf.constant(0),
                d_carry,
                time_arrays([projected[0]], steps),
                time_arrays(likes, steps),
                [tf.zeros_like(w) for w in advance_weights],
            )
            _, d_carry, d_projected, d_recurrents, d_weights = while_steps(backward, steps, projected, start)
            d_projected = stack_arrays(d_projected, projected)
            d_recurrents = d_projected if only_added else stack_arrays(d_recurrents, projected)
            recalled = step.recall(stack_arrays(before, projected), {**others, "fixed": fixed})
            d_recur_weights = recur_gradients(step.recur, recalled, recur_weights, d_recurrents, vjp)
            return (*d_projected, *d_carry, *d_recur_weights, *d_weights)

        return (*final, *stack_arrays(outputs, projected)), gradient

    results = loop(inputs["projected"], *carry, *recur_weights, *advance_weights)
    return list(results[: len(carry)]), results[len(carry)] if return_sequences else None


def _at(inputs, fixed, t):
    return {**tf.nest.map_structure(lambda value: tf.gather(value, t), inputs), "fixed": fixed}


def time_arrays(likes, steps):
    """Return one empty array over time for each tensor in `likes`."""
    return [tf.TensorArray(like.dtype, size=steps, element_shape=like.shape, clear_after_read=False) for like in likes]


def stack_arrays(arrays, timed):
    """Stack arrays of one element for each time step of `timed`, whose number of steps may be known."""
    stacked = [array.stack() for array in arrays]
    for tensor in stacked:
        tensor.set_shape([timed.shape[0], *tensor.shape[1:]])
    return stacked


def write_arrays(arrays, t, values):
    """Write one value into each array at step t; where there are no arrays, nothing is kept."""
    return [array.write(t, value) for array, value in zip(arrays, values, strict=False)]


def while_steps(body, steps, timed, start):
    """Run `body` for t = 0, 1, ... over the steps of `timed`."""
    return tf.while_loop(
        lambda t, *_: t < steps,
        body,
        start,
        maximum_iterations=timed.shape[0],  # XLA needs the bound
    )


def split_tensors(tensors, widths):
    """Cut a flat list into lists of the given widths."""
    parts, start = [], 0
    for width in widths:
        parts.append(list(tensors[start : start + width]))
        start += width
    return parts
