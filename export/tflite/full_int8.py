"""The scheme `full_int8`: weights and activations in eight bits, with ranges seen on examples."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from zoo.export.representative import check_range
from zoo.export.tflite import integer_ops
from zoo.export.tflite.flatbuffer import ABSENT
from zoo.export.tflite.integers import add_constant, add_twin, around, symmetric
from zoo.export.trace import FLOAT_SCOPE


def full_int8(editor, ranges, *, wide, ends=()):
    """Bring the model in `editor` to integers, in place.

    What becomes int8: every op that TFLite has in int8, its weights (symmetric, one scale for each output channel of
    dense and convolutional layers, one for each matrix of a fused LSTM) and its activations (one scale for each tensor,
    from the least and the greatest value seen), the bodies of loops included. Biases become int32, the cell state of a
    fused LSTM int16. Two sums, differences or products in a row compute in `wide`: f * c + i * g is how a recurrent
    layer carries its memory on, and what int8 rounds off would add up there. What stays float32, between ops that
    convert: ops without an int8 kernel, such as logarithms and powers, with the sums and products that only they read,
    and all of a layer with `quantizable = False` or named in `keep_float`.

    What it costs: every weight and activation moves by up to half a step of 1/255 of its range, and what lies outside
    the ranges seen is cut off. What it gives: a file of little more than a quarter, products of matrices in integers,
    and nothing but integers where `wide` is int16 and all ops have them.

    Args:
        editor: the float model.
        ranges: `zoo.export.tflite.ranges.Ranges` that saw the model run on examples.
        wide: "float32", which processors have in their fastest kernels, or "int16" for those that have integers alone.
        ends: inputs and outputs that are to be integers too, of those that are float32.
    """
    moved = Pass(editor, 0, ranges, wide=wide).run(ends=ends)
    for signature in editor.model.signatureDefs or []:
        for end in [*signature.inputs, *signature.outputs]:
            end.tensorIndex = moved.get(end.tensorIndex, end.tensorIndex)


class Pass:
    """Rewrites one graph: float tensors get twins of integers, and ops take the twins.

    Args:
        editor: the model.
        index: of the graph.
        ranges: what was seen of the float model.
        wide: "int16" or "float32", in which two element-wise ops in a row compute.
        given: {input of the graph: Grid on which it arrives, None for as it is}.
    """

    def __init__(self, editor, index, ranges, *, wide, given=None):
        self.editor, self.index, self.ranges, self.wide = editor, index, ranges, wide
        self.graph = editor.model.subgraphs[index]
        self.operators = []
        self.grids = {}  # of every float tensor that has a twin
        self.fixed = {}  # grids that are no matter of range: those of states
        self.producers = {i: operator for operator in self.graph.operators for i in operator.outputs}
        self._wide = set(map(id, integer_ops.in_a_row(editor, self.graph.operators)))
        ends = self.graph.outputs
        self._floating = set(map(id, integer_ops.for_floats_alone(editor, self.graph.operators, ends)))
        self._given = given or {}
        self._twins = {}  # (float tensor, grid): the tensor that holds it on that grid
        self._constants = {}
        self._floats = set()  # tensors that exist as floats in the new graph

    def run(self, *, ends=(), wanted=None):
        """Rewrite the graph; return {end of the graph: the tensor that took its place}.

        Args:
            ends: float inputs and outputs that are to be integers.
            wanted: for each output a Grid, None for as it is; in place of `ends`.
        """
        operators, self.graph.operators = self.graph.operators, self.operators
        integer_ops.prepare(self, operators)
        moved = {i: self._arrive(i, i in ends) for i in self.graph.inputs}
        for operator in operators:
            rule = None if self.stays_float(operator) else integer_ops.RULES.get(self.editor.name(operator))
            if rule is None or not rule(self, operator):
                self._leave(operator)
        self.graph.inputs = [moved[i] for i in self.graph.inputs]
        if wanted is None:
            wanted = [self.grid_in(i, "int8") if i in ends else None for i in self.graph.outputs]
        outputs = [
            self.floating(i) if grid is None else self.integer(i, grid)
            for i, grid in zip(self.graph.outputs, wanted, strict=True)
        ]
        moved |= dict(zip(self.graph.outputs, outputs, strict=True))
        self.graph.outputs = outputs
        return moved

    def _arrive(self, index, as_integers):
        grid = self.grid(index) if as_integers else self._given.get(index)
        if grid is None:
            self._floats.add(index)
            return index
        return self.define(index, grid)

    def is_float(self, index):
        """Return whether tensor `index` is of float32 in the float model."""
        return index != ABSENT and self.graph.tensors[index].type == schema.TensorType.FLOAT32

    def stays_float(self, operator):
        """Return whether `operator` computes for ops in float alone, or belongs to a layer that must stay so."""
        if id(operator) in self._floating:
            return True
        constants = [i for i in operator.inputs if i != ABSENT and self.constant(i) is not None]
        return any(FLOAT_SCOPE.encode() in self.graph.tensors[i].name for i in [*operator.outputs, *constants])

    def constant(self, index):
        """Return the value of a constant of float32, None for any other tensor."""
        return self.editor.constant(self.graph, index) if self.is_float(index) else None

    def is_wide(self, operator):
        """Return whether int8 is too coarse for what `operator` computes."""
        return id(operator) in self._wide

    def holds_memory(self, index):
        """Return whether tensor `index` is what ops that are wide made, or chosen from it."""
        producer = self.producers.get(index)
        kind = None if producer is None else self.editor.name(producer)
        if kind in integer_ops.SAME:
            return self.holds_memory(producer.inputs[integer_ops.SAME[kind]])
        if kind in integer_ops.JOINING:
            enough = all if kind in integer_ops.RECORDS else any
            return enough(self.holds_memory(i) for i in integer_ops.joined(self, producer))
        return producer is not None and self.is_wide(producer)

    def grid_in(self, index, dtype):
        """Return the grid of tensor `index` in integers of a type."""
        grid = self.grid(index)
        return grid if grid.dtype == dtype else self.range_grid(index, dtype)

    def grid(self, index):
        """Return the grid of tensor `index`: what it has already, or what its op or its range gives it."""
        if index in self.grids:
            return self.grids[index]
        if index in self.fixed:
            return self.fixed[index]
        value = self.constant(index)
        if value is not None:
            return around(float(value.min(initial=0)), float(value.max(initial=0)))
        producer = self.producers.get(index)
        kind = None if producer is None or self.stays_float(producer) else self.editor.name(producer)
        if kind in integer_ops.OUTPUT_GRIDS:
            return integer_ops.OUTPUT_GRIDS[kind]
        if kind in integer_ops.SAME:
            return self.grid(producer.inputs[integer_ops.SAME[kind]])
        return self.range_grid(index, "int16" if self.wide == "int16" and self.holds_memory(index) else "int8")

    def carried_grid(self, index):
        """Return the grid of tensor `index` from one turn of a loop to the next, None for float32."""
        if not self.holds_memory(index):
            return self.range_grid(index)
        return None if self.wide == "float32" else self.range_grid(index, self.wide)

    def range_grid(self, index, dtype="int8"):
        """Return the grid that the range seen of tensor `index` gives it."""
        if self.constant(index) is not None:
            return symmetric(self.constant(index), dtype=dtype)
        if (self.index, index) not in self.ranges:
            return around(0, 0)  # of a tensor without elements, or that no example reached
        pair = self.seen(index)
        return around(*pair) if dtype == "int8" else symmetric(np.array(pair), dtype=dtype)

    def seen(self, index):
        """Return the least and greatest value that was seen of tensor `index`, checked."""
        pair = self.ranges[self.index, index]
        check_range(self.graph.tensors[index].name.decode(), *pair)
        return pair

    def is_integer(self, index):
        """Return whether tensor `index` has a twin by now."""
        return index in self.grids

    def integer(self, index, grid=None):
        """Return the tensor that holds float tensor `index` as integers, on `grid` if given; made if need be."""
        grid = grid or self.grid(index)
        if (index, grid) in self._twins:
            return self._twins[index, grid]
        value = self.constant(index)
        if value is not None:
            key = value.tobytes(), value.shape, grid  # steps of a loop have constants of their own that are the same
            if key not in self._constants:
                name = f"{self.graph.tensors[index].name.decode()}_{grid.dtype}"
                self._constants[key] = add_constant(self.editor, self.graph, value, grid, name)
            return self._constants[key]
        source = self._twins.get((index, self.grids.get(index)))
        if source is None:
            source = self.floating(index)
        twin = add_twin(self.editor, self.graph, index, grid)
        self._twins[index, grid] = twin
        self.grids.setdefault(index, grid)
        self.add("QUANTIZE", [source], [twin], schema.QuantizeOptionsT(), version=2)
        return twin

    def floating(self, index):
        """Return `index`, which exists as a float tensor from here on."""
        if not self.is_float(index) or index in self._floats or self.constant(index) is not None:
            return index
        if index in self.grids:
            twin = self._twins[index, self.grids[index]]
            self.add("DEQUANTIZE", [twin], [index], schema.DequantizeOptionsT(), version=3)
            self._floats.add(index)
        return index

    def define(self, index, grid, *, variable=False):
        """Return a new tensor that is the twin of float tensor `index` from here on, for the op that computes it."""
        self.grids[index] = grid
        self._twins[index, grid] = add_twin(self.editor, self.graph, index, grid, variable=variable)
        return self._twins[index, grid]

    def add(self, name, inputs, outputs, options=None, *, version):
        """Append a new operator."""
        self.operators.append(self.editor.operator(name, inputs, outputs, options, version=version))

    def keep(self, operator, inputs, outputs, *, version=2):
        """Append `operator` with other inputs and outputs, which are integers as its `version` takes them."""
        operator.inputs, operator.outputs = inputs, outputs
        if self.editor.name(operator) not in integer_ops.ALWAYS_INTEGERS:
            self.editor.set_version(operator, version)
        self.operators.append(operator)

    def _leave(self, operator):
        operator.inputs = [self.floating(i) for i in operator.inputs]
        self._floats.update(i for i in operator.outputs if self.is_float(i))
        self.operators.append(operator)
