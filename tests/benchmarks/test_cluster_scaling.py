"""The page on many machines says what was measured, and its model is the one that was fitted."""

import json
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def recorded():
    return json.loads((DOCS / "results" / "cluster_scaling.json").read_text())


def test_the_page_says_what_was_recorded(recorded):
    words = " ".join((DOCS / "cluster.md").read_text().split())
    for backend, name in (("tensorflow", "TensorFlow"), ("jax", "JAX")):
        found = recorded[backend]
        assert f"on {name} {found['latency_ms']:.2f} ms and {found['bandwidth_mb_s']:.0f} MB/s" in words
        for layer, each in found["layers"].items():
            for rows, measured in each["step_ms_of_two"]["measured"].items():
                times = each["step_ms_alone"][rows], each["step_ms_of_two"]["predicted"][rows], measured
                assert f"| {name}, {layer} | {rows} | {' | '.join(f'{ms:.0f}' for ms in times)} |" in words
    for one in recorded["tensorflow"]["layers"]["PeepholeLSTM"]["times_as_fast"]:
        figures = one["all_reduce_ms"], one["more_rows"], one["same_rows"]
        assert f"| {one['workers']} | {' | '.join(f'{value:.1f}' for value in figures)} |" in words


def test_the_model_holds_where_the_page_says_that_it_does(recorded):
    for each in recorded["tensorflow"]["layers"].values():
        for rows, measured in each["step_ms_of_two"]["measured"].items():
            assert measured == pytest.approx(each["step_ms_of_two"]["predicted"][rows], rel=0.15)


def test_what_is_predicted_is_the_ring_that_the_page_writes_down(recorded):
    for found in (recorded["tensorflow"], recorded["jax"]):
        latency, bandwidth = found["latency_ms"], 1000 * found["bandwidth_mb_s"]  # bytes a ms
        for each in found["layers"].values():
            for one in each["times_as_fast"]:
                n = one["workers"]
                ring = 2 * (n - 1) * latency + 2 * (n - 1) / n * each["gradient_bytes"] / bandwidth
                assert one["all_reduce_ms"] == pytest.approx(ring)
                alone = each["step_ms_alone"]["64"]
                assert one["more_rows"] == pytest.approx(n * alone / (alone + ring))
