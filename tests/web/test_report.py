"""The report of a comparison (app/cli/report.py, app/web/report.js), in a browser, from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hotloop.app.cli.report import report_page
from hotloop.app.schemas.comparison import Comparison
from tests.fixtures.browser import Page
from tests.fixtures.comparisons import HOSTILE, cell, comparison, hostile

pytestmark = pytest.mark.long


def open_report(page: Page, folder: Path, compared: Comparison) -> str:
    """Open a report of the comparison; return its text."""
    path = folder / "report.html"
    path.write_text(report_page(compared), "utf-8")
    page.open(path.as_uri())
    page.wait_for(".comparison", "The machine" if compared.host else "")
    assert page.faults == []
    assert set(page.requests) <= {path.as_uri(), "data:,"}
    return page.text("body")


def test_report_shows_every_cell_with_its_figures(page: Page, tmp_path: Path) -> None:
    cells = comparison().cells
    text = open_report(page, tmp_path, comparison())
    rows = page.js("[...document.querySelectorAll('.every tbody tr')].map((one) => one.innerText)")
    figures = [[value.strip() for value in row.split("\t")] for row in rows]
    assert {row[0] for row in figures} == {f"{one.strategy} × {one.kernel}" for one in cells}
    first = ["background × numba", "measured", "464 ms", "210 ms", "450 ms to 483 ms", "4.0 %"]
    first += ["86.2 ×", "0.800", "2,155", "1,484", "2", "500", "93 %", "189 MB", "0.400 ms", "–"]
    first += ["1,000", "0", "0000000000000005", "445 ms, 464 ms, 487 ms", "–", "–"]
    assert figures[0] == first
    assert [figures[-1][at] for at in (1, 2, 21)] == ["skipped", "–", "no time was left"]
    assert figures[1][1] == "measured, fastest"
    counts = {".cell": 21, ".track": 20, ".range": 20, ".round": 60, ".track.projected": 1}
    assert {selector: page.count(selector) for selector in counts} == counts
    assert comparison().verdict in text
    for words in ("2025-01-01 00:00 UTC", "AMD EPYC", "numpy 2.4.6", "python none, cython avx2"):
        assert words in text, words
    for words in ("Workload loops", "Best approach\nhybrid", "Setup budget\n60.0 s", "Exact\nno"):
        assert words in text, words
    assert str(comparison().curl) in text
    assert "wide-spread: the rounds lie more than 10 % apart. threading × cython" in text


def test_report_of_a_failed_comparison_starts_with_the_reason(page: Page, tmp_path: Path) -> None:
    failed = comparison(status="failed", error_message="nothing could be measured", winner=None)
    open_report(page, tmp_path, failed)
    assert "nothing could be measured" in page.text("h2 + [role=alert]")
    assert "The comparison is failed." in page.text("main")


def test_winner_and_ties_are_marked_with_words(page: Page, tmp_path: Path) -> None:
    open_report(page, tmp_path, comparison())
    assert "76.9 × · fastest" in page.text(".cell.fastest")
    tied = [{"strategy": s, "kernel": "numba"} for s in ("hybrid", "threading")]
    open_report(page, tmp_path, comparison(winner=None, tied=tied))
    assert (page.count(".cell.fastest"), page.count(".cell.tied")) == (0, 2)


def test_mismatch_is_an_alert(page: Page, tmp_path: Path) -> None:
    named = [{"strategy": "hybrid", "kernel": kernel} for kernel in ("numba", "cython")]
    open_report(page, tmp_path, comparison(mismatches=[{"cells": named, "detail": "differ"}]))
    assert "hybrid × numba, hybrid × cython: differ" in page.text("[role=alert]")


def test_hostile_text_stays_text(page: Page, tmp_path: Path) -> None:
    text = open_report(page, tmp_path, hostile())
    assert page.count("img") == 0
    assert page.count("script") == 2
    assert text.count(HOSTILE[:-5]) >= 11


def test_comparison_without_any_time_has_no_ranking(page: Page, tmp_path: Path) -> None:
    cells = [cell("hybrid", "numba", None), cell("hybrid", "cython", None)]
    odd: dict[str, Any] = {"winner": None, "verdict": "", "host": None, "curl": None}
    odd |= {"cells": cells, "status": "cancelled", "start_time": None, "duration_seconds": None}
    assert "pending" in open_report(page, tmp_path, comparison(**odd))
    assert page.count(".ranking") == 0


@pytest.mark.parametrize("median", [0.0, 1e-9, 1e-3, 86_400.0 * 100])
def test_times_of_any_size_fit_the_chart(page: Page, tmp_path: Path, median: float) -> None:
    one = cell("hybrid", "numba", median, speedup=1.0, throughput_items_per_second=1.0)
    open_report(page, tmp_path, comparison(cells=[one, cell("hybrid", "cython", 1.0)]))
    styles = page.js(
        "[...document.querySelectorAll('.track, .track *')].flatMap((one) =>"
        "['--at', '--low', '--high'].map((name) => one.style.getPropertyValue(name)))"
    )
    places = [float(one.removesuffix("%")) for one in styles if one]
    assert len(places) > 8
    assert all(0 <= place <= 100 for place in places)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1_280, 390])
def test_report_fits_and_is_accessible(page: Page, tmp_path: Path, width: int, theme: str) -> None:
    page.theme(theme)
    page.size(width, 900)
    open_report(page, tmp_path, comparison())
    assert page.js("document.documentElement.scrollWidth") <= width
    assert page.violations() == []
