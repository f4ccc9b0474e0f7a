"""The page of a comparison: one file, complete, safe, readable by all."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from hotloop.app.cli.cell_words import FLAG_WORDS, interval_of, median_of, name_of, times
from hotloop.app.cli.report_page import report_page
from hotloop.app.schemas.comparison import CellFlag, Comparison
from tests.fixtures.comparisons import all_cells, cell, comparison

HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=y>\x1b[31m"

VOID = {"meta", "link", "br", "img"}


class Page(HTMLParser):
    """The elements of a page, and its text; whether every element is closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    def count(self, tag: str, class_: str | None = None) -> int:
        return sum(
            name == tag and (class_ is None or class_ in (attributes.get("class") or "").split())
            for name, attributes in self.elements
        )


def test_page_asks_nobody_for_anything() -> None:
    text = report_page(comparison())
    page = Page(text)
    references = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href")
    ]
    assert references == ["data:,"]  # no icon is asked for
    assert "url(" not in text
    assert "@import" not in text
    assert page.count("script") == page.count("iframe") == page.count("img") == 0
    assert not [n for _, attributes in page.elements for n in attributes if n.startswith("on")]
    policies = [a for tag, a in page.elements if "http-equiv" in a]
    assert (policies[0]["content"] or "").startswith("default-src 'none'")


def test_page_holds_every_cell_with_its_figures() -> None:
    compared = comparison()
    page = Page(report_page(compared))
    assert page.count("td", "cell") == 21
    assert page.count("line", "median") == 20  # all but the one that was skipped
    assert page.count("circle", "round") == 60
    assert page.count("rect", "bar") == 40
    assert page.count("line", "projected") == 1
    for one in compared.cells:
        assert name_of(one) in page.texts
        assert median_of(one) in " ".join(page.texts)
        assert interval_of(one) in page.texts
        assert times(one.speedup) in page.texts
        assert (one.checksum or "–") in page.texts
    assert "on 100 of 1,000 items" in page.texts
    assert "no time was left" in page.texts
    assert "outliers; wide-spread" in page.texts or "wide-spread; outliers" in page.texts
    assert FLAG_WORDS[CellFlag.WIDE_SPREAD] in page.texts


def test_page_says_each_caution_once_with_the_cells_that_it_holds_for() -> None:
    cells = all_cells()
    for one in cells:
        one["flags"] = ["few-rounds"]
    texts = Page(report_page(comparison(cells=cells))).texts
    assert texts.count(FLAG_WORDS[CellFlag.FEW_ROUNDS]) == 1
    assert " all 21 cells" in texts
    assert texts.count("no time was left") == 1


def test_page_shows_set_up_workers_and_what_was_compared() -> None:
    cells = [cell("threading", "numba", 0.5, setup_seconds=3.5, effective_workers=1, batch_size=77)]
    texts = Page(report_page(comparison(cells=cells, workers=8))).texts
    assert {"3.5 s", "1 of 8", "77", "250"} <= set(texts)  # 1,000 items in 4 s
    assert "Outputs: equal, compared in 20 of 1 cells." in texts


def test_page_of_a_failed_comparison_begins_with_the_reason() -> None:
    failed = comparison(status="failed", error_message="nothing could be measured")
    page = Page(report_page(failed))
    assert page.texts[2] == "nothing could be measured"


def test_every_flag_has_words() -> None:
    assert set(FLAG_WORDS) == set(CellFlag)


def test_winner_and_tied_are_marked_by_more_than_colour() -> None:
    page = Page(report_page(comparison()))
    assert page.count("td", "winner") == 1
    assert "★ 520 ms" in page.texts
    tied = [{"strategy": s, "kernel": "numba"} for s in ("hybrid", "threading")]
    page = Page(report_page(comparison(winner=None, tied=tied)))
    assert page.count("td", "winner") == 0
    assert page.count("td", "tied") == 2
    assert "= 520 ms" in page.texts


def test_page_has_verdict_command_and_machine() -> None:
    compared = comparison()
    texts = Page(report_page(compared)).texts
    assert compared.verdict in texts
    assert compared.curl in texts
    assert "AMD EPYC; 2 of 4 usable" in texts
    assert {"numba", "0.68.1"} <= set(texts)


def test_page_can_be_read_without_seeing_it() -> None:
    page = Page(report_page(comparison()))
    assert ("html", {"lang": "en"}) in page.elements
    assert page.count("h1") == page.count("main") == 1
    assert page.count("caption") == page.count("table") == 2
    for tag, attributes in page.elements:
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
        if tag == "svg":
            assert attributes["role"] == "img"
    # Each plot has a name and says where the same is in words; each row has a name.
    assert page.count("desc") == page.count("svg") == page.count("figure") == 3
    assert page.count("title") == 1 + 3 + page.count("g")
    wide = [attributes for tag, attributes in page.elements if attributes.get("class") == "wide"]
    assert len(wide) == 5
    assert all(each["tabindex"] == "0" and each["aria-label"] for each in wide)


def test_page_is_for_light_and_dark() -> None:
    text = report_page(comparison())
    assert "color-scheme: light dark" in text
    assert "prefers-color-scheme: dark" in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_to_its_ground(scheme: str) -> None:
    """4.5 : 1, as WCAG 2.2 asks for text (1.4.3), on the strongest colour of the heat map too."""
    style = re.search(r"<style>(.*?)</style>", report_page(comparison()), re.DOTALL)
    assert style is not None
    both = style[1].split("@media (prefers-color-scheme: dark)")
    variables = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6}|[\d, ]+);", both[scheme == "dark"]))
    ground, fill = variables["ground"], variables["fill"]
    for name in ("text", "soft", "best", "bad"):
        assert contrast(rgb(variables[name]), rgb(ground)) >= 4.5
    assert contrast(rgb(variables["text"]), rgb(fill)) >= 4.5
    heat = [int(part) for part in variables["heat"].split(",")]
    strongest = [0.4 * h + 0.6 * g for h, g in zip(heat, rgb(ground), strict=True)]
    assert contrast(rgb(variables["text"]), strongest) >= 4.5


def rgb(colour: str) -> list[float]:
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]


def contrast(one: list[float], other: list[float]) -> float:
    """WCAG 2.2, contrast ratio."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: list[float]) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [c / 255 for c in colour]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def hostile() -> Comparison:
    cells = all_cells()
    cells[0]["reason"] = cells[1]["checksum"] = HOSTILE
    named = [{"strategy": "hybrid", "kernel": "numba"}]
    host: dict[str, Any] = comparison().model_dump(mode="json")["host"]
    texts = ("python", "system", "cpu")
    return comparison(
        cells=cells,
        verdict=HOSTILE,
        curl=HOSTILE,
        workload=HOSTILE,
        task_id=HOSTILE,
        error_message=HOSTILE,
        best_approach=HOSTILE,
        mismatches=[{"cells": named, "detail": HOSTILE}],
        host=host | dict.fromkeys(texts, HOSTILE) | {"versions": {HOSTILE: HOSTILE}},
    )


def test_hostile_text_stays_text() -> None:
    text = report_page(hostile())
    page = Page(text)
    assert page.count("script") == page.count("img") == 0
    assert "\x1b" not in text
    assert sum(HOSTILE[:-5] in part for part in page.texts) >= 11


def test_mismatch_is_an_alert() -> None:
    named = [{"strategy": "hybrid", "kernel": kernel} for kernel in ("numba", "cython")]
    page = Page(report_page(comparison(mismatches=[{"cells": named, "detail": "differ"}])))
    assert any(attributes.get("role") == "alert" for _, attributes in page.elements)
    assert any("hybrid × numba, hybrid × cython: differ" in part for part in page.texts)


def test_comparison_without_any_time_has_no_plots() -> None:
    cells = [cell("hybrid", "numba", None), cell("hybrid", "cython", None)]
    odd = {"cells": cells, "winner": None, "verdict": "", "host": None, "curl": None}
    page = Page(report_page(comparison(status="cancelled", start_time=None, **odd)))
    assert page.count("svg") == 0
    assert "pending" in page.texts


@pytest.mark.parametrize("median", [0.0, 1e-9, 1e-3, 86_400.0 * 100])
def test_times_of_any_size_have_their_place(median: float) -> None:
    one = cell("hybrid", "numba", median, speedup=1.0, throughput_items_per_second=1.0)
    text = report_page(comparison(cells=[one, cell("hybrid", "cython", 1.0)]))
    places = [float(x) for x in re.findall(r'(?:x1|cx|x)="([-\d.]+)"', text)]
    assert places
    assert all(0 <= x <= 900 for x in places)


def test_page_of_the_whole_matrix_is_small() -> None:
    assert len(report_page(comparison()).encode()) < 100_000


def test_same_comparison_gives_the_same_page() -> None:
    assert report_page(comparison()) == report_page(comparison())
