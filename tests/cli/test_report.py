"""The report of a comparison as a file; tests/web/test_report.py looks at it in a browser."""

from __future__ import annotations

import json
import re
from typing import Any

from hotloop.app.cli.report import report_page
from hotloop.app.schemas.comparison import Comparison
from tests.fixtures.comparisons import comparison, hostile


def held_by(page: str) -> Comparison:
    """The comparison that a report holds."""
    found = re.search(r'<script type="application/json" id="comparison">(.*?)</script>', page)
    assert found is not None
    held: dict[str, Any] = json.loads(found[1])
    return Comparison.model_validate(held)


def test_report_holds_the_comparison() -> None:
    assert held_by(report_page(comparison())) == comparison()


def test_hostile_text_ends_no_script() -> None:
    page = report_page(hostile())
    assert held_by(page) == hostile()
    assert page.count("<script") == 2
    assert "<img" not in page
    assert "\x1b" not in page


def test_report_loads_no_external_resource() -> None:
    page = report_page(comparison())
    head = page.partition("<style>")[0]
    assert re.findall(r'(?:src|href)="(.*?)"', page) == ["data:,"]  # no icon is asked for
    assert "content=\"default-src 'none'; script-src 'sha256-" in head
    assert "url(" not in page
    assert "@import" not in page
    assert re.findall("^(?:import|export) ", page, re.MULTILINE) == []


def test_report_is_small_and_the_same_for_the_same_comparison() -> None:
    page = report_page(comparison())
    assert len(page.encode()) < 100_000
    assert page == report_page(comparison())
