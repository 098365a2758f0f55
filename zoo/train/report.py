"""What `Diagnosis` left in the folder of a run, as text."""

import json
from pathlib import Path

from zoo.errors import DataError
from zoo.train.findings import Finding
from zoo.train.run_folder import DIAGNOSIS


def read(folder):
    """Return the findings of a run with figures, limits and sources, and how far gradients reach, as lines of text.

    Args:
        folder: that of a run, finished or not.

    Raises:
        DataError: there is no diagnosis in it, or it is damaged.
    """
    path = Path(folder).expanduser().absolute() / DIAGNOSIS
    if not path.is_file():
        path = path.parent.with_name(f"{path.parent.name}.unfinished") / DIAGNOSIS
    if not path.is_file():
        raise DataError(f"{folder} has no {DIAGNOSIS}, expected the folder of a run that learnt by gradient.")
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        findings, measured = [Finding(**one) for one in written["findings"]], dict(written["measured"])
        lines = [line for one in findings for line in _of_finding(one)] or ["nothing found"]
        for epoch, seen in list(measured.items())[-1:]:
            lines += ["", f"after epoch {epoch}", *_of_gradients(seen["gradients"])]
            lines += [line for name, curve in seen["lags"].items() for line in _of_lags(name, curve)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error!r}), expected what training wrote: train again.") from error
    return "\n".join(lines)


def _of_finding(found):
    yield f"epoch {found.epoch}: {found}"
    yield f"    source of the limit: {found.source}"


def _of_gradients(norms):
    width = max(map(len, norms), default=0)
    return [f"{name:{width}}  |dLoss/dweights| {norm:.3g}" for name, norm in norms.items()]


def _of_lags(name, curve):
    """A row of lags, each twice the one before, and the gradient's norm at each."""
    lags = [0, *(2**power for power in range(12) if 2**power < len(curve) - 1), len(curve) - 1]
    yield f"{name}  |dLoss/dh[T - lag]|"
    yield "  lag   " + "".join(f"{lag:>9}" for lag in lags)
    yield "  norm  " + "".join(f"{curve[lag]:>9.2g}" for lag in lags)
