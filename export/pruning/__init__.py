"""Fewer weights: single ones, blocks or groups of them set to zero, or whole units taken out."""

from zoo import checks
from zoo.errors import SettingError


def prune(model, *, sparsity=None, structure="magnitude", size=None, layers=None):
    """Return a copy of `model` with the weights or units that matter least taken out, at once.

    What is lost is won back by training on. To prune while training, which keeps more at high sparsity, take the
    callback `zoo.export.Pruning`; to go on training and keep the zeros, `Pruning(sparsity, schedule="constant")`.

        "magnitude"    the smallest single weights become zero
        "block"        the rectangles of a matrix whose mean magnitude is the smallest
        "m_by_n"       of any n weights in a row that one output unit reads, the m smallest
        "units"        whole units of recurrent layers are taken out: the layer and all that read it become smaller

    Units are ranked by |weights into the unit| * |weights out of it|: one that nobody listens to goes first, and what
    the model computes stays the same. LayerNormLSTM and EchoState keep all units, which depend on each other; of a
    projected PeepholeLSTM the memory goes, of an SLSTM the units of a place in every head. Their readers may be Dense,
    Conv1D, recurrent layers of either direction, BatchNormalization and LayerNormalization (which then takes its mean
    over fewer), with dropout, pooling over time, concatenation and elementwise activations between.

    Args:
        model: built Keras model, Sequential or functional; it stays as it is.
        sparsity: float in (0, 1), share of the weights of each matrix, or of the units of each layer, that go; left out
            with "m_by_n", where m / n is.
        structure: see above.
        size: (height, width) of a block in (inputs, outputs), by default (4, 1); (m, n), by default (2, 4).
        layers: list of names of layers, to prune only these; None for all that have something to prune.

    Returns:
        A new model of the same kind, not compiled.

    Raises:
        SettingError: an argument cannot be used, there is nothing to prune, or (naming it) a layer stands between units
            and their readers that cannot be made smaller.
        ExportError: a weight is NaN or infinite.

    Example:
        >>> model = keras.Sequential([keras.Input((20, 5)), keras.layers.LSTM(8), keras.layers.Dense(2)])
        >>> prune(model, sparsity=0.25, structure="units").layers[0].units
        6
    """
    from zoo.export.pruning import masks, schedules

    checks.choice(structure, "structure", (*masks.STRUCTURES, "units"))
    if structure != "units":
        size, sparsity = masks.check_structure(structure, size, sparsity)
        return _with_zeros(model, sparsity, structure, size, layers)
    from zoo.export.pruning.units import drop_units

    schedules.check_share("sparsity", sparsity)
    if size is not None:
        raise SettingError(f"size is {checks.shown(size)}; structure 'units' has none, leave it out")
    return drop_units(model, sparsity=sparsity, layers=layers)


def _with_zeros(model, sparsity, structure, size, layers):
    from keras import ops

    from zoo.export.pruning.masks import check_shape, mask
    from zoo.export.pruning.rebuild import check_rebuildable, rebuild
    from zoo.export.pruning.weights import prunable

    check_rebuildable(model)
    for variable in prunable(model, layers):
        check_shape(variable.path, variable.shape, structure)
    pruned = rebuild(model, units={}, cuts={})
    for variable in prunable(pruned, layers):
        weight = ops.convert_to_numpy(variable)
        variable.assign(weight * mask(weight, sparsity, structure, size))
    return pruned
