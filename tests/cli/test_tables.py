"""Comparisons and recommendations on a terminal and in a file."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType

from app.cli.cell_words import interval_of, median_of, name_of
from app.cli.comparison_table import WIDE, comparison_tables
from app.cli.output import seconds
from app.cli.recommendation_table import recommendation_tables
from tests.fixtures.comparisons import all_cells, comparison
from tests.fixtures.recommendations import recommendation


def text_of(parts: list[RenderableType], width: int = 200, **options: object) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, **options)  # type: ignore[arg-type]
    for part in parts:
        console.print(part)
    return file.getvalue()


def test_comparison_shows_every_cell_with_median_and_interval() -> None:
    compared = comparison()
    text = text_of(comparison_tables(compared))
    for cell in compared.cells:
        line = next(line for line in text.splitlines() if f" {name_of(cell)} " in line)
        assert median_of(cell) in line
        assert interval_of(cell) in line
    assert "520 ms ★" in text
    assert "~40 s" in text
    assert "837 ms !" in text
    assert compared.verdict in text
    assert compared.curl is not None
    assert compared.curl in text


def test_comparison_on_a_narrow_terminal_keeps_names_and_times_whole() -> None:
    compared = comparison()
    text = text_of(comparison_tables(compared, 80), 80)
    for cell in compared.cells:
        assert name_of(cell) in text
        assert interval_of(cell) in text
    assert "items/s" not in text
    assert "items/s" in text_of(comparison_tables(compared, WIDE))


def test_winner_is_coloured_on_a_terminal_only() -> None:
    tables = comparison_tables(comparison())
    coloured = text_of(tables, force_terminal=True, color_system="standard")
    assert "\x1b[1;32m" in coloured
    assert "\x1b" not in text_of(tables)


def test_hostile_text_neither_colours_nor_moves_the_cursor() -> None:
    cells = all_cells()
    cells[0]["reason"] = "[red]\x1b[2Jreason\r"
    text = text_of(comparison_tables(comparison(cells=cells, verdict="[bold]\x1b]0;x\x07")))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]" in text
    assert "[bold]" in text


def test_mismatch_is_said() -> None:
    named = [{"strategy": "hybrid", "kernel": kernel} for kernel in ("numba", "cython")]
    tables = comparison_tables(comparison(mismatches=[{"cells": named, "detail": "differ"}]))
    assert "hybrid × numba, hybrid × cython: differ" in text_of(tables)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0 s"),
        (4.2e-7, "0.42 µs"),
        (0.0123, "12.3 ms"),
        (0.9996, "1 s"),
        (0.5204, "520 ms"),
        (1.0, "1 s"),
        (99.96, "100 s"),
        (12_345.6, "12,346 s"),
    ],
)
def test_seconds_have_three_digits(value: float | None, text: str) -> None:
    assert seconds(value) == text


def test_recommendation_shows_ranking_reason_and_command() -> None:
    given = recommendation()
    text = text_of(recommendation_tables(given))
    for choice in given.ranked:
        assert f"{choice.strategy} × {choice.kernel}" in text
        assert seconds(choice.predicted_seconds) in text
    assert given.explanation in text
    assert given.curl in text
    assert "the GIL" in text
    assert "75% within 25 %" in text
    assert "lower bound" in text


def test_recommendation_on_a_narrow_terminal_keeps_names_and_times_whole() -> None:
    given = recommendation()
    text = text_of(recommendation_tables(given, 80), 80)
    for choice in given.ranked:
        assert f"{choice.strategy} × {choice.kernel}" in text
        assert seconds(choice.predicted_seconds) in text
