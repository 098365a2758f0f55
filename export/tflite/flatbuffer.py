"""Read, edit and write the flatbuffer that a TFLite file is."""

import functools
import struct
from collections import Counter

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from zoo.errors import DataError
from zoo.export.contents import file_at, read_bytes

IDENTIFIER = b"TFL3"
ABSENT = -1  # index of an optional input that is left out
_DTYPES = {name: getattr(schema.TensorType, name.upper()) for name in ("float32", "float16", "int32", "int16", "int8")}
NUMPY = {number: name for name, number in _DTYPES.items()}  # the type of a tensor as NumPy names it
# What reading a damaged flatbuffer ends in: offsets that point outside it, lengths that it cannot hold, odd names.
_DAMAGE = (struct.error, IndexError, ValueError, TypeError, OverflowError)


@functools.cache
def op_names():
    """Return {code: name} of all built-in ops."""
    return {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def op_histogram(path):
    """Count the ops of a TFLite file, those in the bodies of its loops included.

    The file is only read, never run, and may come from anywhere.

    Args:
        path: the file.

    Returns:
        {name: count}; a custom op is named `CUSTOM:` and its own name.

    Raises:
        DataError: the file cannot be read, or is no TFLite file, or is damaged.
    """
    data = read_bytes(file_at(path, "a .tflite model"))
    if data[4:8] != IDENTIFIER:
        raise DataError(f"{path} is no TFLite file: its bytes 4 to 8 are {data[4:8]!r}, expected {IDENTIFIER!r}")
    try:
        return dict(sorted(_count(data).items()))
    except _DAMAGE as error:
        raise DataError(f"{path} is a damaged TFLite file ({error}); write or fetch it again") from error


def _count(data):
    model = schema.Model.GetRootAs(data, 0)
    budget = len(data) // 4  # a table or a place in a list takes four bytes at least, so no true file holds more

    def take(length):
        nonlocal budget
        budget -= length
        if length < 0 or budget < 0:
            raise ValueError("its lists are longer than the file")
        return range(length)

    names = [_name(model.OperatorCodes(i)) for i in take(model.OperatorCodesLength())]
    counts = Counter()
    for g in take(model.SubgraphsLength()):
        graph = model.Subgraphs(g)
        for i in take(graph.OperatorsLength()):
            index = graph.Operators(i).OpcodeIndex()
            if index >= len(names):
                raise ValueError(f"an op of kind {index} where {len(names)} kinds are listed")
            counts[names[index]] += 1
    return counts


def _name(code):
    number = flatbuffer_utils.get_builtin_code_from_operator_code(code)
    if number == schema.BuiltinOperator.CUSTOM:
        return f"CUSTOM:{(code.CustomCode() or b'').decode()}"
    return op_names().get(number, f"UNKNOWN:{number}")


class Editor:
    """A TFLite model as objects that can be changed, with the few verbs that the passes over it need."""

    def __init__(self, data):
        self.model = flatbuffer_utils.read_model_from_bytearray(data)

    def pack(self):
        """Return the model as the bytes of a file, without what no op uses; what is equal is stored once."""
        for index, graph in enumerate(self.model.subgraphs):
            self._drop_unused(graph, [s for s in self.model.signatureDefs or [] if s.subgraphIndex == index])
        places = {}
        for graph in self.model.subgraphs:
            for tensor in graph.tensors:
                data = self.model.buffers[tensor.buffer].data
                if data is not None:
                    tensor.buffer = places.setdefault(np.asarray(data, np.uint8).tobytes(), tensor.buffer)
        used = {tensor.buffer for graph in self.model.subgraphs for tensor in graph.tensors}
        used |= {entry.buffer for entry in self.model.metadata or []}
        for index, buffer in enumerate(self.model.buffers):
            if index not in used:
                buffer.data = None
        for graph in self.model.subgraphs:
            for tensor in graph.tensors:
                _as_arrays(tensor, shape=np.int32, shapeSignature=np.int32)
                _as_arrays(tensor.quantization, scale=np.float32, zeroPoint=np.int64)
        builder = _Builder(1024)
        builder.Finish(self.model.Pack(builder), file_identifier=IDENTIFIER)
        return bytes(builder.Output())

    def _drop_unused(self, graph, signatures):
        operators = graph.operators
        lists = [[graph, "inputs"], [graph, "outputs"]]
        lists += [[op, kind] for op in operators for kind in ("inputs", "outputs", "intermediates")]
        used = sorted({i for owner, kind in lists for i in _indices(owner, kind) if i != ABSENT})
        place = {ABSENT: ABSENT} | {old: new for new, old in enumerate(used)}
        for owner, kind in lists:
            setattr(owner, kind, [place[i] for i in _indices(owner, kind)])
        for signature in signatures:
            for end in [*signature.inputs, *signature.outputs]:
                end.tensorIndex = place[end.tensorIndex]
        graph.tensors = [graph.tensors[i] for i in used]

    def name(self, operator):
        """Return the name of the op that `operator` runs, as `op_histogram` has it."""
        code = self.model.operatorCodes[operator.opcodeIndex]
        number = flatbuffer_utils.get_builtin_code_from_operator_code(code)
        if number == schema.BuiltinOperator.CUSTOM:
            return f"CUSTOM:{(code.customCode or b'').decode()}"
        return op_names()[number]

    def constant(self, graph, index):
        """Return tensor `index` of `graph` as an array, or None if the file does not fix its value."""
        tensor = graph.tensors[index]
        data = self.model.buffers[tensor.buffer].data
        if data is None or tensor.isVariable:
            return None
        dtype = next((name for name, number in _DTYPES.items() if number == tensor.type), None)
        return None if dtype is None else np.asarray(data, np.uint8).view(dtype).reshape(shape_of(tensor))

    def add_constant(self, graph, value, name):
        """Add the array `value` to `graph` and return its index."""
        value = np.ascontiguousarray(value)
        index = self.add_tensor(graph, value.shape, name, dtype=str(value.dtype))
        graph.tensors[index].buffer = self.add_buffer(value)
        return index

    def add_buffer(self, value):
        """Add a buffer that holds the array `value` and return its index."""
        self.model.buffers.append(schema.BufferT())
        self.model.buffers[-1].data = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        return len(self.model.buffers) - 1

    def add_tensor(self, graph, shape, name, *, dtype="float32", variable=False):
        """Add a tensor without a value to `graph` and return its index."""
        tensor = schema.TensorT()
        tensor.shape, tensor.name, tensor.type = [int(size) for size in shape], name.encode(), _DTYPES[dtype]
        tensor.isVariable = variable
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1

    def operator(self, name, inputs, outputs, options=None, *, version=1):
        """Return a new operator that runs the built-in op `name`."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(name, version)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType, operator.builtinOptions = getattr(schema.BuiltinOptions, kind), options
        return operator

    def set_version(self, operator, version):
        """Let `operator` ask for `version` of its op, if it asks for an older one."""
        code = self.model.operatorCodes[operator.opcodeIndex]
        if code.version < version:
            operator.opcodeIndex = self._code(self.name(operator), version)

    def _code(self, name, version):
        number = getattr(schema.BuiltinOperator, name)
        for index, code in enumerate(self.model.operatorCodes):
            if flatbuffer_utils.get_builtin_code_from_operator_code(code) == number and code.version == version:
                return index
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), version
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1


class _Builder(flatbuffers.Builder):
    """Points to an array that is written already instead of writing it again, such as the zero points of weights."""

    def __init__(self, size):
        super().__init__(size)
        self._written = {}

    def CreateNumpyVector(self, x):
        key = x.dtype.str, x.tobytes()
        if key not in self._written:
            self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]


def _as_arrays(owner, **dtypes):
    """Make arrays of the lists of numbers that `owner` has, where it has any."""
    for name, dtype in dtypes.items():
        if getattr(owner, name, None) is not None:
            setattr(owner, name, np.asarray(getattr(owner, name), dtype))


def _indices(owner, kind):
    """Return the list of tensor indices `kind` of a graph or operator, empty where the file has none."""
    found = getattr(owner, kind)
    return [] if found is None else list(found)


def shape_of(tensor):
    """Return the shape of a tensor object as a tuple; a scalar's is empty."""
    return tuple(int(size) for size in tensor.shape) if tensor.shape is not None else ()
