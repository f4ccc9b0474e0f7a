"""Runs: started by the form, followed, refused, cancelled, taken up again, found in the history."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.browser import Page
from tests.fixtures.guarded import free_port
from tests.fixtures.server import SAMPLE, Server, running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long


def open_view(page: Page, url: str, view: str, title: str) -> None:
    page.open(f"{url}/dashboard#{view}")
    page.wait_for("#view h2", title)


def submit(page: Page, **fields: object) -> None:
    """Fill the form that is shown, and send it."""
    for name, value in fields.items():
        selector = f'#view [name="{name.replace("__", ".")}"]'
        page.wait_for(selector)
        if page.js(f"document.querySelector('{selector}').localName") == "select":
            page.choose(selector, str(value))
        else:
            page.enter(selector, str(value))
    page.click("#view .main")


def tasks(server: Server, **query: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = server.client.get("/api/v1/tasks/results", params=query).json()[
        "items"
    ]
    return items


@contextmanager
def long_task(server: Server, page: Page) -> Iterator[str]:
    """A task that does not come to its end while a test looks at it; shown as running."""
    body = {"items_count": 5_000, "batch_size": 10, "strategy": "sequential", "db_delay_ms": 100}
    answer = server.client.post("/api/v1/tasks/background", json=body)
    task_id = answer.json()["task_id"]
    try:
        page.wait_for("#live .badge", "running")
        yield task_id
    finally:
        server.client.delete(f"/api/v1/tasks/{task_id}")


def test_run_that_ends_at_once_is_shown(server: Server, page: Page) -> None:
    open_view(page, server.url, "run", "Run")
    submit(page, items_count=1, batch_size=1, strategy="sequential", db_delay_ms=0)
    page.wait_for("#live .badge", "completed")
    assert "1 of 1" in page.text("#live .figures")
    assert page.faults == []


def test_form_starts_a_run_and_follows_it_to_its_end(server: Server, page: Page) -> None:
    open_view(page, server.url, "run", "Run")
    submit(page, items_count=400, batch_size=20, strategy="hybrid", kernel="numba", workers=2,
           io_concurrency=40, db_delay_ms=200)  # fmt: skip
    page.wait_for("#view .output a", "task_")
    page.wait("document.querySelector('#live progress')?.value > 0", "progress is shown")
    page.wait_for("#live .badge", "completed")
    page.wait("document.querySelector('#live progress').value === 1", "the bar is full")
    assert "400 of 400" in page.text("#live .figures")
    task = tasks(server, limit=1)[0]
    assert (task["strategy"], task["kernel"], task["status"]) == ("hybrid", "numba", "completed")
    page.click("#live h3 a")
    page.wait_for("#view h2", "hybrid × numba")
    page.wait_for("#view dl", "Checksum")
    checksum = server.client.get(task["links"]["status"]).json()["result"]["checksum"]
    assert checksum in page.text("#view")
    links = page.js("[...document.querySelectorAll('#view a[download]')].map((a) => a.href)")
    assert len(links) == 3
    lines = server.client.get(links[1]).text.splitlines()
    assert len(lines) == 401
    assert page.faults == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_command_below_the_form_matches_the_form(server: Server, page: Page) -> None:
    open_view(page, server.url, "run", "Run")
    page.enter('#view [name="items"]', '[{"item_id": 7, "value": 0.5, "offset": 2}]')
    page.choose('#view [name="strategy"]', "threading")
    page.wait_for("#view pre", "threading")
    shown = page.js("document.querySelector('#view pre').textContent")
    done = subprocess.run(["sh", "-c", shown], capture_output=True, check=True, text=True)
    task = json.loads(done.stdout)
    assert (task["strategy"], task["total_items"]) == ("threading", 1)


def test_refusal_is_shown_at_its_field(server: Server, page: Page) -> None:
    open_view(page, server.url, "run", "Run")
    submit(page, workers=0)
    page.wait_for("#run-workers-fault", "must be at least 1 (got 0)")
    assert page.js("document.activeElement.id") == "run-workers"
    assert page.js("document.activeElement.getAttribute('aria-invalid')") == "true"
    assert page.js("document.activeElement.getAttribute('aria-describedby')").endswith("-fault")
    page.wait_for('#view [role="alert"]', "The request is not valid")
    page.enter('#view [name="workers"]', "1")
    # In a group that is closed.
    page.enter('#view [name="redis_delay_ms"]', "99")
    page.js("document.querySelectorAll('details').forEach((one) => { one.open = false; })")
    page.click("#view .main")
    page.wait_for("#run-redis_delay_ms-fault", "low at most high")
    assert page.js("document.activeElement.checkVisibility()")
    assert page.text("#run-workers-fault") == ""
    assert page.count('#view [aria-invalid="true"]') == 2


def test_entry_that_is_not_a_number_is_not_sent(server: Server, page: Page) -> None:
    open_view(page, server.url, "run", "Run")
    submit(page, workers="1e", items="[1")
    page.wait_for("#run-workers-fault", "must be a number")
    page.wait_for("#run-items-fault", "JSON")
    assert not [url for url in page.requests if url.endswith("/background")]


def test_task_can_be_cancelled_and_resumed(server: Server, page: Page) -> None:
    open_view(page, server.url, "run", "Run")
    with long_task(server, page) as task_id:
        page.click("#live .actions button")
        page.wait_for("#live .badge", "cancelled")
        page.wait_for("#announcer", "cancelled")
        status = server.client.get(f"/api/v1/tasks/status/{task_id}").json()
        assert status["status"] == "cancelled"
        page.click("#live .actions button:not([hidden])")
        page.wait_for("#live .badge", "running")
        page.wait_for("#live .hint", "begun 2 times")
    page.wait_for("#live .badge", "cancelled")


def test_hidden_page_follows_no_task(server: Server, page: Page) -> None:
    open_view(page, server.url, "run", "Run")
    with long_task(server, page) as task_id:
        stream = f"{server.url}/api/v1/tasks/events/{task_id}"
        page.wait("true", "events")
        wait_until(lambda: page.js("1") and stream in page.requests, "the task is followed")
        page.js("Object.defineProperty(document, 'hidden', {get: () => window.away})")
        page.js("window.away = true, document.dispatchEvent(new Event('visibilitychange'))")
        wait_until(lambda: page.js("1") and stream in page.cancelled, "the stream is closed")
        page.js("window.away = false, document.dispatchEvent(new Event('visibilitychange'))")
        wait_until(lambda: page.js("1") and page.requests.count(stream) == 2, "it goes on")


def test_history_can_be_filtered_paged_and_cleared(tmp_path: Path, page: Page) -> None:
    body = {"items_count": 1, "db": "none", "cache": "none"}
    with running_server(tmp_path, run_hosts=1) as server:
        for strategy in ["sequential"] * 21 + ["threading"]:
            assert server.run(strategy, **body).is_success
        open_view(page, server.url, "history", "History")
        page.wait_for("#view caption", "1 to 20 of 22 tasks")
        buttons = "[...document.querySelectorAll('#view button')]"
        page.js(f"{buttons}.find((one) => one.textContent === 'Older').id = 'older'")
        page.click("#older")
        page.wait_for("#view caption", "21 to 22 of 22 tasks")
        assert page.count("#view tbody tr") == 2
        page.choose("#filter-strategy", "threading")
        page.wait_for("#view caption", "1 to 1 of 1 tasks")
        page.wait_for("#view tbody a", "threading")
        page.choose("#filter-status", "failed")
        page.wait_for("#view .none", "No task matches")
        page.click("#view .danger:last-child")
        page.wait_for("dialog[open] p", "Delete all finished tasks")
        page.press("Escape")
        page.wait("!document.querySelector('dialog').open", "it is closed")
        assert len(tasks(server, limit=50)) == 22
        page.click("#view .danger:last-child")
        page.click('dialog [value="yes"]')
        page.wait_for('#view [role="status"]', "22 tasks are deleted")
        assert tasks(server) == []
    assert page.faults == []


def test_history_describes_runs_and_deletes_one(server: Server, page: Page) -> None:
    body = {"items_count": 3, "workers": 2, "batch_size": 2, "db_delay_ms": 0, "cache": "none"}
    kept = server.run("threading", **body).json()["task_id"]
    gone = server.run("sequential", items_count=3, db="none", cache="none").json()["task_id"]
    open_view(page, server.url, "history", "History")
    page.wait_for("#view code", gone)
    rows = page.js("[...document.querySelectorAll('#view tbody tr')].map((row) => row.innerText)")
    cells = {row.split("\t")[-2]: row.split("\t") for row in rows}
    assert cells[kept][0].startswith("threading × ")
    assert cells[kept][1:6] == ["completed", "3", "2", "2", "simulated, none"]
    assert cells[gone][1:6] == ["completed", "3", "4", "auto", "none"]
    page.click("#view tbody tr .danger")
    page.wait_for("dialog[open] p", f"{gone}, with its results?")
    page.click('dialog [value="no"]')
    page.wait("!document.querySelector('dialog').open", "it is closed")
    page.click("#view tbody tr .danger")
    page.click('dialog[open] [value="yes"]')
    page.wait_for('#view [role="status"]', "The task is deleted.")
    assert gone not in page.text("#view")
    assert kept in page.text("#view")
    status = "/api/v1/tasks/status/{}"
    assert server.client.get(status.format(gone)).status_code == 404
    assert server.client.get(status.format(kept)).is_success
    assert page.faults == []


def test_result_shows_setup_workers_and_batches(server: Server, page: Page) -> None:
    body = {"items_count": 40, "workers": 2, "db": "none", "cache": "none"}
    chosen = server.run("threading", **body).json()
    idle = server.run("threading", **body, batch_size=40).json()
    assert idle["flags"] == ["idle-workers"]
    open_view(page, server.url, f"task/{chosen['task_id']}", "threading")
    page.wait_for("#view dl", "Checksum")
    large = page.text("#view .large")
    for words in ("Duration", "Set-up", "Items per second", "Items per second, with set-up"):
        assert f"{words}\n" in large, words
    assert f"Workers that worked\n{chosen['effective_workers']} of 2" in large
    assert f"Batch size\n{chosen['batch_size']}, chosen" in page.text("#view")
    assert page.count(".notes") == 0
    open_view(page, server.url, f"task/{idle['task_id']}", "threading")
    page.wait_for("#view .notes", "idle-workers: batch size 40 makes 1 batch for 2 workers")
    assert "Workers that worked\n1 of 2" in page.text("#view .large")
    assert "Batch size\n40\n" in page.text("#view")
    assert page.faults == []


def test_failed_task_shows_its_reason_first(server: Server, page: Page) -> None:
    body = {"items_count": 50, "strategy": "sequential", "timeout_seconds": 0.1}
    answer = server.client.post("/api/v1/tasks/background", json=body)
    open_view(page, server.url, f"task/{answer.json()['task_id']}", "sequential")
    page.wait_for('#view h2 + div [role="alert"]', "did not finish within timeout_seconds = 0.1")
    page.wait_for("#view .badge", "failed")
    assert page.text("#view").count("did not finish within") == 1


def drop(page: Page, path: Path) -> None:
    """Drag a file over the form, and let it go there."""
    page.wait_for("#view form")
    x, y = page.js(
        "(() => { const box = document.querySelector('#view form').getBoundingClientRect();"
        "return [box.x + 40, box.y + 40]; })()"
    )
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        page.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)


def test_file_dropped_on_the_form_is_run(server: Server, page: Page) -> None:
    open_view(page, server.url, "run", "Run")
    page.choose('#view [name="strategy"]', "threading")
    page.enter('#view [name="parameters.cpu_iterations"]', "5")
    drop(page, SAMPLE)
    page.wait_for("#view pre", "--data-binary '@flights-1000.csv'")
    page.wait_for("#view pre", "/upload?strategy=threading&parameters.cpu_iterations=5'")
    page.click("#view .main")
    page.wait_for('#view [role="status"]', "Started")
    task_id = page.text('#view [role="status"] a')
    page.wait_for("#live .badge", "completed")
    task = server.client.get(f"/api/v1/tasks/status/{task_id}").json()
    assert (task["strategy"], task["total_items"], task["status"]) == (
        "threading",
        1_000,
        "completed",
    )
    assert page.violations() == []
    page.click("#view .file button")
    page.wait_for("#view pre", "/background")
    assert page.faults == []


def test_unusable_file_is_refused_with_the_reason(
    server: Server, page: Page, tmp_path: Path
) -> None:
    open_view(page, server.url, "run", "Run")
    wrong = tmp_path / "items.txt"
    wrong.write_text("1,0.5,7")
    drop(page, wrong)
    page.click("#view .main")
    page.wait_for("#run-file-fault", "must end in .csv, .ndjson or .jsonl")
    assert page.js("document.activeElement.id") == "run-file"
    bad = tmp_path / "items.csv"
    bad.write_text("item_id,value,offset\n1,0.5,7\n2,many,7\n")
    drop(page, bad)
    page.click("#view .main")
    page.wait_for("#live .hint", "line 3, column value: 'many' is not a number")


def test_page_recovers_after_the_service_was_killed(tmp_path: Path, page: Page) -> None:
    port = free_port()
    with running_server(tmp_path, run_hosts=1, port=port) as server:
        open_view(page, server.url, "run", "Run")
        submit(page, items_count=3_000, batch_size=10, strategy="sequential", db_delay_ms=20)
        page.wait_for("#live .badge", "running")
        page.wait("document.querySelector('#live progress').value > 0", "there is progress")
        server.look_below()
        server.stop(signal.SIGKILL)
    page.wait_for("#connection", "lost")
    assert page.text("#live .badge") == "running", "what was known is still shown"
    with running_server(tmp_path, run_hosts=1, port=port) as server:
        page.wait("document.querySelector('#connection').textContent === ''", "it is found again")
        page.wait_for("#live .hint", "begun 2 times")
        before = page.js("document.querySelector('#live progress').value")
        page.wait(f"document.querySelector('#live progress').value > {before}", "progress goes on")
        page.click("#live .actions button")
        page.wait_for("#live .badge", "cancelled")
    refused = [fault for fault in page.faults if "ERR_" not in fault]
    assert refused == [], "nothing but what could not be reached"
