"""The gradient of a scalar function of a layer's output with respect to its input and weights, on any backend."""

import keras
import numpy as np


def gradients(layer, x, cotangent, **call):
    """Gradient of sum(cotangent * layer(x, training=True)): of x, then of each trainable variable, as NumPy arrays."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        @tf.function
        def run(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(tf.cast(layer(x, training=True, **call), cotangent.dtype) * cotangent)
            return tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)])

        return [g.numpy() for g in run(tf.constant(x))]
    if backend == "jax":
        import jax

        def loss(x, weights):  # a call, as `stateless_call` would leave out the casts of mixed precision
            with keras.StatelessScope(state_mapping=list(zip(layer.trainable_variables, weights, strict=True))):
                return (layer(x, training=True, **call) * cotangent).sum()

        dx, dw = jax.jit(jax.grad(loss, argnums=(0, 1)))(x, [v.value for v in layer.trainable_variables])
        return [np.asarray(g) for g in (dx, *dw)]
    import torch

    x = torch.tensor(x, requires_grad=True)
    variables = [v.value for v in layer.trainable_variables]
    loss = (layer(x, training=True, **call) * torch.tensor(cotangent)).sum()
    return [g.numpy() for g in torch.autograd.grad(loss, [x, *variables])]


def finite_differences(function, arrays, step=1e-6):
    """Central differences of a scalar function of float64 arrays, entry by entry."""
    results = []
    for array in arrays:
        gradient = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            kept = array[index]
            array[index] = kept + step
            above = function()
            array[index] = kept - step
            below = function()
            array[index] = kept
            gradient[index] = (above - below) / (2 * step)
        results.append(gradient)
    return results
