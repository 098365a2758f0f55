"""How sparse a model is, and what that saves."""

import gzip
from dataclasses import dataclass

from zoo.export.contents import file_at, read_bytes


@dataclass(frozen=True)
class WeightRow:
    """One row of a report: a weight, its shape, its number of entries and the share of them that are zero."""

    path: str
    shape: tuple
    size: int
    zeros: float


@dataclass(frozen=True)
class SparsityReport:
    """The zeros of all weights that can be pruned; `print(report)` shows the table.

    Args:
        rows: a `WeightRow` for each weight.
        parameters: number of all parameters of the model, those that cannot be pruned too.
    """

    rows: tuple
    parameters: int

    @property
    def zeros(self):
        """The share of zeros over all rows."""
        return sum(row.zeros * row.size for row in self.rows) / sum(row.size for row in self.rows)

    def __str__(self):
        cells = [("weight", "shape", "zeros")]
        cells += [(row.path, " x ".join(map(str, row.shape)), f"{row.zeros:.1%}") for row in self.rows]
        pruned = sum(row.size for row in self.rows)
        cells.append(("total", f"{pruned:,} of {self.parameters:,} parameters", f"{self.zeros:.1%}"))
        widths = [max(len(row[i]) for row in cells) for i in range(2)]
        return "\n".join(f"{path.ljust(widths[0])}  {shape.ljust(widths[1])}  {zeros}" for path, shape, zeros in cells)


def sparsity_report(model):
    """Count the zeros in every weight of `model` that can be pruned.

    Args:
        model: a built Keras model.

    Returns:
        A `SparsityReport`.

    Raises:
        SettingError: the model has nothing that can be pruned.
    """
    import numpy as np
    from keras import ops

    from zoo.export.pruning.weights import prunable

    rows = []
    for variable in prunable(model):
        values = ops.convert_to_numpy(variable)
        rows.append(WeightRow(variable.path, values.shape, values.size, float(np.mean(values == 0))))
    return SparsityReport(tuple(rows), model.count_params())


def gzipped_size(path):
    """Return the bytes that a file takes when it is compressed, as most ways to a device do.

    Args:
        path: of the file.

    Raises:
        DataError: there is no such file.
    """
    data = read_bytes(file_at(path, "an exported file"))
    return len(gzip.compress(data, compresslevel=9, mtime=0))
