"""Derivatives of functions of lists of tensors, on each backend."""

import keras


def value_and_gradients(function, arguments):
    """Return (value, more, gradients) of `function(arguments) -> (scalar, more)`, one gradient for each argument."""
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                tape.watch(arguments)
                value, more = function(arguments)
            return value, more, tape.gradient(value, arguments, unconnected_gradients="zero")
        case "jax":
            import jax

            (value, more), gradients = jax.value_and_grad(function, has_aux=True)(arguments)
            return value, more, gradients
        case _:
            import torch

            with torch.no_grad():  # no graph beyond these derivatives, as it would grow from step to step
                gradients, (value, more) = torch.func.grad_and_value(function, has_aux=True)(arguments)
            return value, more, gradients


def jacobians(function, arguments):
    """Return (more, jacobians) of `function(arguments) -> (tensor, more)`, each tensor.shape + argument.shape."""
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                tape.watch(arguments)
                value, more = function(arguments)
            return more, tape.jacobian(value, arguments, unconnected_gradients="zero")
        case "jax":
            import jax

            found, more = jax.jacrev(function, has_aux=True)(arguments)
            return more, found
        case _:
            import torch

            with torch.no_grad():
                found, more = torch.func.jacrev(function, has_aux=True)(arguments)
            return more, found


def compiled(function):
    """Return a function of tensors without side effects, compiled where the backend does."""
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            return tf.function(function, autograph=False)
        case "jax":
            import jax

            return jax.jit(function)
        case _:
            return function


def compiled_update(optimizer, variables):
    """Return what applies a list of gradients to variables, by an optimizer that this builds for them."""
    optimizer.build(variables)
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            return tf.function(optimizer.apply, autograph=False)
        case "jax":
            import jax

            run, everything = jax.jit(optimizer.stateless_apply), [variables, optimizer.variables]

            def update(gradients):
                weights, state = ([variable.value for variable in each] for each in everything)
                for each, values in zip(everything, run(state, gradients, weights), strict=True):
                    for variable, value in zip(each, values, strict=True):
                        variable.assign(value)

            return update
        case _:
            return optimizer.apply
