"""How each op of TFLite becomes one of integers: which scales its kernel wants of inputs, weights and outputs.

A rule is a function of `(work, operator)`, the `Pass` over a graph and one of its operators; it appends what replaces
the operator and returns True, or returns False where the op must stay float.
"""

from collections import defaultdict

from zoo.export.tflite.flatbuffer import ABSENT
from zoo.export.tflite.integers import Grid, add_twin, power_of_two, symmetric

# Kernels whose output has one scale, whatever comes in.
OUTPUT_GRIDS = {
    "LOGISTIC": Grid(1 / 256, -128),
    "TANH": Grid(1 / 128, 0),
    "SOFTMAX": Grid(1 / 256, -128),
    "LOG_SOFTMAX": Grid(16 / 256, 127),
    "L2_NORMALIZATION": Grid(1 / 128, 0),
}
# Ops that move numbers without changing any: {op: which input they move}. The output is on the input's grid.
SAME = {
    "AVERAGE_POOL_2D": 0,
    "BATCH_TO_SPACE_ND": 0,
    "BROADCAST_TO": 0,
    "EXPAND_DIMS": 0,
    "GATHER": 0,
    "GATHER_ND": 0,
    "MAX_POOL_2D": 0,
    "PAD": 0,
    "RESHAPE": 0,
    "REVERSE_SEQUENCE": 0,
    "REVERSE_V2": 0,
    "SLICE": 0,
    "SPACE_TO_BATCH_ND": 0,
    "SPLIT": 1,
    "SPLIT_V": 0,
    "SQUEEZE": 0,
    "STRIDED_SLICE": 0,
    "TILE": 0,
    "TRANSPOSE": 0,
    "UNPACK": 0,
}
# Ops that took integers from their first version on; all others do from their second.
ALWAYS_INTEGERS = (
    *("EXPAND_DIMS", "GATHER_ND", "RESHAPE", "REVERSE_SEQUENCE", "REVERSE_V2", "SELECT_V2", "SQUEEZE", "TILE", "WHILE"),
)
# Ops that choose among numbers of several inputs, which must all be on the output's grid: {op: first of these inputs}.
JOINING = {"CONCATENATION": 0, "MAXIMUM": 0, "MINIMUM": 0, "PACK": 0, "SELECT": 1, "SELECT_V2": 1}
RECORDS = ("CONCATENATION", "PACK")  # of these, those that need not be as fine as the finest of their inputs
# Ops that compute, with any grids for inputs and output.
COMPUTING = ("ADD", "BATCH_MATMUL", "MEAN", "MUL", "RELU", "RELU6", "SQUARED_DIFFERENCE", "SUB", "SUM")
# Of these, the ones that compute in float32 or int16 where two come in a row, and the version that takes int16.
WIDE = {"ADD": 3, "MUL": 4, "SUB": 5}
PEEPHOLES = (9, 10, 11)  # inputs of a fused LSTM
# Ops with weights (input 1) and a bias (input 2): {op: axis of the weights that has a scale for each place}.
WEIGHTED = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
_WITH_INTEGERS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4}  # versions


def in_a_row(editor, operators):
    """Return the ops in `WIDE` of which one takes what another makes, moved about in between or not."""
    able = [operator for operator in operators if editor.name(operator) in WIDE]
    made = {i: {id(each)} for each in able for i in each.outputs}  # {tensor: the ops whose numbers it holds}
    rows = set()
    for operator in operators:  # each after those that it reads
        sources = set().union(*(made.get(i, ()) for i in operator.inputs))
        kind = editor.name(operator)
        if kind in WIDE and sources:
            rows |= sources | {id(operator)}
        elif kind in SAME or kind in RECORDS:
            made |= dict.fromkeys(operator.outputs, sources)
    return [each for each in able if id(each) in rows]


def for_floats_alone(editor, operators, ends):
    """Return the ops in `COMPUTING` whose numbers only ops without a rule read, such as roots and logarithms.

    What those take spans magnitudes, as sums of exponentials and variances do, and eight bits have one step for all.

    Args:
        operators: of one graph, in their order.
        ends: the graph's outputs.
    """
    alone, asked = [], set(ends)  # asked: tensors that an op of integers may read
    for operator in reversed(operators):
        kind = editor.name(operator)
        if kind in COMPUTING and operator.outputs and asked.isdisjoint(operator.outputs):
            alone.append(operator)
        elif kind in RULES and not (kind in SAME and asked.isdisjoint(operator.outputs)):
            asked.update(operator.inputs)
    return alone


def prepare(work, operators):
    """Settle what must be known before the first op: the scales of states, and the range that joined tensors share."""
    operators = [operator for operator in operators if not work.stays_float(operator)]
    readers = defaultdict(list)  # of the same weights
    for operator in operators:
        kind = work.editor.name(operator)
        if kind in JOINING:
            parts = [i for i in operator.inputs[JOINING[kind] :] if work.is_float(i) and work.constant(i) is None]
            share(work, [*parts, *operator.outputs])
        elif kind in WEIGHTED and work.constant(operator.inputs[1]) is not None:
            readers[work.constant(operator.inputs[1]).tobytes()].append(operator.inputs[0])
    for inputs in readers.values():  # the steps of one layer, whose bias is then one too
        share(work, inputs)
    for operator in operators:
        if work.editor.name(operator) == "UNIDIRECTIONAL_SEQUENCE_LSTM":
            _settle_states(work, operator)


def share(work, tensors):
    """Let the `tensors` have one range, so that no op need bring one to the scale of another."""
    keys = [(work.index, i) for i in tensors if (work.index, i) in work.ranges]
    pairs = [work.ranges[key] for key in keys]
    for key in keys:
        work.ranges.widen(key, *pairs)


def _same(work, operator):
    moved = operator.inputs[SAME[work.editor.name(operator)]]
    if operator.outputs[0] in work.fixed:  # a state, written by this op
        (state,) = operator.outputs
        source = work.integer(moved, work.fixed[state])
        work.keep(operator, [source, *operator.inputs[1:]], [work.define(state, work.fixed[state], variable=True)])
        return True
    if not work.is_integer(moved) and work.constant(moved) is None:
        return False
    twin, grid = work.integer(moved), work.grid(moved)
    inputs = [twin if i == moved else i for i in operator.inputs]
    work.keep(operator, inputs, [work.define(i, grid) for i in operator.outputs])
    return True


def joined(work, operator):
    """Return the inputs of an op in `JOINING` that it chooses from, constants left out."""
    return [i for i in operator.inputs[JOINING[work.editor.name(operator)] :] if work.constant(i) is None]


def _joining(work, operator):
    kind, parts = work.editor.name(operator), joined(work, operator)
    if not any(work.is_integer(i) for i in parts):
        return False
    (output,) = operator.outputs
    grids = {work.grid(i) for i in parts}
    grid = grids.pop() if len(grids) == 1 else work.grid(output)
    first = JOINING[kind]
    inputs = [*operator.inputs[:first], *(work.integer(i, grid) for i in operator.inputs[first:])]
    work.keep(operator, inputs, [work.define(output, grid)])
    return True


def _computing(work, operator):
    if not all(work.is_float(i) for i in operator.outputs):
        return False
    if work.is_wide(operator):
        if work.wide == "float32":
            return False
        if hasattr(operator.builtinOptions, "potScaleInt16"):
            operator.builtinOptions.potScaleInt16 = False  # any scale will do
        inputs = [_in(work, i, "int16") for i in operator.inputs]
        version = WIDE[work.editor.name(operator)]
    else:
        inputs = [_in(work, i, "int8") if work.is_float(i) else i for i in operator.inputs]
        version = 2
    work.keep(operator, inputs, [work.define(i, work.grid(i)) for i in operator.outputs], version=version)
    return True


def _in(work, index, dtype):
    return work.integer(index, work.grid_in(index, dtype))


def _weighted(work, operator):
    kind = work.editor.name(operator)
    x, weights, bias = [*operator.inputs, ABSENT][:3]
    kernel, shift = work.constant(weights), None if bias == ABSENT else work.constant(bias)
    if kernel is None or (bias != ABSENT and shift is None):
        return False
    source = _in(work, x, "int8")
    grid = symmetric(kernel, axis=WEIGHTED[kind])
    inputs = [source, work.integer(weights, grid), ABSENT]
    if bias != ABSENT:
        inputs[2] = _bias(work, bias, work.grid_in(x, "int8"), grid)
    work.keep(operator, inputs, [work.define(i, work.grid(i)) for i in operator.outputs], version=_WITH_INTEGERS[kind])
    return True


def _bias(work, bias, x, weights):
    """Return the bias as int32, on the grid of the products that it is added to."""
    scale = tuple(x.scale * s for s in weights.scale) if weights.axis is not None else x.scale * weights.scale
    return work.integer(bias, Grid(scale, 0, "int32", None if weights.axis is None else 0))


def _settle_states(work, operator):
    hidden, cell = operator.inputs[18:20]
    output = operator.outputs[0]
    share(work, [output, hidden])
    work.fixed[hidden] = work.fixed[output] = work.range_grid(output)
    work.fixed[cell] = power_of_two(max(map(abs, work.seen(cell))))


def _lstm(work, operator):
    """Weights int8, peepholes int16, biases int32, the cell state int16 on a power of two, all else int8."""
    hidden, cell = operator.inputs[18:20]
    before_projection = operator.intermediates[4]
    if work.fixed[cell].scale > 2.0**-9:  # the kernel's tanh takes cells below 64
        return False
    inputs = list(operator.inputs)
    inputs[0] = _in(work, operator.inputs[0], "int8")
    for place in (*range(1, 12), 16):
        if inputs[place] != ABSENT:
            weights = work.constant(inputs[place])
            inputs[place] = work.integer(
                inputs[place], symmetric(weights, dtype="int16" if place in PEEPHOLES else "int8")
            )
    for place in range(12, 16):
        if inputs[place] != ABSENT:
            kernel = symmetric(work.constant(operator.inputs[place - 11]))
            inputs[place] = _bias(work, operator.inputs[place], work.grid_in(operator.inputs[0], "int8"), kernel)
    for place, state in ((18, hidden), (19, cell)):
        if not work.is_integer(state):  # no op writes it: the file remembers
            work.define(state, work.fixed[state], variable=True)
        inputs[place] = work.integer(state)
    projected = operator.inputs[16] != ABSENT
    shown = work.range_grid(before_projection) if projected else work.fixed[hidden]
    operator.intermediates[4] = add_twin(work.editor, work.graph, before_projection, shown)
    work.keep(operator, inputs, [work.define(operator.outputs[0], work.fixed[hidden])])
    return True


def _while(work, operator):
    """The carried tensors become integers, each on one grid for all turns, and so does the body."""
    model, options = work.editor.model, operator.builtinOptions
    body, condition = model.subgraphs[options.bodySubgraphIndex], model.subgraphs[options.condSubgraphIndex]
    grids = _carried_grids(work, operator, body)
    for index, graph in ((options.bodySubgraphIndex, body), (options.condSubgraphIndex, condition)):
        given = dict(zip(graph.inputs, grids, strict=True))
        wanted = grids if graph is body else [None] * len(graph.outputs)
        type(work)(work.editor, index, work.ranges, wide=work.wide, given=given).run(wanted=wanted)
    places = list(zip(operator.inputs, operator.outputs, grids, strict=True))
    inputs = [work.floating(i) if grid is None else work.integer(i, grid) for i, _, grid in places]
    work.keep(operator, inputs, [o if grid is None else work.define(o, grid) for _, o, grid in places])
    return True


def _carried_grids(work, operator, body):
    """Return a grid for each tensor that a loop carries, None for those that are no floats."""
    inside = type(work)(work.editor, operator.builtinOptions.bodySubgraphIndex, work.ranges, wide=work.wide)
    ends = list(zip(operator.inputs, body.inputs, body.outputs, strict=True))
    for start, arrives, leaves in ends:
        if arrives != leaves and (work.index, start) in work.ranges:
            work.ranges.widen((inside.index, leaves), work.ranges[work.index, start])
    for _ in range(2):  # what a turn leaves is what the next reads
        for _, arrives, leaves in ends:
            if arrives != leaves:
                share(inside, [arrives, leaves])
        prepare(inside, body.operators)
    return [
        (work.grid(start) if arrives == leaves else inside.carried_grid(leaves)) if work.is_float(start) else None
        for start, arrives, leaves in ends
    ]


RULES = (
    dict.fromkeys(SAME, _same)
    | dict.fromkeys(JOINING, _joining)
    | dict.fromkeys([*COMPUTING, *OUTPUT_GRIDS], _computing)
    | dict.fromkeys(WEIGHTED, _weighted)
    | {"UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm, "WHILE": _while}
)
