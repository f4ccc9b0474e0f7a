"""cli.run_table, comparison_table, recommendation_table: on a terminal and in a file."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from hotloop.app.cli.comparison_table import (
    WIDE,
    comparison_tables,
    interval_of,
    median_of,
    name_of,
)
from hotloop.app.cli.output import seconds
from hotloop.app.cli.recommendation_table import recommendation_tables
from hotloop.app.cli.run_table import run_tables, task_list, task_table
from tests.fixtures.comparisons import TASK_ID, all_cells, comparison
from tests.fixtures.comparisons import cell as cell_of
from tests.fixtures.fake_services import run_result, task_view
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


def test_comparison_begins_with_its_verdict() -> None:
    compared = comparison()
    assert text_of(comparison_tables(compared), 200).splitlines()[0] == compared.verdict
    failed = comparison(status="failed", error_message="nothing could be measured", verdict="")
    first = text_of(comparison_tables(failed), 200).splitlines()[0]
    assert first == "The comparison failed: nothing could be measured"


def test_comparison_shows_set_up_and_effective_workers() -> None:
    cells = all_cells()
    cells[-1] |= {"effective_workers": 1, "setup_seconds": 3.3, "batch_size": 77}
    compared = comparison(cells=cells, workers=8)
    for width in (80, 200):
        lines = text_of(comparison_tables(compared, width), width).splitlines()
        (line,) = [line for line in lines if line.startswith(" background × numba ")]
        assert "3.3 s" in line
        assert "1 of 8" in line
    wide = text_of(comparison_tables(compared, 200), 200)
    (line,) = [line for line in wide.splitlines() if line.startswith(" background × numba ")]
    assert "77" in line.split()
    assert "with set-up" in wide
    # 1,000 items in 0.464 s, and 3.3 s of set-up.
    assert f"{1_000 / (0.464 + 3.3):,.0f}" in line.split()


def test_comparison_shows_the_cautions_of_the_answer() -> None:
    text = text_of(comparison_tables(comparison()))
    assert "the rounds lie more than 10 % apart: threading × cython" in text
    assert "no time was left: multiprocessing × python" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "Outputs: equal, compared in 20 of 21 cells."),
        ({"outputs_equal": False}, "Outputs: NOT equal, compared in 20 of 21 cells."),
        (
            {"outputs_equal": None, "compared_cells": 1},
            "Outputs: not compared: that takes two cells that were measured.",
        ),
    ],
)
def test_comparison_says_how_many_outputs_were_compared(
    changes: dict[str, Any], words: str
) -> None:
    assert words in text_of(comparison_tables(comparison(**changes)))


def test_winner_is_coloured_on_a_terminal_only() -> None:
    tables = comparison_tables(comparison())
    coloured = text_of(tables, force_terminal=True, color_system="standard")
    assert "\x1b[1;32m" in coloured
    assert "\x1b" not in text_of(tables)


def test_hostile_text_neither_colours_nor_moves_the_cursor() -> None:
    cells = all_cells()
    cells[6]["reason"] = "[red]\x1b[2Jreason\r"
    text = text_of(comparison_tables(comparison(cells=cells, verdict="[bold]\x1b]0;x\x07")))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]" in text
    assert "[bold]" in text


def test_mismatch_is_shown() -> None:
    named = [{"strategy": "hybrid", "kernel": kernel} for kernel in ("numba", "cython")]
    tables = comparison_tables(comparison(mismatches=[{"cells": named, "detail": "differ"}]))
    assert "hybrid × numba, hybrid × cython: differ" in text_of(tables)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0 s"),
        (4.17e-10, "0.417 ns"),
        (4.2e-7, "420 ns"),
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


def test_recommendation_before_the_first_calibration_says_so() -> None:
    assert "Not calibrated" not in text_of(recommendation_tables(recommendation()))
    given = recommendation().model_copy(update={"calibrated": False})
    assert "Not calibrated yet" in text_of(recommendation_tables(given))
    assert "hotloop calibrate" in text_of(recommendation_tables(given))


def run_text(**changes: Any) -> str:
    result = run_result().model_dump(mode="json") | {"total_items": 1_000, "batch_size": 5_000}
    return text_of(run_tables(result | changes), 80)


def test_run_shows_set_up_beside_the_duration_and_throughput_with_both() -> None:
    text = run_text(
        duration_seconds=3.6,
        setup_seconds=33.0,
        throughput_items_per_second=278.0,
        throughput_with_setup_items_per_second=27.3,
    )
    assert "3.6 s, after 33 s of set-up" in text
    assert "278 items/s, 27 with set-up" in text


def test_run_shows_the_workers_that_worked_and_the_batch_size_that_was_chosen() -> None:
    text = run_text(effective_workers=2, requested_workers=8, batch_size=125)
    assert "2 of 8 worked" in text
    assert "125 (chosen)" in text
    assert "125 (chosen)" not in run_text(batch_size=125, requested_batch_size=125)


def test_run_tells_results_that_are_not_finite_from_failed_items() -> None:
    rows = [{"item_id": 1, "level": None, "positive": True}]
    fault = {"item_id": 1, "stage": "db", "reason": "timed out"}
    assert "not finite" in run_text(results=rows)
    assert "True" in run_text(results=rows)
    assert "not finite" not in run_text(results=rows, errors=[fault], failed_items=1)
    assert "not finite" not in run_text(results=rows, failed_items=500)


def test_run_shows_the_cautions_of_the_answer() -> None:
    assert "take fewer" in run_text(cautions=[{"name": "idle-workers", "text": "take fewer"}])


def test_task_says_what_it_waits_for_and_only_then() -> None:
    view = task_view().model_dump(mode="json")
    assert "waiting for" not in text_of(task_table(view), 80)
    waits = text_of(task_table(view | {"waiting_for": "a run host"}), 80)
    assert " ".join(waits.split()).startswith(f"{TASK_ID} waiting for a run host")


def test_nothing_is_wider_than_80_columns_and_ids_are_whole() -> None:
    view = task_view().model_dump(mode="json") | {
        "strategy": "concurrent-futures",
        "kernel": "cython",
        "total_items": 10_000_000,
        "items_processed": 9_999_999,
        "status": "cancelled",
        "error_message": "the run was cancelled by its client while " + "many words " * 30,
    }
    cells = all_cells()
    for each in cells:
        each |= {"flags": ["wide-spread"], "effective_workers": 256, "setup_seconds": 12.345}
    cells[3] |= {"status": "skipped", "reason": "its set-up does not fit the budget " * 5}
    cells += [
        cell_of("dask", kernel, 0.5, effective_workers=256) for kernel in ("python", "cython")
    ]
    lost = {"status": "skipped", "reason": "the ray cluster cannot be reached"}
    cells.append(cell_of("ray", "python", None, **lost))
    page = {"items": [view] * 3, "total": 12_345, "offset": 0}
    shown = {
        "run": run_tables(view["result"]),
        "task": task_table(view),
        "list": task_list(page, 80),
        "comparison": comparison_tables(comparison(cells=cells, workers=256), 80),
        "recommendation": recommendation_tables(recommendation(), 80),
    }
    for name, parts in shown.items():
        text = text_of(parts, 80)
        assert [line for line in text.splitlines() if cell_len(line) > 80] == [], name
        if name in ("run", "task", "list"):
            assert TASK_ID in text
        if name == "comparison":
            assert "the ray cluster cannot be reached" in " ".join(text.split())
            assert "dask × cython" in text


def test_task_says_what_it_waits_for() -> None:
    view = task_view().model_dump(mode="json")
    assert "waits for" not in text_of(task_table(view), 80)
    view["waiting_for"] = "a node with the kernel cython"
    assert "a node with the kernel cython" in text_of(task_table(view), 80)


def test_recommendation_on_a_narrow_terminal_keeps_names_and_times_whole() -> None:
    given = recommendation()
    text = text_of(recommendation_tables(given, 80), 80)
    for choice in given.ranked:
        assert f"{choice.strategy} × {choice.kernel}" in text
        assert seconds(choice.predicted_seconds) in text
