"""Back-propagation through time that keeps states every few steps and computes the others again.

The sequence is run in segments. Forward, only what enters a segment is kept; backward, the last segment first, each is
run again with all that its gradient needs.
"""

import keras
from keras import ops


def run_segments(run, inputs, mask, noise, carry, weights, *, every, return_sequences):
    """Run a sequence in segments of `every` steps, with memory for one segment and for what enters each.

    Args:
        run: function (inputs, mask, noise, carry, weights, training) -> (carry, outputs), over time-major inputs; the
            outputs are (time, batch, ...) or None.
        inputs: (time, batch, ...).
        mask: bool (time, batch) or None.
        noise: list of tensors (time, batch, ...).
        carry: list of tensors.
        weights: list of the tensors that `run` depends on.
        every: int, steps of a segment.
        return_sequences: bool, whether `run` returns outputs.

    Returns:
        What `run` returns for the whole sequence.
    """
    steps = ops.shape(inputs)[0]
    padding = -steps % every
    if not isinstance(padding, int) or padding > 0:  # masked steps before the first, which leave the carry as it is
        mask = ops.ones(ops.shape(inputs)[:2], "bool") if mask is None else mask
        inputs, mask, *noise = [_pad(x, padding) for x in (inputs, mask, *noise)]
    others = [*([] if mask is None else [mask]), *noise]
    count = (steps + padding) // every
    inputs, *others = [ops.reshape(x, (count, every, ops.shape(x)[1], *x.shape[2:])) for x in (inputs, *others)]

    def run_segment(inputs, others, carry, weights, training=True):
        now = None if mask is None else others[0]
        return run(inputs, now, others[len(others) - len(noise) :], carry, weights, training)

    carry, outputs = _LOOPS[keras.backend.backend()](run_segment, inputs, others, carry, weights, return_sequences)
    if return_sequences:
        outputs = ops.reshape(outputs, (count * every, ops.shape(outputs)[2], *outputs.shape[3:]))[padding:]
    return carry, outputs


def _pad(x, padding):
    return ops.concatenate([ops.zeros((padding, *ops.shape(x)[1:]), x.dtype), x])


def _tensorflow(run, inputs, others, carry, weights, return_sequences):
    import tensorflow as tf

    from zoo.layers.bptt import add_lists
    from zoo.layers.bptt_tensorflow import split_tensors, stack_arrays, time_arrays, while_steps, write_arrays
    from zoo.layers.row_gradients import vjp

    widths = len(carry), len(weights)

    @tf.custom_gradient
    def loop(inputs, *tensors):
        carry, weights = split_tensors(tensors, widths)
        count = tf.shape(inputs)[0]

        def at(s):
            return tf.gather(inputs, s), [tf.gather(other, s) for other in others]

        def forward(s, carry, before, outputs):
            before = write_arrays(before, s, carry)
            carry, segment = run(*at(s), carry, weights, training=False)
            return s + 1, carry, before, write_arrays(outputs, s, _some(segment))

        shown = [tf.TensorSpec((inputs.shape[1], *carry[-1].shape), carry[-1].dtype)] if return_sequences else []
        start = tf.constant(0), carry, time_arrays(carry, count), time_arrays(shown, count)
        _, final, *kept = while_steps(forward, count, inputs, start)
        before, outputs = [stack_arrays(arrays, inputs) for arrays in kept]

        def gradient(*d_results):
            d_carry, d_outputs = list(d_results[: len(carry)]), list(d_results[len(carry) :])

            def backward(k, d_carry, d_inputs, d_weights):
                s = count - 1 - k
                now, now_others = at(s)

                def again(inputs, carry, weights):
                    carry, segment = run(inputs, now_others, carry, weights)
                    return [*carry, *_some(segment)]

                sources = [now, [tf.gather(x, s) for x in before], weights]
                d_segment = [*d_carry, *(tf.gather(d, s) for d in d_outputs)]
                d_now, d_carry, d_segment_weights = vjp(again, sources, d_segment)
                return k + 1, d_carry, write_arrays(d_inputs, s, [d_now]), add_lists(d_weights, d_segment_weights)

            start = tf.constant(0), d_carry, time_arrays([inputs[0]], count), [tf.zeros_like(w) for w in weights]
            _, d_carry, d_inputs, d_weights = while_steps(backward, count, inputs, start)
            return (*stack_arrays(d_inputs, inputs), *d_carry, *d_weights)

        return (*final, *outputs), gradient

    results = loop(inputs, *carry, *weights)
    return list(results[: len(carry)]), results[len(carry)] if return_sequences else None


def _some(outputs):
    return [] if outputs is None else [outputs]


def _jax(run, inputs, others, carry, weights, return_sequences):
    import jax

    segment = jax.checkpoint(lambda carry, now, weights: run(*now, carry, weights))
    return jax.lax.scan(lambda carry, now: segment(carry, now, weights), carry, (inputs, others))


def _torch(run, inputs, others, carry, weights, return_sequences):
    from torch.utils.checkpoint import checkpoint

    outputs = []
    for s in range(inputs.shape[0]):
        carry, segment = checkpoint(run, inputs[s], [other[s] for other in others], carry, weights, use_reentrant=False)
        outputs.append(segment)
    return carry, ops.stack(outputs) if return_sequences else None


_LOOPS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
