"""Comparisons and recommendations on the page."""

from __future__ import annotations

from typing import Any

import pytest

from hotloop.app.comparison.cautions import cautions
from hotloop.app.errors import NotReadyError
from hotloop.app.names import TaskStatus
from hotloop.app.schemas.comparison import CellName, CellStatus, Mismatch
from tests.fixtures.browser import Page
from tests.fixtures.fake_services import TASK_ID
from tests.fixtures.server import Server
from tests.web.stub import Stub, calibration_state, comparison
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
    assert cells[0] == "75.3 s1.00 × · projected2 of 2 workersset-up 210 ms"
    assert cells[4] == "770 ms97.8 × · tied2 of 2 workersset-up 210 ms"
    assert cells[5] == "780 ms96.5 × · tied · flagged2 of 2 workersset-up 210 ms"
    assert cells[6] == "–skipped"
    assert "cannot be told apart" in page.text(".verdict")
    names = "[...document.querySelectorAll('.ranking tbody td:nth-child(2)')]"
    ranked = page.js(f"{names}.map((td) => td.textContent)")
    assert ranked[:3] == ["hybrid × cython tied", "hybrid × numba tied", "background × cython"]
    assert len(ranked) == 8
    assert "wide-spread" in page.text(".notes")
    assert "would take more than its share" in page.text(".notes")
    assert page.faults == []


def test_verdict_with_its_number_comes_first_then_matrix_then_bars(
    stub: tuple[Stub, str], page: Page
) -> None:
    service, url = stub
    page.open(url + VIEW)
    page.wait_for(".headline", "hybrid × cython and hybrid × numba cannot be told apart")
    page.wait_for(".headline", "about 770 ms for 50,000 items, 97.8 times as fast as sequential")
    tops = page.js(
        "['#view h2', '.headline', '.heatmap', '.ranking', '.notes'].map((one) =>"
        "document.querySelector(one).getBoundingClientRect().top)"
    )
    assert tops == sorted(tops)
    size = "(one) => parseFloat(getComputedStyle(document.querySelector(one)).fontSize)"
    headline, heading, body = page.js(f"['.headline', '#view h2', 'body'].map({size})")
    assert headline > 1.5 * body
    assert headline > heading
    winner = CellName.model_validate({"strategy": "hybrid", "kernel": "cython"})
    service.comparison = comparison(winner=winner, tied=[], items_count=1)
    page.open(f"{url}/dashboard")
    page.open(url + VIEW)
    page.wait_for(".headline", "hybrid × cython is the fastest: 770 ms for 1 item, 97.8 times")


def test_comparison_that_measured_nothing_says_why_first(
    stub: tuple[Stub, str], page: Page
) -> None:
    service, url = stub
    why = "nothing could be measured: set-up took 60 s, which is all that it may take"
    skipped: dict[str, Any] = {
        "status": CellStatus.SKIPPED,
        "median_seconds": None,
        "reason": why,
        "flags": [],
    }
    cells = [cell.model_copy(update=skipped) for cell in comparison().cells]
    service.comparison = comparison(
        status="failed", error_message=why, tied=[], outputs_equal=None, compared_cells=0
    ).model_copy(update={"cells": cells, "cautions": cautions(cells)})
    page.open(url + VIEW)
    page.wait_for('#view h2 + div [role="alert"]', why)
    page.wait_for(".headline", "Nothing was measured.")
    page.wait_for(".lead", "Outputs were not compared: that takes two measured cells.")
    assert page.count(".ranking") == 0
    assert page.count(".notes li") == 1, page.text(".notes")
    assert "all 9 cells" in page.text(".notes")


def test_cautions_of_the_answer_are_shown(stub: tuple[Stub, str], page: Page) -> None:
    page.open(stub[1] + VIEW)
    page.wait_for(".notes")
    notes = page.js("[...document.querySelectorAll('.notes li')].map((one) => one.textContent)")
    assert notes == [f"{one.name}: {one.text}. {one.where}" for one in cautions(comparison().cells)]


def test_outputs_say_how_many_cells_were_compared(stub: tuple[Stub, str], page: Page) -> None:
    page.open(stub[1] + VIEW)
    page.wait_for(".lead", "The outputs of 8 of 9 cells were compared: all that must be equal are")


def test_interval_is_shown_by_keyboard_and_by_mouse(stub: tuple[Stub, str], page: Page) -> None:
    page.open(stub[1] + VIEW)
    page.wait_for(".cell")
    page.js("document.querySelector('#cell-sequential-python').focus()")
    page.wait_for("#cell-detail", "73.0 s to 78.3 s")
    page.wait_for("#cell-detail", "Batch size625")
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


def test_axis_is_ruled_where_the_bars_are(stub: tuple[Stub, str], page: Page) -> None:
    service, url = stub
    service.comparison = comparison()
    page.open(url + VIEW)
    page.wait_for(".axis")
    labels = page.js("[...document.querySelectorAll('.axis span')].map((one) => one.textContent)")
    assert labels == ["500 ms", "2 s", "10 s", "50 s"]
    middle = "(one) => { const box = one.getBoundingClientRect(); return box.x + box.width / 2; }"
    at_labels = page.js(f"[...document.querySelectorAll('.axis span')].map({middle})")
    rules = page.count(".rule") / page.count(".track")
    assert rules == len(labels)
    at_rules = page.js(
        f"[...document.querySelector('.track').querySelectorAll('.rule')].map({middle})"
    )
    assert at_rules == pytest.approx(at_labels, abs=2)
    # 36.8 s ends between the rules of 10 s and 50 s, 1.28 s between those of 500 ms and 2 s.
    ends = page.js(
        "[...document.querySelectorAll('.bar')].map((one) => one.getBoundingClientRect().right)"
    )
    assert at_rules[2] < ends[6] < at_rules[3] < ends[7]
    assert at_rules[0] < ends[4] < at_rules[1]
    near = [cell for cell in comparison().cells if cell.kernel != "python"]
    service.comparison = comparison().model_copy(update={"cells": near})
    page.open(f"{url}/dashboard")
    page.open(url + VIEW)
    page.wait_for(".ranking caption", "from zero")
    labels = page.js("[...document.querySelectorAll('.axis span')].map((one) => one.textContent)")
    assert labels == ["0 s", "500 ms", "1 s", "1.5 s"]
    widths = page.js("[...document.querySelectorAll('.bar')].map((bar) => bar.offsetWidth)")
    assert widths[-1] / widths[0] == pytest.approx(1.29 / 0.77, rel=0.02)


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


def test_recommendation_is_shown_and_run(stub: tuple[Stub, str], page: Page) -> None:
    service, url = stub
    page.open(f"{url}/dashboard#recommend")
    page.wait_for("#view form")
    submit(page, items_count=700, workers=2, **{"parameters.cpu_iterations": 5})
    page.wait_for(".output h3", "hybrid × numba should take 770 ms")
    assert service.asked == [("recommend", {"items_count": 700, "workers": 2, "cpu_iterations": 5})]
    text = page.text(".output")
    for words in ("the CPUs limit it", "693 ms to 924 ms", "4 min 0 s", "0.960", "2 of 312"):
        assert words in text, words
    assert "Predictions rest on measurements of this machine." in page.text(".note")
    rows = page.js("[...document.querySelectorAll('.output tbody tr')].map((one) => one.innerText)")
    assert [row.split("\t")[:5] for row in rows] == [
        ["1", "hybrid × numba", "2", "5,000", "1,000"],
        ["2", "threading × numba", "2", "5,000", "1,000"],
    ]
    page.click(".output .main")
    page.wait_for('.output [role="status"]', TASK_ID)
    (submitted,) = [call for call in service.services.calls if call[0] == "submit"]
    request = submitted[1]
    assert (request.items_count, request.workers, request.strategy) == (700, 2, "hybrid")
    assert (request.kernel, request.batch_size) == ("numba", 5_000)
    assert request.parameters["cpu_iterations"] == 5
    assert page.faults == []


def test_choices_stand_in_the_order_of_their_rank(stub: tuple[Stub, str], page: Page) -> None:
    service, url = stub
    service.ranked_backwards = True
    page.open(f"{url}/dashboard#recommend")
    page.wait_for("#view form")
    page.click("#view .main")
    page.wait_for(".output tbody tr")
    ranks = page.js(
        "[...document.querySelectorAll('.output tbody th')].map((one) => one.innerText)"
    )
    assert ranks == ["1", "2"]


def test_recommendation_is_renewed_when_the_machine_is_calibrated(
    stub: tuple[Stub, str], page: Page
) -> None:
    service, url = stub
    service.calibrated = False
    service.calibration = calibration_state("running", 0.4)
    page.open(f"{url}/dashboard#recommend")
    page.wait_for("#view form")
    page.click("#view .main")
    page.wait_for(".note.caution", "Not calibrated yet")
    page.wait_for(".note", "their intervals are wide. Calibrating, 40 %, about 4.00 s left.")
    assert page.js("document.querySelector('.note progress').value") == pytest.approx(0.4)
    service.calibration = calibration_state("running", 0.8)
    page.wait_for(".note", "Calibrating, 80 %")
    assert len(service.asked) == 1
    service.calibrated = True
    service.calibration = calibration_state("completed", 1.0)
    page.wait_for(".note:not(.caution)", "Predictions rest on measurements of this machine.")
    assert [name for name, _ in service.asked] == ["recommend", "recommend"]
    assert not page.js("document.querySelector('.note progress').checkVisibility()")
    assert page.violations() == []
    assert page.faults == []


def test_recommendation_that_is_refused_when_calibrating_ends_is_asked_for_again(
    stub: tuple[Stub, str], page: Page
) -> None:
    service, url = stub
    service.calibrated = False
    service.calibration = calibration_state("running", 0.4)
    page.open(f"{url}/dashboard#recommend")
    page.wait_for("#view form")
    page.click("#view .main")
    page.wait_for(".note", "Calibrating, 40 %")
    service.errors.append(NotReadyError("The run hosts are starting.", 1))
    service.calibrated = True
    service.calibration = calibration_state("completed", 1.0)
    page.wait_for(".note:not(.caution)", "Predictions rest on measurements of this machine.")
    assert [name for name, _ in service.asked] == ["recommend"] * 3
    assert page.count('.note [role="alert"]') == 0


def test_calibration_is_started_by_a_button_and_its_failure_is_told(
    stub: tuple[Stub, str], page: Page
) -> None:
    service, url = stub
    page.open(f"{url}/dashboard#recommend")
    page.wait_for("#view form")
    page.click("#view .main")
    page.wait_for(".note button", "Calibrate anew")
    page.click(".note button")
    page.wait_for(".note", "Calibrating, 0 %")
    assert service.asked[-1] == ("calibrate", None)
    service.calibration = calibration_state("failed", 0.3, error_message="the run host died")
    page.wait_for('.note [role="alert"]', "the run host died")
    page.wait_for(".note button", "Calibrate anew")
    assert page.js("document.querySelector('.note button').checkVisibility()")


def test_recommendation_of_the_service_is_shown(server: Server, page: Page) -> None:
    page.open(f"{server.url}/dashboard#recommend")
    page.wait_for("#view form")
    submit(
        page,
        items_count=700,
        workers=2,
        db="none",
        cache="none",
        **{"parameters.cpu_iterations": 5},
    )
    page.wait_for(".output .lead", "is predicted to take")
    page.wait_for(".note:not(.caution)", "Predictions rest on measurements", bound=100)
    text = page.text(".output")
    for words in ("General advice", "curl -s", '"items_count": 700', "none yet"):
        assert words in text, words
    assert page.count(".output table tbody tr") == 20
    assert page.faults == []
