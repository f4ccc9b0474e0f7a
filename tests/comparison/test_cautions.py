"""Cautions about the cells of a comparison: each once, with the cells that it holds for."""

from __future__ import annotations

from typing import Any

from hotloop.app.comparison.cautions import FLAG_TEXTS, cautions
from hotloop.app.schemas.comparison import Cell, CellFlag
from tests.fixtures.comparisons import all_cells


def found(cells: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    made = cautions([Cell.model_validate(cell) for cell in cells])
    return [(one.name, one.text, one.where) for one in made]


def test_every_flag_has_a_text() -> None:
    assert set(FLAG_TEXTS) == set(CellFlag)


def test_each_caution_appears_once_with_its_cells() -> None:
    cells = all_cells()
    for cell in cells:
        cell["flags"] = ["few-rounds"]
    for at in (0, 1, 2, 7):
        cells[at]["flags"] = ["few-rounds", "idle-workers"]
    assert found(cells) == [
        ("projected", "on 100 of 1,000 items", "sequential × python"),
        ("skipped", "no time was left", "multiprocessing × python"),
        ("few-rounds", "fewer rounds than asked for: the budget was used up", "all 21 cells"),
        (
            "idle-workers",
            "the batch size that was asked for makes fewer batches than there are workers",
            "sequential (all kernels), multiprocessing × cython",
        ),
    ]


def test_reasons_that_differ_only_in_figures_are_one_caution() -> None:
    cells = all_cells()[6:12]
    why = "Set-up takes about {} s, but only {} s of setup_budget_seconds = 60 are left."
    for at, figures in ((0, ("3.1", "1.2")), (1, ("1,022.5", "0")), (4, ("22.1", "0.0"))):
        cells[at] |= {"status": "skipped", "reason": why.format(*figures)}
    text = "Set-up takes about 3.1 … 1,022.5 s, but only 0 … 1.2 s of setup_budget_seconds = 60 are"
    where = "multiprocessing × python and cython, async-batch × cython"
    assert found(cells) == [("skipped", f"{text} left", where)]
