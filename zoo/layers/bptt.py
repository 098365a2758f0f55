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
    loop = None if unroll else _LOOPS.get((keras.backend.backend(), bool(training)))
    return (loop or _python_loop)(
        Step(recall, recur, advance),
        inputs,
        step_of(fixed_noise),
        carry,
        as_tensors(cell.recur_weights),
        as_tensors(cell.advance_weights),
        return_sequences,
    )


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


def _recur_gradients(recur, states, recur_weights, gradients, vjp):
    """Gradient of the weights that `recur` reads: all time steps, (time, batch, ...), as one batch."""
    states, gradients = [[ops.reshape(x, (-1, *x.shape[2:])) for x in several] for several in (states, gradients)]
    return vjp(lambda *weights: recur(states, list(weights)), recur_weights, gradients)


# ---------------------------------------------------------------------------------------------------------- TensorFlow


def _tensorflow_plain(step, inputs, fixed, carry, recur_weights, advance_weights, return_sequences):
    import tensorflow as tf

    steps = tf.shape(inputs["projected"])[0]
    outputs = time_arrays(carry[-1:] if return_sequences else [], steps)

    def body(t, carry, outputs):
        now = _at(inputs, fixed, t)
        recurrent = step.recur(step.recall(carry[:-1], now), recur_weights)
        carry = step.advance(now, recurrent, carry, advance_weights)
        return t + 1, carry, write_arrays(outputs, t, carry[-1:])

    _, carry, outputs = while_steps(body, steps, inputs["projected"], (tf.constant(0), carry, outputs))
    return carry, stack_arrays(outputs, inputs["projected"])[0] if return_sequences else None


def _tensorflow_trained(step, inputs, fixed, carry, recur_weights, advance_weights, return_sequences):
    import tensorflow as tf

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

        start = (
            tf.constant(0),
            carry,
            time_arrays(initial, steps),
            time_arrays(step.recur(initial, recur_weights), steps),
            time_arrays(carry[-1:] if return_sequences else [], steps),
        )
        _, final, *kept = while_steps(forward, steps, projected, start)
        before, recurrents, outputs = [stack_arrays(arrays, projected) for arrays in kept]

        def gradient(*d_results):
            d_carry, d_outputs = list(d_results[: len(carry)]), d_results[len(carry) :]

            def backward(k, d_carry, d_projected, d_recurrents, d_weights):
                t = steps - 1 - k
                if return_sequences:
                    d_carry = [*d_carry[:-1], d_carry[-1] + tf.gather(d_outputs[0], t)]
                now, states = at(t), [tf.gather(state, t) for state in before]
                previous = tf.zeros_like(d_carry[-1])  # only chosen or not: its value has no part in any derivative
                sources = [
                    now["projected"],
                    [tf.gather(r, t) for r in recurrents],
                    [*states, previous],
                    advance_weights,
                ]
                d_now, d_recurrent, d_carry, d_step_weights = tf_vjp(
                    lambda p, r, c, w: step.advance({**now, "projected": p}, r, c, w), sources, d_carry
                )
                d_states = tf_vjp(lambda *s: step.recur(step.recall(list(s), now), recur_weights), states, d_recurrent)
                d_carry = [*add_lists(d_carry[:-1], d_states), d_carry[-1]]
                d_projected, d_recurrents = (
                    write_arrays(d_projected, t, [d_now]),
                    write_arrays(d_recurrents, t, d_recurrent),
                )
                return k + 1, d_carry, d_projected, d_recurrents, add_lists(d_weights, d_step_weights)

            start = (
                tf.constant(0),
                d_carry,
                time_arrays([projected[0]], steps),
                time_arrays([r[0] for r in recurrents], steps),
                [tf.zeros_like(w) for w in advance_weights],
            )
            _, d_carry, d_projected, d_recurrents, d_weights = while_steps(backward, steps, projected, start)
            d_recurrents = stack_arrays(d_recurrents, projected)
            recalled = step.recall(before, {**others, "fixed": fixed})
            d_recur_weights = _recur_gradients(step.recur, recalled, recur_weights, d_recurrents, tf_vjp)
            return (*stack_arrays(d_projected, projected), *d_carry, *d_recur_weights, *d_weights)

        return (*final, *outputs), gradient

    results = loop(inputs["projected"], *carry, *recur_weights, *advance_weights)
    return list(results[: len(carry)]), results[len(carry)] if return_sequences else None


def _at(inputs, fixed, t):
    import tensorflow as tf

    return {**tf.nest.map_structure(lambda value: tf.gather(value, t), inputs), "fixed": fixed}


def time_arrays(likes, steps):
    """Return one empty array over time for each tensor in `likes`."""
    import tensorflow as tf

    return [tf.TensorArray(like.dtype, size=steps, element_shape=like.shape) for like in likes]


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
    import tensorflow as tf

    return tf.while_loop(
        lambda t, *_: t < steps,
        body,
        start,
        maximum_iterations=timed.shape[0],  # XLA needs the bound
    )


def tf_vjp(function, sources, d_results):
    """Return the gradient of <function(*sources), d_results>, structured as `sources`, zeros where unconnected."""
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(sources)
        results = function(*sources)
    return tape.gradient(results, sources, d_results, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def split_tensors(tensors, widths):
    """Cut a flat list into lists of the given widths."""
    parts, start = [], 0
    for width in widths:
        parts.append(list(tensors[start : start + width]))
        start += width
    return parts


# ----------------------------------------------------------------------------------------------------------------- JAX


def _jax_plain(step, inputs, fixed, carry, recur_weights, advance_weights, return_sequences):
    import jax

    def forward(carry, now):
        now = {**now, "fixed": fixed}
        recurrent = step.recur(step.recall(carry[:-1], now), recur_weights)
        carry = step.advance(now, recurrent, carry, advance_weights)
        return carry, carry[-1] if return_sequences else None

    return jax.lax.scan(forward, carry, inputs)


def _jax_trained(step, inputs, fixed, carry, recur_weights, advance_weights, return_sequences):
    import jax

    others = {name: value for name, value in inputs.items() if name != "projected"}

    @jax.custom_vjp
    def loop(projected, carry, recur_weights, advance_weights, others, fixed):
        return keep(projected, carry, recur_weights, advance_weights, others, fixed)[0]

    def keep(projected, carry, recur_weights, advance_weights, others, fixed):
        def forward(carry, now):
            now = {**now, "fixed": fixed}
            recurrent = step.recur(step.recall(carry[:-1], now), recur_weights)
            new = step.advance(now, recurrent, carry, advance_weights)
            return new, (carry[:-1], recurrent, new[-1] if return_sequences else None)

        final, (before, recurrents, outputs) = jax.lax.scan(forward, carry, {"projected": projected, **others})
        return (final, outputs), (projected, before, recurrents, recur_weights, advance_weights, others, fixed)

    def gradient(kept, d_results):
        projected, before, recurrents, recur_weights, advance_weights, others, fixed = kept
        d_final, d_outputs = d_results
        only_added = False

        def backward(carry, now):
            d_carry, d_weights = carry
            projected, states, recurrent, d_output, others = now
            now = {**others, "fixed": fixed}
            if return_sequences:
                d_carry = [*d_carry[:-1], d_carry[-1] + d_output]
            previous = ops.zeros_like(d_carry[-1])  # only chosen or not: its value has no part in any derivative
            _, vjp = jax.vjp(
                lambda p, r, c, w: step.advance({"projected": p, **now}, r, c, w),
                projected,
                recurrent,
                [*states, previous],
                advance_weights,
            )
            d_projected, d_recurrent, d_carry, d_step_weights = vjp(d_carry)
            _, vjp = jax.vjp(lambda s: step.recur(step.recall(s, now), recur_weights), states)
            (d_states,) = vjp(d_recurrent)
            d_carry = [*add_lists(d_carry[:-1], d_states), d_carry[-1]]
            nonlocal only_added  # to the projection: XLA would compute the one gradient twice, to store it twice
            only_added = len(d_recurrent) == 1 and d_recurrent[0] is d_projected
            d_parts = d_projected, None if only_added else d_recurrent
            return (d_carry, add_lists(d_weights, d_step_weights)), d_parts

        start = (d_final, [ops.zeros_like(w) for w in advance_weights])
        timed = (projected, before, recurrents, d_outputs, others)
        (d_carry, d_weights), (d_projected, d_recurrents) = jax.lax.scan(backward, start, timed, reverse=True)
        recalled = step.recall(before, {**others, "fixed": fixed})
        d_recurrents = [d_projected] if only_added else d_recurrents
        d_recur_weights = _recur_gradients(step.recur, recalled, recur_weights, d_recurrents, _jax_vjp)
        return d_projected, d_carry, d_recur_weights, d_weights, None, None

    loop.defvjp(keep, gradient)
    return loop(inputs["projected"], carry, recur_weights, advance_weights, others, fixed)


def _jax_vjp(function, sources, d_results):
    import jax

    return list(jax.vjp(function, *sources)[1](d_results))


_LOOPS = {
    ("tensorflow", False): _tensorflow_plain,
    ("tensorflow", True): _tensorflow_trained,
    ("jax", False): _jax_plain,
    ("jax", True): _jax_trained,
}
