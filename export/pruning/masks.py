"""Which weights stay: masks by magnitude, by block, and m zeros in any n.

The same masks as those of tfmot's `Pruning`, in NumPy, for backends that tfmot does not know.
"""

import math
from numbers import Real

import numpy as np

from zoo import checks
from zoo.errors import SettingError
from zoo.export.pruning.schedules import check_share

STRUCTURES = ("magnitude", "block", "m_by_n")
_SIZES = {"magnitude": None, "block": (4, 1), "m_by_n": (2, 4)}


def check_structure(structure, size, sparsity):
    """Return (size, sparsity) with what is left open filled in.

    Raises:
        SettingError: a value that cannot be used.
    """
    checks.choice(structure, "structure", STRUCTURES)
    if structure == "magnitude" and size is not None:
        raise SettingError(f"size is {checks.shown(size)}; structure 'magnitude' has none, leave it out")
    size = _SIZES[structure] if size is None else size
    if size is not None:
        size = _two_numbers(size)
    if structure == "m_by_n":
        zeros, group = size
        if zeros >= group:
            raise SettingError(f"size is {size}; expected fewer zeros than there are in a group, such as (2, 4)")
        if not isinstance(sparsity, (Real, type(None))) or sparsity not in (None, zeros / group):
            raise SettingError(
                f"sparsity is {checks.shown(sparsity)}, but {zeros} zeros in {group} are {zeros / group}; leave it out"
            )
        return size, zeros / group
    check_share("sparsity", sparsity)
    return size, float(sparsity)


def _two_numbers(size):
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise SettingError(f"size is {checks.shown(size)}; expected two whole numbers of at least 1, such as (4, 1)")
    return tuple(checks.whole(number, f"size[{place}]") for place, number in enumerate(size))


def check_shape(path, shape, structure):
    """Raise SettingError unless a weight of this shape can be pruned in `structure`."""
    if structure == "block" and len(shape) != 2:
        raise SettingError(
            f"{path} has the shape {tuple(shape)}, and blocks are cut from matrices only; "
            "name the other layers with layers=, or take another structure"
        )
    if structure == "m_by_n" and len(shape) not in (2, 3, 4):
        raise SettingError(
            f"{path} has the shape {tuple(shape)}; m_by_n takes 2 to 4 dimensions, the last two (inputs, outputs): "
            "name the other layers with layers="
        )


def mask(weight, sparsity, structure, size):
    """Return the mask of an array, of its shape and dtype: 1 where a weight stays, 0 elsewhere.

    Args:
        weight: array; the last two axes of a matrix or kernel are (inputs, outputs).
        sparsity: share of zeros; of no account for "m_by_n".
        structure: one of `STRUCTURES`.
        size: (height, width) of a block, or (m, n): at least m zeros in n weights in a row of one output.
    """
    if structure == "m_by_n":
        return _m_by_n(weight, *size).astype(weight.dtype)
    if structure == "magnitude":
        return largest(np.abs(weight), sparsity).astype(weight.dtype)
    blocks = largest(_block_means(np.abs(weight), *size), sparsity)
    height, width = weight.shape
    return np.repeat(np.repeat(blocks, size[0], axis=0), size[1], axis=1)[:height, :width].astype(weight.dtype)


def largest(magnitudes, sparsity):
    """Return where the largest are, all but a share of `sparsity`; of equals at the border all."""
    kept = np.round(np.float32(magnitudes.size) * (np.float32(1) - np.float32(sparsity)))  # in float32 as tfmot's is
    kept = max(int(kept), 1)
    return magnitudes >= np.partition(magnitudes, magnitudes.size - kept, axis=None)[magnitudes.size - kept]


def _block_means(magnitudes, block_height, block_width):
    """The mean of each block; one at the lower or right border may be cut short."""
    height, width = magnitudes.shape
    rows, columns = np.arange(0, height, block_height), np.arange(0, width, block_width)
    sums = np.add.reduceat(np.add.reduceat(magnitudes, rows, axis=0), columns, axis=1)
    heights, widths = np.diff([*rows, height]), np.diff([*columns, width])
    return sums / np.outer(heights, widths).astype(magnitudes.dtype)


def _m_by_n(weight, zeros, group):
    inputs = np.moveaxis(np.abs(weight), -2, -1)  # the inputs of one output in a row: as devices store them
    groups = math.ceil(inputs.shape[-1] / group)
    missing = groups * group - inputs.shape[-1]
    padded = np.pad(inputs, [(0, 0)] * (inputs.ndim - 1) + [(0, missing)])
    padded = padded.reshape(*inputs.shape[:-1], groups, group)
    order = np.argsort(-padded, axis=-1, kind="stable")  # of equals the first stay
    stays = np.zeros(padded.shape, bool)
    np.put_along_axis(stays, order[..., : group - zeros], True, axis=-1)
    stays = stays.reshape(*inputs.shape[:-1], groups * group)[..., : inputs.shape[-1]]
    return np.moveaxis(stays, -1, -2)
