"""What the page makes of comparisons and recommendations."""

from __future__ import annotations

import pytest

from app.names import TaskStatus
from app.schemas.comparison import CellFlag, CellStatus, Mismatch
from tests.fixtures.browser import Page
from tests.fixtures.fake_services import TASK_ID
from tests.fixtures.server import Server
from tests.web.stub import Stub, comparison
from tests.web.test_runs import submit

pytestmark = pytest.mark.long

VIEW = f"/dashboard#task/{TASK_ID}"
CELLS = "[...document.querySelectorAll('.cell')].map((cell) => cell.textContent)"


def test_comparison_is_started_by_the_form_and_shown_as_a_matrix(
    stub: tuple[Stub, str], page: Page
) -> None:
    service, url = stub
    page.open(f"{url}/dashboard#compare")
    page.wait_for("#view form")
    page.click('#view [name="strategies"][value="threading"]')
    submit(page, items_count=500, rounds=2)
    page.wait_for("#view h2", "Comparison")
    strategies = ["sequential", "multiprocessing", "async-batch", "concurrent-futures", "hybrid"]
    wanted = {"items_count": 500, "rounds": 2, "strategies": strategies}
    assert service.asked == [("compare", wanted)]
    assert page.count(".heatmap tbody tr") == 3
    cells = page.js(CELLS)
    assert len(cells) == 9
    assert cells[0] == "75.3 s1.00 × · projected"
    assert cells[4] == "770 ms97.8 × · tied"
    assert cells[5] == "780 ms96.5 × · tied · flagged"
    assert cells[6] == "–skipped"
    assert "cannot be told apart" in page.text(".verdict")
    names = "[...document.querySelectorAll('.ranking tbody td:nth-child(2)')]"
    ranked = page.js(f"{names}.map((td) => td.textContent)")
    assert ranked[:3] == ["hybrid × cython tied", "hybrid × numba tied", "background × cython"]
    assert len(ranked) == 8
    assert "wide-spread" in page.text(".notes")
    assert "would take more than its share" in page.text(".notes")
    assert page.faults == []


def test_interval_is_shown_by_keyboard_and_by_mouse(stub: tuple[Stub, str], page: Page) -> None:
    page.open(stub[1] + VIEW)
    page.wait_for(".cell")
    page.js("document.querySelector('#cell-sequential-python').focus()")
    page.wait_for("#cell-detail", "73.0 s to 78.3 s")
    page.wait_for("#cell-detail", "a round of 500 items, extrapolated")
    page.press("Tab")
    page.wait_for("#cell-detail", "1.25 s to 1.34 s")
    described = page.js("document.activeElement.getAttribute('aria-describedby')")
    assert described == "cell-detail", "a screen reader says it, too"
    page.hover("#cell-hybrid-numba")
    page.wait_for("#cell-detail", "757 ms to 811 ms")
    page.wait_for("#cell-detail", "the rounds lie more than 10 % apart")


def test_colours_go_with_the_figures(stub: tuple[Stub, str], page: Page) -> None:
    page.open(stub[1] + VIEW)
    page.wait_for(".cell")
    of = "(name) => getComputedStyle(document.getElementById(name)).backgroundColor"
    fast, middle, slow = page.js(
        f"['cell-hybrid-cython', 'cell-hybrid-python', 'cell-sequential-python'].map({of})"
    )
    assert len({fast, middle, slow}) == 3


def test_bars_stand_on_a_logarithmic_scale(stub: tuple[Stub, str], page: Page) -> None:
    page.open(stub[1] + VIEW)
    page.wait_for(".track")
    widths = page.js("[...document.querySelectorAll('.bar')].map((bar) => bar.offsetWidth)")
    assert widths == sorted(widths)
    # 0.77 s and 1.28 s, 36.8 s and 75.3 s: equal steps for equal ratios.
    steps = (widths[4] - widths[0]) / (widths[7] - widths[6])
    assert 0.5 < steps < 1


def test_mismatch_is_an_error_and_not_a_footnote(stub: tuple[Stub, str], page: Page) -> None:
    service, url = stub
    mismatch = Mismatch.model_validate(
        {
            "cells": [{"strategy": "hybrid", "kernel": "cython"}],
            "detail": "checksums differ: 9f86 and 0000",
        }
    )
    service.comparison = comparison(outputs_equal=False, mismatches=[mismatch])
    page.open(url + VIEW)
    page.wait_for('#view [role="alert"]', "checksums differ: 9f86 and 0000")


def test_comparison_grows_while_it_runs_and_the_focus_stays(
    stub: tuple[Stub, str], page: Page
) -> None:
    service, url = stub
    done = comparison()
    pending = {"status": CellStatus.PENDING, "median_seconds": None, "interval_seconds": None}
    cells = [cell.model_copy(update=pending) for cell in done.cells]
    service.comparison = done.model_copy(
        update={
            "status": TaskStatus.RUNNING,
            "cells": cells,
            "tied": [],
            "verdict": "",
            "curl": None,
        }
    )
    page.open(url + VIEW)
    page.wait_for(".cell", "pending")
    assert page.count(".ranking") == 0
    page.js("document.querySelector('#cell-hybrid-numba').focus()")
    service.comparison = done
    page.wait_for(".verdict", "cannot be told apart")
    assert page.js("document.activeElement.id") == "cell-hybrid-numba"
    assert "780 ms" in page.text("#cell-hybrid-numba")


def test_every_flag_is_explained(stub: tuple[Stub, str], page: Page) -> None:
    page.open(f"{stub[1]}/dashboard")
    flags = page.js("import('/dashboard/comparison.js').then(({FLAGS}) => Object.keys(FLAGS))")
    assert flags == [flag.value for flag in CellFlag]


def test_recommendation_is_shown_and_run(stub: tuple[Stub, str], page: Page) -> None:
    service, url = stub
    page.open(f"{url}/dashboard#recommend")
    page.wait_for("#view form")
    submit(page, items_count=700, cpu_iterations=5, workers=2)
    page.wait_for(".output h3", "hybrid × numba")
    assert service.asked == [("recommend", {"items_count": 700, "workers": 2, "cpu_iterations": 5})]
    text = page.text(".output")
    for words in ("the CPUs limit it", "693 ms to 924 ms", "4 min 0 s", "0.960", "2 of 312"):
        assert words in text, words
    page.click(".output .main")
    page.wait_for('.output [role="status"]', TASK_ID)
    (submitted,) = [call for call in service.services.calls if call[0] == "submit"]
    request = submitted[1]
    assert (request.items_count, request.workers, request.strategy) == (700, 2, "hybrid")
    assert (request.kernel, request.batch_size) == ("numba", 5_000)
    assert request.parameters.cpu_iterations == 5
    assert page.faults == []


def test_recommendation_of_the_service_is_shown(server: Server, page: Page) -> None:
    page.open(f"{server.url}/dashboard#recommend")
    page.wait_for("#view form")
    submit(page, items_count=700, cpu_iterations=5, workers=2, db="none", cache="none")
    page.wait_for(".output .verdict", "is predicted to take", bound=60)
    text = page.text(".output")
    for words in ("General advice", "curl -s", '"items_count": 700', "none yet"):
        assert words in text, words
    assert page.count(".output table tbody tr") == 20
    assert page.faults == []
