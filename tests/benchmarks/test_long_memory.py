"""The data of benchmarks/long_memory.py."""

import json
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def long_memory(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    import long_memory

    return long_memory


@pytest.mark.parametrize("steps", [2, 5, 40])
def test_the_answer_of_the_adding_problem_is_the_sum_of_the_two_marked_numbers(long_memory, steps):
    x, y = long_memory.adding_problem(np.random.default_rng(1), 30, steps)
    assert x.shape == (30, steps, 2) and y.shape == (30, 1)
    for numbers, marks, answer in zip(x[..., 0], x[..., 1], y[:, 0], strict=True):
        (first, second) = np.flatnonzero(marks)
        assert first < steps // 2 <= second
        assert answer == pytest.approx(float(numbers[first]) + float(numbers[second]), abs=1e-6)  # of float32


def test_always_1_is_wrong_by_a_sixth_at_the_adding_problem(long_memory):
    _, y = long_memory.adding_problem(np.random.default_rng(1), 20_000, 4)
    # the variance of the sum of two uniform numbers; the mean of 20,000 squares strays from it by 0.0014
    assert np.square(y - 1).mean() == pytest.approx(1 / 6, abs=0.006)


def test_the_page_on_layers_says_what_was_recorded():
    docs = Path(__file__).parents[2] / "docs"
    recorded = json.loads((docs / "results" / "long_memory-digits.json").read_text())
    means = [100 * np.mean(recorded[name]["test_accuracy"]) for name in ("IndRNN", "LSTM")]
    words = " ".join((docs / "layers.md").read_text().split())
    adding = json.loads((docs / "results" / "long_memory-adding.json").read_text())
    assert f"a mean squared error of {adding['mse']:.4f} on fresh sequences" in words
    assert "reaches {:.1f}% on the test split, an LSTM of as many weights {:.1f}%".format(*means) in words
