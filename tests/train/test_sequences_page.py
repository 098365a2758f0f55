"""The figures of docs/training.md on long sequences and on learning online are those that were measured."""

import json
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "training.md").read_text()
LABELS = {
    "online": "network, learning online",
    "frozen": "the same network, frozen",
    "rls": "linear, recursive least squares",
    "nlms": "linear, normalised LMS",
}


def recorded(name):
    return json.loads((DOCS / "results" / f"{name}.json").read_text())


def test_the_memory_of_each_length_is_on_the_page():
    measured = recorded("truncated_bptt")
    found = {(row["length"], row["truncated"]): row["peak_mb"] for row in measured["rows"]}
    for length in sorted({length for length, _ in found}):
        assert f"| {length:,} | {found[length, False]:.0f} | {found[length, True]:.0f} |" in PAGE
    settings = measured["settings"]
    assert f"{settings['streams']} sequences side by side, {settings['units']} units" in PAGE
    assert f"windows of {settings['steps']} steps" in PAGE


def test_the_errors_on_the_drifting_sensor_are_on_the_page():
    measured = recorded("drifting_sensor")
    for kind in measured["kinds"].values():
        errors = {
            name: [kind[key][name]["mean"] for key in ("rms_after_calibration", "rms_after_drift")] for name in LABELS
        }
        for name, label in LABELS.items():
            assert f"| {label} | {errors[name][0]:.3f} | {errors[name][1]:.3f} |" in PAGE
        # what the page says of them
        assert all(online < 0.7 * frozen for online, frozen in zip(errors["online"], errors["frozen"], strict=True))
        assert errors["online"][0] < errors["nlms"][0] and errors["online"][1] > errors["rls"][1]
        assert f"{kind['online_ms_a_step']:.1f} ms" in PAGE
    assert f"mean of {len(measured['seeds'])} streams" in PAGE
