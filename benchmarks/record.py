"""Measured results, as JSON files that say how they came about."""

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "docs" / "results"
_PACKAGES = ("recurrent-zoo", "keras", "tensorflow", "jax", "torch", "numpy", "onnxruntime", "ai-edge-litert")


def record(name, payload):
    """Write `docs/results/NAME.json`: the payload, and the command, versions, machine and date beside it.

    Args:
        name: of the file, `<recipe>-<data>` or that of the benchmark.
        payload: dict of what was measured.

    Returns:
        The file's path.
    """
    script = Path(sys.argv[0]).resolve()
    about = {
        "command": shlex.join(["python", f"benchmarks/{script.name}", *_without_folders(sys.argv[1:])]),
        "commit": _STARTED_FROM,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cpu": _processor(), "cores": len(os.sched_getaffinity(0)), "system": platform.system()},
        "versions": {"python": platform.python_version()} | _versions(),
    }
    path = RESULTS / f"{name}.json"
    unfinished = path.with_suffix(".unfinished")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished.write_text(json.dumps(about | payload, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, path)
    return path


def _without_folders(arguments):
    """The arguments with paths of this machine reduced to their last part: the results are public."""
    return [Path(each).name if os.path.isabs(each) else each for each in arguments]


def current_commit():
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=RESULTS.parents[1], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


_STARTED_FROM = current_commit()  # read now: by the end of a long run there may be another


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _versions():
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
