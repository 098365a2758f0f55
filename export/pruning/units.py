"""Drop whole units: the recurrent layers and all that read them become smaller."""

from collections import Counter
from dataclasses import dataclass, field

import keras
import numpy as np
from keras import ops

from zoo import layers as zoo_layers
from zoo.errors import SettingError
from zoo.export.pruning.rebuild import check_rebuildable, rebuild
from zoo.export.pruning.weights import check_layers

_K = keras.layers
_CUTTABLE = (
    _K.SimpleRNNCell,
    _K.LSTMCell,
    _K.GRUCell,
    zoo_layers.LSTMCell,
    zoo_layers.GRUCell,
    zoo_layers.PeepholeLSTMCell,
    zoo_layers.BatchNormLSTMCell,
    zoo_layers.SLSTMCell,
    zoo_layers.FastGRNNCell,
    zoo_layers.IndRNNCell,
    zoo_layers.MinGRUCell,
    zoo_layers.MinLSTMCell,
    zoo_layers.LIFCell,
)
_WHOLE = {  # cells that can read fewer inputs, and why they keep all units
    zoo_layers.LayerNormLSTMCell: "normalises its units together",
    zoo_layers.EchoStateCell: "has the reservoir that its seed gives for so many units",
}
# By the names of weights. All others have the units, gate by gate, on their last axis.
_READS_INPUTS = ("kernel", "kernel_in")  # by their first axis
_READS_UNITS = ("recurrent_kernel", "recurrent_in", "projection_kernel")  # by the axis before the last
_OF_NO_UNIT = ("kernel_in", "recurrent_in", "projection_kernel", "scales")  # on their last axis
_STATISTICS = ("mean", "variance", "cell_mean", "cell_variance")
_AROUND = (zoo_layers.Zoneout, zoo_layers.VariationalDropout)  # leave every unit to itself
_PASSING = (  # one feature in, the same feature out, whatever the others are; zero stays out of the others' way
    _K.Dropout,
    _K.SpatialDropout1D,
    _K.GaussianDropout,
    _K.GaussianNoise,
    _K.ReLU,
    _K.LeakyReLU,
    _K.ELU,
    _K.GlobalAveragePooling1D,
    _K.GlobalMaxPooling1D,
    _K.AveragePooling1D,
    _K.MaxPooling1D,
    _K.Cropping1D,
    _K.ZeroPadding1D,
    _K.UpSampling1D,
    _K.RepeatVector,
)
_ELEMENTWISE = ("linear", "relu", "tanh", "sigmoid", "elu", "selu", "gelu", "silu", "softplus", "softsign")


@dataclass(frozen=True)
class _Part:
    """One axis of a weight whose entries belong to units: `ids` has a unit for each, -1 for none.

    role: "in" for what a unit hears, "out" for what others hear of it, "rides" for what only goes with it.
    """

    variable: object
    axis: int
    ids: np.ndarray
    role: str

    def norms(self, count):
        """The sum of squares of each of `count` units' entries."""
        values = np.square(ops.convert_to_numpy(self.variable).astype("float64"))
        values = values.sum(axis=tuple(axis for axis in range(values.ndim) if axis != self.axis))
        return np.bincount(self.ids[self.ids >= 0], values[self.ids >= 0], minlength=count)


@dataclass
class _Findings:
    """What a walk over a model finds: the groups of units that can be dropped, and every weight that knows them."""

    chosen: list | None  # names of layers to cut, None for all
    parts: list = field(default_factory=list)
    groups: dict = field(default_factory=dict)  # name of a layer: arrays of the ids of its cells' units
    heads: dict = field(default_factory=dict)  # name of a layer: units of its cell that share an id, one in each head
    whole: dict = field(default_factory=dict)  # name of a layer that keeps its units: why
    count: int = 0
    calls: Counter = field(default_factory=Counter)  # how often the model uses a layer

    def new_units(self, name, cell):
        self.heads[name] = getattr(cell, "heads", 1)
        ids = np.arange(self.count, self.count + cell.units // self.heads[name])
        self.count += len(ids)
        self.groups.setdefault(name, []).append(ids)
        return ids


def drop_units(model, *, sparsity, layers=None):
    """Return a smaller model without the units that matter least; see `zoo.export.prune`.

    The importance of a unit is what it hears times what is heard of it:

        importance = |weights into the unit| * |weights out of it, in its own layer and its readers|

    so that one that nobody listens to goes first, and without any loss.
    """
    check_rebuildable(model)
    check_layers(layers)
    found = _Findings(layers)
    _walk(model, found)
    for name in layers or ():
        if name in found.whole:
            raise SettingError(
                f"layers has {name!r}, which {found.whole[name]}; leave it out: no unit of it can go alone"
            )
        if name not in found.groups:
            raise SettingError(
                f"layers has {name!r}, which is no recurrent layer of {model.name} whose units can be dropped; "
                f"those are {', '.join(found.groups) or 'none'}"
            )
    if not found.groups:
        kept = "".join(f"; {name} {why}" for name, why in found.whole.items())
        raise SettingError(f"the model {model.name} has no recurrent layer whose units can be dropped{kept}")
    importance = _importance(found)
    kept, units = np.ones(found.count, bool), {}
    for name, groups in found.groups.items():
        for ids in groups:
            dropped = min(round(sparsity * len(ids)), len(ids) - 1)
            kept[ids[np.argsort(importance[ids], kind="stable")[:dropped]]] = False
            units[name] = (len(ids) - dropped) * found.heads[name]
    cuts = {}
    for part in found.parts:
        indices = np.flatnonzero((part.ids < 0) | kept[part.ids])
        cuts.setdefault(id(part.variable), {})[part.axis] = indices
    return rebuild(model, units, cuts)


def _importance(found):
    norms = {role: np.zeros(found.count) for role in ("in", "out", "rides")}
    for part in found.parts:
        norms[part.role] += part.norms(found.count)
    return np.sqrt(norms["in"] * norms["out"])


def _walk(model, found):
    """Follow the units through the model, from its inputs to its outputs."""
    of_tensor = {}  # id of a tensor: the unit of each of its features
    nodes = _nodes(model)
    found.calls.update(node.operation for node in nodes)
    for node in nodes:
        inputs = [of_tensor.get(id(tensor)) for tensor in node.input_tensors]
        outputs = _through(node.operation, inputs, node.input_tensors, found)
        for tensor, ids in zip(node.output_tensors, outputs or [], strict=False):
            if ids is not None:
                of_tensor[id(tensor)] = ids
    for tensor in model.outputs:
        ids = of_tensor.get(id(tensor))
        if ids is not None:
            raise SettingError(
                f"the units of {_layer_of(found, ids)} are an output of {model.name}, which would change its shape; "
                "name other layers with layers="
            )


def _nodes(model):
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs)
    by_depth = model._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]


def _layer_of(found, ids):
    unit = ids[ids >= 0][0]
    return next(name for name, groups in found.groups.items() if any(unit in group for group in groups))


def _through(layer, inputs, tensors, found):
    """Return the units of each output of a layer, given those of its inputs; None where there are none."""
    known = next((ids for ids in inputs if ids is not None), None)
    recurrent = isinstance(layer, (_K.RNN, _K.Bidirectional)) and _cells(layer)
    for cell in recurrent or ():
        if type(cell) in _WHOLE:
            found.whole[layer.name] = _WHOLE[type(cell)]
    cut = bool(recurrent) and all(map(_cuttable, recurrent)) and (found.chosen is None or layer.name in found.chosen)
    if known is None and not cut:
        return None
    if found.calls[layer] > 1:
        raise SettingError(
            f"{layer.name} is used more than once; name layers that neither are nor feed it with layers="
        )
    if recurrent and len(inputs) == 1:
        return _through_recurrent(layer, recurrent, inputs[0], cut, found)
    if type(layer) is _K.TimeDistributed:
        return _through(layer.layer, inputs, tensors, found)
    if type(layer) is _K.Concatenate and layer.axis in (-1, len(tensors[0].shape) - 1):
        none = [np.full(tensor.shape[-1], -1) for tensor in tensors]
        return [np.concatenate([no if ids is None else ids for ids, no in zip(inputs, none, strict=True)])]
    if type(layer) in _PASSING and getattr(layer, "data_format", "channels_last") == "channels_last":
        return inputs
    if type(layer) is _K.Activation and layer.activation.__name__ in _ELEMENTWISE:
        return inputs
    if type(layer) in (_K.BatchNormalization, _K.LayerNormalization) and _on_last_axis(layer, tensors[0]):
        found.parts += [_Part(variable, 0, known, "rides") for variable in layer.weights]
        return inputs
    if type(layer) is _K.Dense or (
        type(layer) is _K.Conv1D and layer.groups == 1 and layer.data_format == "channels_last"
    ):
        found.parts.append(_Part(layer.kernel, len(layer.kernel.shape) - 2, known, "out"))
        return None
    if recurrent:
        raise SettingError(
            f"{layer.name} starts from states that come from elsewhere; expected none where units are dropped: name "
            "other layers with layers="
        )
    raise SettingError(
        f"{layer.name}, a {type(layer).__name__}, reads the units of {_layer_of(found, known)} and it is not known "
        "which belongs where in it; name other layers with layers="
    )


def _on_last_axis(layer, tensor):
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    return list(axes) in ([-1], [len(tensor.shape) - 1])


def _cells(layer):
    """The innermost cells of a recurrent layer: one, or two of a Bidirectional that joins them; else none."""
    if isinstance(layer, _K.Bidirectional):
        if layer.merge_mode != "concat":
            return []
        return [*_cells(layer.forward_layer), *_cells(layer.backward_layer)]
    cell = getattr(layer, "cell", None)
    while type(cell) in _AROUND:
        cell = cell.cell
    return [cell] if type(cell) in (*_CUTTABLE, *_WHOLE) else []


def _cuttable(cell):
    return type(cell) in _CUTTABLE


def _through_recurrent(layer, cells, inputs, cut, found):
    ids_of_cells = [found.new_units(layer.name, cell) if cut else None for cell in cells]
    for cell, ids in zip(cells, ids_of_cells, strict=True):
        if inputs is not None:
            kernel = next(variable for variable in cell.weights if variable.name in _READS_INPUTS)
            found.parts.append(_Part(kernel, 0, inputs, "out"))
        if cut:
            found.parts += _own_parts(cell, ids)
    if not cut:
        return None
    states = [_of_states(cell, ids) for cell, ids in zip(cells, ids_of_cells, strict=True)]
    outputs = [own[0] for own in states]  # the first state, or as wide
    both = [None if outputs[0] is None else np.concatenate(outputs)]
    one = layer.forward_layer if isinstance(layer, _K.Bidirectional) else layer
    return [*both, *(ids for own in states for ids in own)] if one.return_state else both


def _of_states(cell, ids):
    """Return the units of each state of a cell, the output's first; None for what is narrowed, or counts steps."""
    sizes = keras.tree.flatten(cell.state_size)
    states = [np.tile(ids, cell.units // len(ids)) if size == cell.units else None for size in sizes]
    return states if getattr(cell, "projection", None) is None else [None, *states[1:]]


def _own_parts(cell, ids):
    narrowed = getattr(cell, "projection", None) is not None  # what the recurrent kernel reads is then no unit
    for variable in cell.weights:
        last = len(variable.shape) - 1
        if variable.name not in _OF_NO_UNIT:
            role = "rides" if variable.name in _STATISTICS else "in"
            yield _Part(variable, last, np.tile(ids, variable.shape[-1] // len(ids)), role)
        if variable.name in _READS_UNITS and not (narrowed and variable.name == "recurrent_kernel"):
            yield _Part(variable, max(last - 1, 0), ids, "out")
