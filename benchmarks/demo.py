"""What `make demo` prints and how long it takes, for the README.

python benchmarks/demo.py
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import record

ZOO = Path(sys.executable).with_name("zoo")
WAV = Path(__file__).parents[1] / "zoo" / "data" / "demo" / "seven.wav"


def main():
    steps = []
    with tempfile.TemporaryDirectory() as folder:
        for command in (
            ["train", "keyword_spotting", "--out", "run"],
            ["export", "run", "--out", "keywords"],
            ["verify", "keywords"],
            ["run", "keywords", str(WAV)],
        ):
            start = time.perf_counter()
            done = subprocess.run([ZOO, *command], cwd=folder, capture_output=True, text=True, check=True)
            seconds = round(time.perf_counter() - start, 1)
            command[-1] = Path(command[-1]).name
            steps.append(
                {"command": " ".join(["zoo", *command]), "seconds": seconds, "prints": done.stdout.splitlines()}
            )
            print("\n".join([f"$ {steps[-1]['command']}   # {seconds} s", *steps[-1]["prints"]]), flush=True)
    record("demo", {"data": "the built-in demo set, synthetic speech", "seeds": [0], "steps": steps})


if __name__ == "__main__":
    main()
