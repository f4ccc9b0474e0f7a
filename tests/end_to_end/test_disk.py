"""`database.sqlite`: on a full disk the service refuses, leaves no partial file and goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.fixtures.server import MAIN, listening_url, logging_process

pytestmark = pytest.mark.long

LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))
os.execv(sys.argv[1], sys.argv[1:])
"""

FAST = {"cpu_iterations": 10, "outer_iterations": 1, "inner_iterations": 10}


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A service whose files may not exceed two megabytes: like a full disk, also for root."""
    log = tmp_path / "log"
    command = (sys.executable, "-c", LIMITED, *MAIN)
    with logging_process(log, command=command, port=0, run_hosts=1, data_dir=tmp_path):
        yield listening_url(log)


def test_run_whose_results_do_not_fit_fails_and_keeps_stored_ones(url: str, tmp_path: Path) -> None:
    body = {"items_count": 500_000, "db": "none", "cache": "none", "parameters": FAST}
    answer = httpx.post(f"{url}/api/v1/tasks/threading", json=body, timeout=60)
    assert answer.status_code == 503
    reason = answer.json()["detail"]
    assert "the task store hotloop.sqlite3: the disk" in reason
    assert "full" in reason
    assert str(tmp_path) not in answer.text
    (task,) = httpx.get(f"{url}/api/v1/tasks/results").json()["items"]
    assert (task["status"], task["error_message"]) == ("failed", reason)

    rows = httpx.get(f"{url}{task['links']['results']}", timeout=60).text.splitlines()
    assert len(rows) == task["items_processed"] < 500_000

    # Deleting the task makes room.
    assert httpx.delete(f"{url}/api/v1/tasks/results").json() == {"deleted": 1}
    fits = body | {"items_count": 40_000}
    answer = httpx.post(f"{url}/api/v1/tasks/threading", json=fits, timeout=60)
    assert answer.json()["status"] == "completed", answer.text
    task_id = answer.json()["task_id"]
    rows = httpx.get(f"{url}/api/v1/tasks/results/{task_id}", timeout=60).text.splitlines()
    assert len(rows) == 40_000


def test_upload_that_does_not_fit_is_refused_and_leaves_no_file(url: str, tmp_path: Path) -> None:
    rows = b"item_id,value,offset\n" + b"1,2.0,3\n" * 400_000
    answer = httpx.post(
        f"{url}/api/v1/tasks/upload",
        content=rows,
        headers={"Content-Type": "text/csv"},
        timeout=60,
    )
    assert answer.status_code == 503
    assert "cannot be stored" in answer.json()["detail"]
    assert list((tmp_path / "uploads").iterdir()) == []
    assert httpx.get(f"{url}/health").status_code == 200
