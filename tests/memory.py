"""The peak memory of some code, measured in a process of its own: this one's peak is that of all tests before."""

import subprocess
import sys
import textwrap

_MEASURE = """
from pathlib import Path

def megabytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024

def growth(function):
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is held
    before = megabytes("VmRSS")
    function()
    return megabytes("VmHWM") - before
"""


def printed_by(code):
    """Run `code`, which has `growth(function)`, the megabytes that a call adds at its peak; return what it printed."""
    code = _MEASURE + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [float(line) for line in done.stdout.split()]
