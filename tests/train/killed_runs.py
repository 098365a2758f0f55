"""Runs `zoo train` again and again, killing it at random moments, until it has finished; prints when it was killed.

    python killed_runs.py KILLS SEED FOLDER ARGUMENTS...

First one run that is left alone, to FOLDER/whole; then FOLDER/killed-0 and so on, one after the other, until there were
KILLS kills, the last being left to finish. Each run is a process of its own, forked from this one to spare the imports.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import keras  # noqa: F401  for the forks
import tensorflow  # noqa: F401

from zoo.cli import main


def start(arguments):
    process = os.fork()
    if process == 0:
        status = 99
        try:
            status = main(arguments)
        finally:
            os._exit(status)
    return process


def finish(process):
    """Wait for a run."""
    check(os.waitpid(process, 0)[1])


def check(status):
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"the run ended with status {os.waitstatus_to_exitcode(status)}")


def kill(process, run, draw):
    """Kill a run after none to two checkpoints more, at a random moment; return whether it had not ended before."""
    before, wanted = places(run), draw.choice([0, 1, 1, 2])
    moment = None if wanted else time.monotonic() + draw.uniform(0, 5)
    while moment is None or time.monotonic() < moment:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            check(status)
            return False
        if moment is None and len(places(run) - before) >= min(wanted, 3):
            moment = time.monotonic() + draw.uniform(0, 0.3)
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    print(f"killed with {max(places(run), default='no checkpoint')}", file=sys.stderr, flush=True)
    return True


def places(run):
    """Return where in training the checkpoints of a run are."""
    return {path.name[:15] for path in Path(f"{run}.unfinished").glob("checkpoints/[0-9]*")}


if __name__ == "__main__":
    kills, seed, folder, *arguments = sys.argv[1:]
    draw = random.Random(int(seed))
    finish(start([*arguments, "--out", f"{folder}/whole"]))
    left, number = int(kills), 0
    while left:
        run = f"{folder}/killed-{number}"
        while left and kill(start([*arguments, "--out", run]), run, draw):
            left -= 1
        number += 1
    if not Path(run).exists():
        finish(start([*arguments, "--out", run]))
