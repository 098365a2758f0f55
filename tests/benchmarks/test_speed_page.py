"""The page on speed says what was recorded."""

from pathlib import Path


def test_the_page_is_what_the_results_say(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    import speed_page

    assert speed_page.PAGE.read_text(encoding="utf-8") == speed_page.page()
