"""Numbers as integers: the scale and zero point of a tensor, and constants and tensors that have them."""

from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from zoo.export.representative import LEAST


@dataclass(frozen=True)
class Grid:
    """The numbers that a tensor of integers can stand for: scale * (integer - zero).

    Args:
        scale: a number, or a tuple with one for each place along `axis`.
        zero: the integer that stands for 0.
        dtype: "int8", "int16" or "int32".
        axis: the axis whose places have scales of their own, or None.
    """

    scale: float | tuple
    zero: int = 0
    dtype: str = "int8"
    axis: int | None = None

    def integers(self, value):
        """Return the array `value` as integers, rounded, and cut off at the ends of the type."""
        scale = np.asarray(self.scale, "float64")
        if self.axis is not None:
            scale = scale.reshape([-1 if i == self.axis else 1 for i in range(value.ndim)])
        ends = np.iinfo(self.dtype)
        return np.clip(np.round(value / scale) + self.zero, ends.min, ends.max).astype(self.dtype)

    def put_on(self, tensor):
        """Write scale and zero point into a tensor of the file."""
        quantization = schema.QuantizationParametersT()
        quantization.scale = np.atleast_1d(np.asarray(self.scale, "float32"))
        quantization.zeroPoint = np.full(quantization.scale.size, self.zero, "int64")
        quantization.quantizedDimension = self.axis or 0
        tensor.quantization = quantization


def around(least, greatest):
    """Return the int8 `Grid` that spans a range, and holds 0 exactly."""
    least, greatest = min(least, 0.0), max(greatest, 0.0)
    scale = _single((greatest - least) / 255) if greatest - least >= LEAST else 1.0  # as of 0 alone
    return Grid(scale, int(np.clip(np.round(-128 - least / scale), -128, 127)))


def symmetric(value, *, axis=None, dtype="int8"):
    """Return the `Grid` with zero point 0 for the array `value`, one scale for each place along `axis`."""
    others = None if axis is None else tuple(i for i in range(value.ndim) if i != axis)
    largest = np.abs(value).max(axis=others, initial=0)
    scale = np.where(largest >= LEAST, largest, 1) / np.iinfo(dtype).max  # 127, not 128: the same on both sides of zero
    if axis is None:
        return Grid(_single(scale), 0, dtype)
    return Grid(tuple(map(_single, scale)), 0, dtype, axis)


def power_of_two(largest):
    """Return the int16 `Grid` whose scale is a power of two, for numbers up to `largest`."""
    return Grid(2.0 ** (int(np.ceil(np.log2(max(largest, 2.0**-8)))) - 15), 0, "int16")


def _single(scale):
    return float(np.float32(scale))  # as the file holds it


def add_constant(editor, graph, value, grid, name):
    """Add the array `value`, brought to `grid`, to `graph` and return its index."""
    index = editor.add_constant(graph, grid.integers(value), name)
    grid.put_on(graph.tensors[index])
    return index


def add_twin(editor, graph, index, grid, *, variable=False):
    """Add a tensor like `index` of `graph` whose numbers are on `grid`, and return its index."""
    like = graph.tensors[index]
    name = f"{like.name.decode()}_{grid.dtype}"
    twin = editor.add_tensor(graph, [] if like.shape is None else like.shape, name, dtype=grid.dtype, variable=variable)
    graph.tensors[twin].shapeSignature = like.shapeSignature
    grid.put_on(graph.tensors[twin])
    return twin
