"""benchmarks/gpu.py where there is no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def run(*arguments, backend="jax"):
    pytest.importorskip("jax")
    return subprocess.run(
        [sys.executable, BENCHMARK, *arguments],
        env={**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_smoke_run_needs_no_gpu_and_names_every_layer_with_its_ratio():
    done = run("--smoke")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 7 and all(line.endswith("x keras LSTM") for line in lines)


def test_without_a_gpu_it_refuses_and_says_what_to_do():
    done = run()
    assert done.returncode == 1
    assert "no GPU" in done.stderr and "--smoke" in done.stderr
