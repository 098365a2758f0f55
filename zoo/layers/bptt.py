"""Back-propagation through time for a split cell, in the loops of each backend.

The custom gradient replays the steps backward through the vector-Jacobian product of one step, which the backend
takes, collects the gradient of each step's projected input and recurrent part, and forms the weights' gradients after
the loop.
"""

import keras
from keras import ops

from zoo.layers.cell import as_tensors


def run_steps(
    cell, projected, states, *, mask, noise, zero_output_for_mask, return_sequences, unroll=False, training=True
):
    """Run `cell` over time-major projected inputs.

    Args:
        cell: a built `Cell`.
        projected: (time, batch, ...), from `cell.project`.
        states: list of initial states, each (batch, ...).
        mask: bool (time, batch) or None.
        noise: (time, batch, ...) or None.
        zero_output_for_mask: bool, zeros at masked steps instead of the previous output.
        return_sequences: bool, whether the outputs of all steps are wanted.
        unroll: bool, a Python loop in place of the backend's.
        training: bool; at inference the loop keeps nothing for a backward pass (its gradient is still right).

    Returns:
        The last output, all outputs (time, batch, ...) or None, the list of final states.
    """

    def recur(states, weights):
        recurrent = cell.recur(states, weights)
        return [] if recurrent is None else [recurrent]

    def advance(inputs, recurrent, carry, weights):
        states, previous = carry[:-1], carry[-1]
        recurrent = recurrent[0] if recurrent else None
        output, new_states = cell.advance(inputs["projected"], recurrent, states, weights, inputs.get("noise"))
        if "mask" in inputs:
            keep = inputs["mask"]
            output = _where(keep, output, ops.zeros_like(previous) if zero_output_for_mask else previous)
            new_states = [_where(keep, new, old) for new, old in zip(new_states, states, strict=True)]
        return [*new_states, output]

    inputs = {"projected": projected}
    if mask is not None:
        inputs["mask"] = mask
    if noise is not None:
        inputs["noise"] = noise
    carry = [*states, _zero_output(cell, projected, states)]
    arguments = (
        advance,
        recur,
        inputs,
        carry,
        as_tensors(cell.recur_weights),
        as_tensors(cell.advance_weights),
        return_sequences,
    )
    loop = None if unroll else _LOOPS.get((keras.backend.backend(), bool(training)))
    carry, outputs = (loop or _python_loop)(*arguments)
    return carry[-1], outputs, carry[:-1]


def _where(keep, new, old):
    """Choose rows: `keep` is (batch,), the others (batch, ...)."""
    return ops.where(ops.reshape(keep, (-1, *[1] * (len(new.shape) - 1))), new, old)


def _zero_output(cell, projected, states):
    size = cell.output_size
    size = size if isinstance(size, (tuple, list)) else (size,)
    return ops.zeros((ops.shape(projected)[1], *size), dtype=states[0].dtype)


def _python_loop(advance, recur, inputs, carry, recur_weights, advance_weights, return_sequences):
    """One Python iteration for each time step; the backend differentiates it as it stands."""
    outputs = []
    for t in range(inputs["projected"].shape[0]):
        now = {name: value[t] for name, value in inputs.items()}
        carry = advance(now, recur(carry[:-1], recur_weights), carry, advance_weights)
        outputs.append(carry[-1])
    return carry, ops.stack(outputs) if return_sequences else None


def _sum(ones, others):
    return [one + other for one, other in zip(ones, others, strict=True)]


def _recur_gradients(recur, states, recur_weights, gradients, vjp):
    """Gradient of the weights that `recur` reads: all time steps, (time, batch, ...), as one batch."""
    states, gradients = [[ops.reshape(x, (-1, *x.shape[2:])) for x in several] for several in (states, gradients)]
    return vjp(lambda *weights: recur(states, list(weights)), recur_weights, gradients)


# ---------------------------------------------------------------------------------------------------------- TensorFlow


def _tensorflow_plain(advance, recur, inputs, carry, recur_weights, advance_weights, return_sequences):
    import tensorflow as tf

    steps = tf.shape(inputs["projected"])[0]
    outputs = _arrays(carry[-1:] if return_sequences else [], steps)

    def body(t, carry, outputs):
        now = {name: tf.gather(value, t) for name, value in inputs.items()}
        carry = advance(now, recur(carry[:-1], recur_weights), carry, advance_weights)
        return t + 1, carry, _write(outputs, t, carry[-1:])

    _, carry, outputs = _while(body, steps, inputs["projected"], (tf.constant(0), carry, outputs))
    return carry, _stack(outputs, inputs["projected"])[0] if return_sequences else None


def _tensorflow_trained(advance, recur, inputs, carry, recur_weights, advance_weights, return_sequences):
    import tensorflow as tf

    others = {name: value for name, value in inputs.items() if name != "projected"}
    widths = len(carry), len(recur_weights), len(advance_weights)

    @tf.custom_gradient
    def loop(projected, *tensors):
        carry, recur_weights, advance_weights = _split(tensors, widths)
        initial, steps = carry[:-1], tf.shape(projected)[0]

        def at(t):
            return {name: tf.gather(value, t) for name, value in {"projected": projected, **others}.items()}

        def forward(t, carry, before, recurrents, outputs):
            recurrent = recur(carry[:-1], recur_weights)
            before, recurrents = _write(before, t, carry[:-1]), _write(recurrents, t, recurrent)
            carry = advance(at(t), recurrent, carry, advance_weights)
            return t + 1, carry, before, recurrents, _write(outputs, t, carry[-1:])

        start = (
            tf.constant(0),
            carry,
            _arrays(initial, steps),
            _arrays(recur(initial, recur_weights), steps),
            _arrays(carry[-1:] if return_sequences else [], steps),
        )
        _, final, *kept = _while(forward, steps, projected, start)
        before, recurrents, outputs = [_stack(arrays, projected) for arrays in kept]

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
                d_now, d_recurrent, d_carry, d_step_weights = _tf_vjp(
                    lambda p, r, c, w: advance({**now, "projected": p}, r, c, w), sources, d_carry
                )
                d_states = _tf_vjp(lambda *s: recur(list(s), recur_weights), states, d_recurrent)
                d_carry = [*_sum(d_carry[:-1], d_states), d_carry[-1]]
                d_projected, d_recurrents = _write(d_projected, t, [d_now]), _write(d_recurrents, t, d_recurrent)
                return k + 1, d_carry, d_projected, d_recurrents, _sum(d_weights, d_step_weights)

            start = (
                tf.constant(0),
                d_carry,
                _arrays([projected[0]], steps),
                _arrays([r[0] for r in recurrents], steps),
                [tf.zeros_like(w) for w in advance_weights],
            )
            _, d_carry, d_projected, d_recurrents, d_weights = _while(backward, steps, projected, start)
            d_recurrents = _stack(d_recurrents, projected)
            d_recur_weights = _recur_gradients(recur, before, recur_weights, d_recurrents, _tf_vjp)
            return (*_stack(d_projected, projected), *d_carry, *d_recur_weights, *d_weights)

        return (*final, *outputs), gradient

    results = loop(inputs["projected"], *carry, *recur_weights, *advance_weights)
    return list(results[: len(carry)]), results[len(carry)] if return_sequences else None


def _arrays(likes, steps):
    import tensorflow as tf

    return [tf.TensorArray(like.dtype, size=steps, element_shape=like.shape) for like in likes]


def _stack(arrays, timed):
    """Stack arrays of one element for each time step of `timed`, whose number of steps may be known."""
    stacked = [array.stack() for array in arrays]
    for tensor in stacked:
        tensor.set_shape([timed.shape[0], *tensor.shape[1:]])
    return stacked


def _write(arrays, t, values):
    return [array.write(t, value) for array, value in zip(arrays, values, strict=False)]  # no arrays, nothing kept


def _while(body, steps, timed, start):
    import tensorflow as tf

    return tf.while_loop(
        lambda t, *_: t < steps,
        body,
        start,
        maximum_iterations=timed.shape[0],  # XLA needs the bound
    )


def _tf_vjp(function, sources, d_results):
    """Return the gradient of <function(*sources), d_results>, structured as `sources`, zeros where unconnected."""
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(sources)
        results = function(*sources)
    return tape.gradient(results, sources, d_results, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def _split(tensors, widths):
    parts, start = [], 0
    for width in widths:
        parts.append(list(tensors[start : start + width]))
        start += width
    return parts


# ----------------------------------------------------------------------------------------------------------------- JAX


def _jax_plain(advance, recur, inputs, carry, recur_weights, advance_weights, return_sequences):
    import jax

    def step(carry, now):
        carry = advance(now, recur(carry[:-1], recur_weights), carry, advance_weights)
        return carry, carry[-1] if return_sequences else None

    return jax.lax.scan(step, carry, inputs)


def _jax_trained(advance, recur, inputs, carry, recur_weights, advance_weights, return_sequences):
    import jax

    others = {name: value for name, value in inputs.items() if name != "projected"}

    @jax.custom_vjp
    def loop(projected, carry, recur_weights, advance_weights, others):
        return forward(projected, carry, recur_weights, advance_weights, others)[0]

    def forward(projected, carry, recur_weights, advance_weights, others):
        def step(carry, now):
            recurrent = recur(carry[:-1], recur_weights)
            new = advance(now, recurrent, carry, advance_weights)
            return new, (carry[:-1], recurrent, new[-1] if return_sequences else None)

        final, (before, recurrents, outputs) = jax.lax.scan(step, carry, {"projected": projected, **others})
        return (final, outputs), (projected, before, recurrents, recur_weights, advance_weights, others)

    def gradient(kept, d_results):
        projected, before, recurrents, recur_weights, advance_weights, others = kept
        d_final, d_outputs = d_results

        def step(carry, now):
            d_carry, d_weights = carry
            projected, states, recurrent, d_output, others = now
            if return_sequences:
                d_carry = [*d_carry[:-1], d_carry[-1] + d_output]
            previous = ops.zeros_like(d_carry[-1])  # only chosen or not: its value has no part in any derivative
            _, vjp = jax.vjp(
                lambda p, r, c, w: advance({"projected": p, **others}, r, c, w),
                projected,
                recurrent,
                [*states, previous],
                advance_weights,
            )
            d_projected, d_recurrent, d_carry, d_step_weights = vjp(d_carry)
            (d_states,) = jax.vjp(lambda s: recur(s, recur_weights), states)[1](d_recurrent)
            d_carry = [*_sum(d_carry[:-1], d_states), d_carry[-1]]
            return (d_carry, _sum(d_weights, d_step_weights)), (d_projected, d_recurrent)

        start = (d_final, [ops.zeros_like(w) for w in advance_weights])
        timed = (projected, before, recurrents, d_outputs, others)
        (d_carry, d_weights), (d_projected, d_recurrents) = jax.lax.scan(step, start, timed, reverse=True)
        d_recur_weights = _recur_gradients(recur, before, recur_weights, d_recurrents, _jax_vjp)
        return d_projected, d_carry, d_recur_weights, d_weights, None

    loop.defvjp(forward, gradient)
    return loop(inputs["projected"], carry, recur_weights, advance_weights, others)


def _jax_vjp(function, sources, d_results):
    import jax

    return list(jax.vjp(function, *sources)[1](d_results))


_LOOPS = {
    ("tensorflow", False): _tensorflow_plain,
    ("tensorflow", True): _tensorflow_trained,
    ("jax", False): _jax_plain,
    ("jax", True): _jax_trained,
}
