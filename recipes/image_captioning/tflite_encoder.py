"""A convolutional network of a TFLite file as a Keras model, whose quantised weights become numbers again."""

import struct
from pathlib import Path

import numpy as np

from zoo.errors import DataError

_LARGEST = 1 << 28  # bytes of a file that is read
# What reading a damaged flatbuffer ends in: offsets that point outside it, lengths that it cannot hold, odd names.
_DAMAGE = (struct.error, IndexError, ValueError, TypeError, OverflowError, AttributeError, KeyError)
_NUMBERS = {0: "<f4", 1: "<f2", 2: "<i4", 3: "u1", 9: "i1"}  # type of a tensor in the schema: as NumPy names it


def read_encoder(path, size):
    """Return a `keras.Model` from pictures to the last map of a TFLite classifier that has more than one position.

    The file is parsed, not run. Its convolutions, pooling, additions and joins become Keras layers with the weights
    that its integers stand for; what only its integer arithmetic rounds is left out. Scaling of pictures, of which the
    file's quantised input tells, is part of the model.

        weight = scale (integer - zero_point)

    Args:
        path: a .tflite file, as MobileNet is published in.
        size: int, pixels; the network may be run on another size than it was trained on.

    Raises:
        DataError: the file is missing, damaged, or starts with an op that is none of these.
    """
    import keras

    graph = _Graph(path)
    pictures = keras.Input((size, size, 3), name="image")
    try:
        values = {graph.inputs[0]: keras.layers.Rescaling(*graph.scaling(), name="scale")(pictures)}
        outputs = None
        for number, op in enumerate(graph.ops):
            layer = _LAYERS.get(graph.name(op))
            given = [values[i] for i in op.inputs if i in values]
            if graph.name(op) in _SAME:  # the same numbers in another form, weights or what is computed
                graph.same[op.outputs[0]] = op.inputs[0]
                values |= dict.fromkeys(op.outputs, *given) if given else {}
                continue
            if layer is None or not given:
                break
            x = layer(graph, op, given, f"{graph.name(op).lower()}_{number}")
            if len(x.shape) != 4 or x.shape[1] * x.shape[2] == 1:
                break
            values[op.outputs[0]] = outputs = x
    except _DAMAGE as error:
        raise DataError(
            f"{path} is a damaged TFLite file ({error}), expected a network of pictures: fetch it."
        ) from error
    if outputs is None:
        known = ", ".join(_LAYERS)
        raise DataError(f"{path} starts with {graph.name(graph.ops[0])}, expected a network of {known}: give another.")
    return keras.Model(pictures, outputs, name="encoder")


class _Graph:
    """What the file holds: ops in order, and arrays of numbers."""

    def __init__(self, path):
        self.same = {}  # a constant in another form: the one that the file holds
        from ai_edge_litert import schema_py_generated as schema

        path = Path(path)
        if not path.is_file() or path.stat().st_size > _LARGEST:
            raise DataError(f"{path}: no such file, or over {_LARGEST} bytes, expected a .tflite file: check the path.")
        data = path.read_bytes()
        if data[4:8] != b"TFL3":
            raise DataError(f"{path} is no TFLite file: its header is {data[4:8]!r}, expected b'TFL3': fetch it again.")
        try:
            model = schema.ModelT.InitFromPackedBuf(data, 0)
            (graph, *_) = model.subgraphs
            self.ops, self.inputs, self._tensors, self._buffers = (
                *(graph.operators, list(graph.inputs), graph.tensors),
                model.buffers,
            )
            self._codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes]
            self._names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
            self._activations = {v: k for k, v in vars(schema.ActivationFunctionType).items() if isinstance(v, int)}
        except _DAMAGE as error:
            raise DataError(f"{path} is a damaged TFLite file ({error}), expected a whole one: fetch it.") from error

    def name(self, op):
        return self._names[self._codes[op.opcodeIndex]]

    def scaling(self):
        """Return the factor and offset that make the input of a picture's bytes; as MobileNet, if it is no integer."""
        scale, zero = self._quantization(self._tensors[self.inputs[0]])
        if not len(scale):
            return 1 / 127.5, -1.0
        return float(scale[0]), float(-scale[0] * zero[0])

    def array(self, index):
        """Return float32 numbers of a constant, None of an input that is left out."""
        if index < 0:
            return None
        tensor = self._tensors[self.same.get(index, index)]
        data = np.asarray(self._buffers[tensor.buffer].data, np.uint8).tobytes()
        array = np.frombuffer(data, _NUMBERS[tensor.type]).reshape(tensor.shape).astype(np.float32)
        scale, zero = self._quantization(tensor)
        if not len(scale):
            return array
        shape = [1] * array.ndim
        if array.ndim:
            shape[tensor.quantization.quantizedDimension] = -1
        return array * scale.reshape(shape) - (scale * zero).reshape(shape)

    def _quantization(self, tensor):
        given = tensor.quantization
        if given is None or given.scale is None:
            return np.zeros(0, np.float32), np.zeros(0, np.float32)
        return np.asarray(given.scale, np.float32), np.asarray(given.zeroPoint, np.float32)

    def activated(self, x, code, name):
        import keras

        kind = self._activations[code]
        if kind == "NONE":
            return x
        return keras.layers.ReLU({"RELU": None, "RELU6": 6.0}[kind], name=f"{name}_relu")(x)


def _convolution(graph, op, given, name):
    import keras

    options = op.builtinOptions
    kernel, bias = graph.array(op.inputs[1]), graph.array(op.inputs[2]) if len(op.inputs) > 2 else None
    settings = {
        "strides": (options.strideH, options.strideW),
        "padding": ("same", "valid")[options.padding],
        "dilation_rate": (options.dilationHFactor, options.dilationWFactor),
        "use_bias": bias is not None,
        "name": name,
    }
    if graph.name(op) == "CONV_2D":
        layer = keras.layers.Conv2D(kernel.shape[0], kernel.shape[1:3], **settings)
        kernel = kernel.transpose(1, 2, 3, 0)
    else:
        multiplier = kernel.shape[3] // given[0].shape[-1]
        layer = keras.layers.DepthwiseConv2D(kernel.shape[1:3], depth_multiplier=multiplier, **settings)
        kernel = kernel.reshape(*kernel.shape[1:3], -1, multiplier)
    x = layer(given[0])
    layer.set_weights([kernel] if bias is None else [kernel, bias])
    return graph.activated(x, options.fusedActivationFunction, name)


def _pooling(graph, op, given, name):
    import keras

    options, kinds = op.builtinOptions, (keras.layers.AveragePooling2D, keras.layers.MaxPooling2D)
    size, strides = (options.filterHeight, options.filterWidth), (options.strideH, options.strideW)
    if given[0].shape[1] < size[0]:  # the last pooling of a network that is run on smaller pictures
        size = tuple(given[0].shape[1:3])
    layer = kinds[graph.name(op) == "MAX_POOL_2D"](size, strides, ("same", "valid")[options.padding], name=name)
    return graph.activated(layer(given[0]), options.fusedActivationFunction, name)


def _sum(graph, op, given, name):
    import keras

    return graph.activated(keras.layers.Add(name=name)(given), op.builtinOptions.fusedActivationFunction, name)


def _join(graph, op, given, name):
    import keras

    x = keras.layers.Concatenate(op.builtinOptions.axis, name=name)(given)
    return graph.activated(x, op.builtinOptions.fusedActivationFunction, name)


def _pad(graph, op, given, name):
    import keras

    return keras.layers.ZeroPadding2D(graph.array(op.inputs[1])[1:3].astype(int).tolist(), name=name)(given[0])


_SAME = ("QUANTIZE", "DEQUANTIZE")
_LAYERS = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "AVERAGE_POOL_2D": _pooling,
    "MAX_POOL_2D": _pooling,
    "ADD": _sum,
    "CONCATENATION": _join,
    "PAD": _pad,
}
