"""Forms and runs of a service whose Dask cluster cannot be reached, and that has no Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fixtures.browser import Browser, Page
from tests.fixtures.guarded import free_port
from tests.fixtures.server import Server, running_server

pytestmark = pytest.mark.long

OPTIONS = (
    "[...document.querySelectorAll('#view [name=\"strategy\"] option')].map((one) => one.value)"
)
BOXES = "[...document.querySelectorAll('#view [name=\"strategies\"]')].map((one) => one.value)"
LOCAL = [
    *("sequential", "threading", "multiprocessing"),
    *("async-batch", "concurrent-futures", "hybrid"),
]


@pytest.fixture(scope="module")
def lost(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    address = f"tcp://127.0.0.1:{free_port()}"
    with running_server(
        tmp_path_factory.mktemp("lost"), run_hosts=1, dask_address=address
    ) as server:
        server.wait_ready()
        yield server


def opened(page: Page, url: str, view: str) -> None:
    page.open(f"{url}/dashboard#{view}")
    page.wait_for(f"#view [id^={view}-]")


def test_forms_offer_a_cluster_only_where_the_service_has_it(
    lost: Server, server: Server, page: Page
) -> None:
    for service, clusters in ((lost, ["dask"]), (server, [])):
        opened(page, service.url, "run")
        assert page.js(OPTIONS) == ["auto", *LOCAL, *clusters]
        opened(page, service.url, "recommend")
        assert page.js(OPTIONS) == ["", *LOCAL, *clusters]
        opened(page, service.url, "compare")
        assert page.js(BOXES) == [*LOCAL, *clusters]


def test_lost_cluster_is_shown_as_the_reason_of_a_comparisons_gap(lost: Server, page: Page) -> None:
    body = {"items_count": 20, "strategies": ["dask", "sequential"], "kernels": ["python"]}
    body |= {"rounds": 1, "db": "none", "cache": "none", "budget_seconds": 5}
    answer = lost.client.post("/api/v1/tasks/compare", json=body)
    page.open(f"{lost.url}/dashboard#task/{answer.json()['task_id']}")
    page.wait(
        "document.querySelector('#view').textContent.includes('dask cluster cannot be reached')",
        "the reason is shown",
    )


def test_task_that_waits_for_its_cluster_is_shown_as_waiting(lost: Server, page: Page) -> None:
    opened(page, lost.url, "run")
    page.choose('#view [name="strategy"]', "dask")
    page.click("#view form button.main")
    page.wait_for("#live", "dask × ")
    page.wait_for("#live", "waits for a node with the strategy dask")
    query = {"strategy": "dask", "status": "pending"}
    assert lost.client.get("/api/v1/tasks/results", params=query).json()["total"] == 1
