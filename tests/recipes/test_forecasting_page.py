"""The figures of docs/forecasting.md are those that were measured."""

import json
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "forecasting.md").read_text()


def recorded(name):
    return json.loads((DOCS / "results" / f"{name}.json").read_text())


def test_the_errors_of_each_horizon_are_on_the_page():
    measured = recorded("forecasting-etth1")
    for horizon, found in measured["errors"].items():
        published, beside = measured["published"][horizon], measured["beside"][horizon]
        cells = [f"{found[n]['mean']:.3f} ± {found[n]['off']:.3f}" for n in ("mse", "mae")]
        cells += [f"{published['mse']:.3f}", f"{published['mae']:.3f}", f"{beside['coverage']['mean']:.3f}"]
        assert f"| {horizon} | {' | '.join(cells)} |" in PAGE
    seconds = measured["training_seconds"].values()
    assert f"{measured['seeds']} seeds" in PAGE and f"{min(seconds):.0f} to {max(seconds):.0f} s" in PAGE
    windows = [each["windows"]["mean"] for each in measured["beside"].values()]
    assert windows == [2880 - int(horizon) + 1 for horizon in measured["errors"]]  # every one, none dropped


def test_the_files_are_on_the_page():
    measured = recorded("forecasting-files")
    assert f"{measured['model']['mse']:.4f} / {measured['model']['mae']:.4f}" in PAGE
    for name, found in measured["files"].items():
        row = f"| {name} | {found['mse']:.4f} | {found['mae']:.4f} | {found['bytes'] / 1024:.0f} | "
        assert row + f"{found['latency_ms']:.2f} |" in PAGE


def test_the_m4_scores_are_on_the_page():
    measured = recorded("forecasting-m4-weekly")
    ours, naive = measured["mean"], measured["naive"]
    assert f"| ours | {ours['smape']:.3f} | {ours['mase']:.3f} |" in PAGE
    assert f"| the last value | {naive['smape']:.3f} | {naive['mase']:.3f} |" in PAGE
    # the organisers' figures for the same forecast: so that the scores are the competition's, to the digits they print
    assert naive == pytest.approx(measured["published"]["naive"], abs=0.001)


def test_the_variants_and_the_comparison_on_beijings_air_are_on_the_page():
    measured = recorded("forecasting-pm25")
    names = ("quantile_loss", "coverage", "mse", "mae")
    for split in ("validation", "test"):
        table = PAGE.partition(f"| {split} | ")[2].partition("\n\n")[0]
        for name, found in measured[split].items():
            cells = [f"{found[score]:.3f}" for score in names]
            cells += [f"{found['parameters']:,}", f"{found['seconds']:.0f}"] if "parameters" in found else []
            assert f"| {name} | {' | '.join(cells)} |" in table, (split, name)
    losses = {name: measured["validation"][name]["quantile_loss"] for name in measured["settings"]["variants"]}
    assert measured["chosen"].startswith(f"{min(losses, key=losses.get)}, by") and len(losses) >= 4
    text, windows = " ".join(PAGE.split()), {found["windows"] for found in measured["test"].values()}
    assert len(windows) == 1 and f"{windows.pop():,} windows" in text  # all were asked the same
    assert f"{measured['missing']:,} of 43,824 values missing" in text


def test_the_forecast_that_failed_is_on_the_page():
    worst, text = recorded("forecasting-pm25")["worst"], " ".join(PAGE.split())
    assert f"](pictures/{worst['picture']})" in text and (DOCS / "pictures" / worst["picture"]).is_file()
    day, hour = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d):00:00", worst["from"]).groups()
    assert f"from {hour}:00 on {day}" in text
    for name in ("peak", "median_at_peak", "high_at_peak"):
        assert f"{worst[name]:.0f} μg/m³" in text, name
