"""Back-propagation through time in the loops of JAX."""

import jax
from keras import ops

from zoo.layers.bptt import add_lists, recur_gradients


def run_plain(step, inputs, fixed, carry, recur_weights, advance_weights, return_sequences):
    """Run a `bptt.Step` over time, keep nothing for a backward pass; return the last carry, and all outputs or None."""

    def forward(carry, now):
        now = {**now, "fixed": fixed}
        recurrent = step.recur(step.recall(carry[:-1], now), recur_weights)
        carry = step.advance(now, recurrent, carry, advance_weights)
        return carry, carry[-1] if return_sequences else None

    return jax.lax.scan(forward, carry, inputs)


def run_trained(step, inputs, fixed, carry, recur_weights, advance_weights, return_sequences):
    """Do as `run_plain`, with a gradient that replays the steps backward; see `zoo.layers.bptt`."""
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
        d_recur_weights = recur_gradients(step.recur, recalled, recur_weights, d_recurrents, _vjp)
        return d_projected, d_carry, d_recur_weights, d_weights, None, None

    loop.defvjp(keep, gradient)
    return loop(inputs["projected"], carry, recur_weights, advance_weights, others, fixed)


def _vjp(function, sources, d_results):
    return list(jax.vjp(function, *sources)[1](d_results))
