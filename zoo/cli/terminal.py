"""What the commands share of the terminal: where they write, and what is kept off it."""

import logging
import os
import sys
import warnings
from contextlib import contextmanager

from zoo.errors import ZooWarning


def console():
    """Return rich's view of the error stream: answers alone go to the output, so that they can be piped."""
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def notices_hidden():
    """Keep what TensorFlow and the runtimes say of themselves off the terminal, unless TF_CPP_MIN_LOG_LEVEL is 0.

    Their native code writes to the process's error stream and obeys no setting before it is loaded. So that stream ends
    nowhere, while `sys.stderr`, for what Python has to say, goes on to where it went.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0" or sys.__stderr__ is None:
        yield
        return
    for name in ("tensorflow", "tf2onnx", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ZooWarning)
    show, warnings.showwarning = warnings.showwarning, _show_warning
    before, seen = sys.stderr, os.dup(2)
    with open(seen, "w", buffering=1, encoding="utf-8", errors="backslashreplace") as still_seen:
        if before is sys.__stderr__:  # and not what a test or notebook put in its place
            sys.stderr = still_seen
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(seen, 2)
            sys.stderr = before
            warnings.showwarning = show


def _show_warning(message, *place):
    console().print(str(message), style="yellow", markup=False, highlight=False, soft_wrap=True)


def print_scores(scores):
    """Print the single numbers among a recipe's scores; others, such as the history, are left to the run's file."""
    numbers = {name: value for name, value in scores.items() if isinstance(value, (int, float))}
    width = max(map(len, numbers))
    for name, value in numbers.items():
        print(f"{name:{width}}  {value:.4g}")
