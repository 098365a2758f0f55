"""Train with numbers rounded as an int8 file has them."""

import contextlib

import keras
from keras import ops

from zoo.errors import SettingError
from zoo.layers.cell_wrapper import CellWrapper

_CHANNELS = {  # axes of a kernel that have a scale for each of their places, as an int8 file has them
    keras.layers.Dense: (-1,),
    keras.layers.Conv1D: (-1,),
    keras.layers.Conv2D: (-1,),
    keras.layers.DepthwiseConv1D: (-2, -1),
    keras.layers.DepthwiseConv2D: (-2, -1),
    keras.layers.Embedding: (),
}
_IN_ONE = (keras.activations.linear, keras.activations.relu, keras.activations.relu6)  # one op with the product
_GRIDS = {"sigmoid": (1 / 256, -128), "tanh": (1 / 128, 0)}  # (scale, zero) that int8 files give them, always


def fake_quantize(x, *, channels=None):
    """Return `x` rounded as int8 has it; the gradient passes as if nothing had happened.

        activations   scale = (max(x, 0) - min(x, 0)) / 255       zero = round(-128 - min(x, 0) / scale)
                      y = scale (clip(round(x / scale) + zero, -128, 127) - zero)
        weights       scale = max |x| / 127                       y = scale round(x / scale)

    Args:
        x: tensor of floats; the ranges are its own.
        channels: for weights, the axes that have a scale for each of their places, () for a single scale; None for
            activations.

    Reference:
        B. Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only
        inference", CVPR 2018, https://arxiv.org/abs/1712.05877
    """
    value = ops.cast(ops.stop_gradient(x), "float32")
    if channels is None:
        least, greatest = ops.minimum(ops.min(value), 0.0), ops.maximum(ops.max(value), 0.0)
        scale = _or_one((greatest - least) / 255)
        rounded = _on_grid(value, scale, ops.round(-128 - least / scale))
    else:
        kept = {axis % len(x.shape) for axis in channels}
        largest = ops.max(ops.abs(value), axis=[a for a in range(len(x.shape)) if a not in kept], keepdims=True)
        scale = _or_one(largest / 127)
        rounded = scale * ops.round(value / scale)
    return x + ops.cast(rounded - value, x.dtype)


def _on_grid(value, scale, zero):
    return scale * (ops.clip(ops.round(value / scale) + zero, -128, 127) - zero)


@contextlib.contextmanager
def _rounded_gates():
    """Return a context in which `keras.ops.sigmoid` and `tanh` give what an int8 file makes of them.

    Cells call them in the middle of their `advance`, where no wrapper comes in between.
    """
    plain = {name: getattr(ops, name) for name in _GRIDS}

    def rounding(name):
        def gate(x):
            y = plain[name](x)
            if len(x.shape) < 2:  # of weights alone, which files compute beforehand
                return y
            value = ops.cast(ops.stop_gradient(y), "float32")
            return y + ops.cast(_on_grid(value, *_GRIDS[name]) - value, y.dtype)

        return gate

    for name in _GRIDS:
        setattr(ops, name, rounding(name))
    try:
        yield
    finally:
        for name, function in plain.items():
            setattr(ops, name, function)


def _or_one(scale):
    return ops.where(scale > 0, scale, ops.ones_like(scale))


@keras.saving.register_keras_serializable("zoo")
class FakeQuantizedCell(CellWrapper):
    """A cell whose weights, inputs, gates, and states where they meet a kernel, are rounded to int8.

        project'(x) = q(project(q(x)))        recur'(s) = q(recur(q(s)))        advance'(p, r, s) = advance(p, r, s)

    with q(kernel) for each kernel, sigmoid in steps of 1/256 and tanh in steps of 1/128. Trained so, a cell finds
    weights that lose little when it is exported in integers. Biases, and the states where they are local to a unit,
    stay as they are: files have more bits for them.

    Args:
        cell: `Cell`.

    Raises:
        SettingError: `cell` is no `Cell`.
    """

    def project(self, inputs, noise=None):
        with quantized_kernels(self.cell.project_weights):
            projected = super().project(fake_quantize(inputs), noise)
        return _each(projected)

    def recur(self, states, weights):
        kernels = [_kernel(v, w) for v, w in zip(self.cell.recur_weights, weights, strict=True)]
        return _each(self.cell.recur([fake_quantize(state) for state in states], kernels))

    def advance(self, projected, recurrent, states, weights, noise=None):
        kernels = [_kernel(v, w) for v, w in zip(self.cell.advance_weights, weights, strict=True)]
        with _rounded_gates():
            return super().advance(projected, recurrent, states, kernels, noise)


@keras.saving.register_keras_serializable("zoo")
class FakeQuantized(keras.layers.Wrapper):
    """A dense, convolutional or embedding layer whose kernel and output are rounded to int8.

    An activation other than ReLU is an op of its own in a file: what goes into it is rounded too.

    Args:
        layer: Dense, Conv1D, Conv2D, DepthwiseConv1D, DepthwiseConv2D or Embedding.

    Raises:
        SettingError: another layer.
    """

    def __init__(self, layer, **kwargs):
        if type(layer) not in _CHANNELS:
            known = ", ".join(one.__name__ for one in _CHANNELS)
            raise SettingError(f"layer is a {type(layer).__name__}; expected one of {known}")
        super().__init__(layer, **kwargs)
        self.supports_masking = layer.supports_masking

    def call(self, inputs, training=False):
        activation = getattr(self.layer, "activation", keras.activations.linear)
        alone = activation not in _IN_ONE
        if alone:
            self.layer.activation = keras.activations.linear
        try:
            with quantized_kernels(self.layer.weights, _CHANNELS[type(self.layer)]):
                outputs = self.layer.call(inputs)
        finally:
            if alone:
                self.layer.activation = activation
        return fake_quantize(activation(fake_quantize(outputs)) if alone else outputs)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)

    def compute_mask(self, inputs, mask=None):
        return self.layer.compute_mask(inputs, mask)


def quantized_kernels(variables, channels=(-1,)):
    """Return a context in which the kernels among `variables`, all that is read in it, are rounded to int8."""
    values = [_kernel(variable, ops.copy(variable), channels) for variable in variables]
    return keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True)))


def _kernel(variable, value, channels=(-1,)):
    is_kernel = len(value.shape) > 1 and ("kernel" in variable.name or "embeddings" in variable.name)
    return fake_quantize(value, channels=channels) if is_kernel else value


def _each(structure):
    return keras.tree.map_structure(lambda part: None if part is None else fake_quantize(part), structure)
