"""Gradients of one step on TensorFlow, where the batch size is open."""

import functools

import tensorflow as tf


def vjp(function, sources, d_results):
    """Return the gradient of <function(*sources), d_results>, structured as `sources`, zeros where unconnected.

    Where two operands of an op in `function` both have an open first size, it must be the same: the rows of a batch.
    """
    zeros = tf.UnconnectedGradients.ZERO
    if tf.executing_eagerly():
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            results = function(*sources)
        return tape.gradient(results, sources, d_results, unconnected_gradients=zeros)
    sources = tf.nest.map_structure(tf.identity, sources)
    with tf.compat.v1.get_default_graph().gradient_override_map(_register()):
        results = function(*sources)
    flat = [tf.nest.flatten(several) for several in (results, sources, d_results)]
    return tf.nest.pack_sequence_as(sources, tf.gradients(*flat, unconnected_gradients=zeros))


@functools.cache
def _register():
    """Register the gradients of element-wise ops; return the names of these gradients by the names of the ops.

    Where the batch size is open, TensorFlow cannot see that two operands have one shape: its own gradient of each of
    these ops compares their shapes and sums over what was broadcast, in every step, a good part of a small step's time.
    As the rows of all operands are the same batch, their other sizes tell.
    """

    def choice(op, d_result):
        condition, nothing = op.inputs[0], tf.zeros([], d_result.dtype)
        return None, tf.where(condition, d_result, nothing), tf.where(condition, nothing, d_result)

    rules = {
        "AddV2": lambda op, d_result: (d_result, d_result),
        "Mul": lambda op, d_result: (d_result * op.inputs[1], d_result * op.inputs[0]),
        "SelectV2": choice,
        "Sub": lambda op, d_result: (d_result, -d_result),
    }

    def register(name, rule):
        @tf.RegisterGradient(name)
        def gradient(op, d_result):
            return [d if d is None else _summed_to(x, d) for x, d in zip(op.inputs, rule(op, d_result), strict=True)]

        return name

    return {kind: register(f"Zoo{kind}OfRows", rule) for kind, rule in rules.items()}


def _summed_to(operand, gradient):
    """Sum a gradient, in the shape of the op's result, over the axes along which the operand was broadcast."""
    shape, whole = operand.shape.as_list(), gradient.shape.as_list()
    lead = len(whole) - len(shape)
    sizes = list(zip(shape, whole[lead:], strict=True))
    if None in whole[1:] or (lead and None in shape) or not all(a == b or (a == 1 and b) for a, b in sizes):
        axes, _ = tf.raw_ops.BroadcastGradientArgs(s0=tf.shape(operand), s1=tf.shape(gradient))
        return tf.reshape(tf.reduce_sum(gradient, axes), tf.shape(operand))
    if lead:
        gradient = tf.reduce_sum(gradient, list(range(lead)))
    axes = [axis for axis, (a, b) in enumerate(sizes) if a != b]
    return tf.reduce_sum(gradient, axes, keepdims=True) if axes else gradient
