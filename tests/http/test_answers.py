"""Every answer about a task has its links, below the prefix at which the request came in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI

from hotloop.app.names import TaskStatus
from hotloop.app.schemas.tasks import TaskView
from tests.fixtures.client import open_client
from tests.fixtures.fake_services import TASK_ID, FakeServices, comparison, task_view

TASKS = "/api/v1/tasks"


class ComparedServices(FakeServices):
    """Services whose task is a comparison, and whose lists go on."""

    async def get(self, task_id: str) -> TaskView:
        return task_view(task_id).model_copy(update={"comparison": comparison()})


@pytest.fixture
def services() -> FakeServices:
    return ComparedServices(status=TaskStatus.FAILED, too_long="it is too long", kept=5)


def linked(answer: Any) -> Iterator[dict[str, Any]]:
    """Every object in an answer that has links."""
    if isinstance(answer, dict) and "task_id" in answer and "links" in answer:
        yield answer
    for part in answer.values() if isinstance(answer, dict) else answer:
        if isinstance(part, dict | list):
            yield from linked(part)


@pytest.mark.parametrize("prefix", ["", "/hot"])
@pytest.mark.parametrize(
    ("method", "path", "count"),
    [
        ("GET", f"{TASKS}/results", 1),
        ("GET", f"{TASKS}/status/{TASK_ID}", 2),
        ("DELETE", f"{TASKS}/{TASK_ID}", 1),
        ("POST", f"{TASKS}/{TASK_ID}/resume", 1),
        ("POST", f"{TASKS}/{TASK_ID}/retry-failed", 1),
        ("POST", f"{TASKS}/background", 1),
        ("POST", f"{TASKS}/hybrid", 1),
        ("POST", f"{TASKS}/compare", 1),
    ],
)
def test_answer_about_a_task_has_its_links(
    app: FastAPI, prefix: str, method: str, path: str, count: int
) -> None:
    app.root_path = prefix
    with open_client(app) as client:
        response = client.request(method, prefix + path, json={})
    found = list(linked(response.json()))
    assert len(found) == count, response.text
    for one in found:
        assert one["links"] == {
            "status": f"{prefix}{TASKS}/status/{TASK_ID}",
            "results": f"{prefix}{TASKS}/results/{TASK_ID}",
            "cancel": f"{prefix}{TASKS}/{TASK_ID}",
            "resume": f"{prefix}{TASKS}/{TASK_ID}/resume",
            "retry_failed": f"{prefix}{TASKS}/{TASK_ID}/retry-failed",
            "events": f"{prefix}{TASKS}/events/{TASK_ID}",
        }
    if "location" in response.headers:
        assert response.headers["location"] == found[0]["links"]["status"]


@pytest.mark.parametrize("prefix", ["", "/hot"])
def test_page_before_the_last_links_to_the_next(app: FastAPI, prefix: str) -> None:
    app.root_path = prefix
    with open_client(app) as client:
        url = f"{prefix}{TASKS}/results?kind=run&status=failed&limit=1"
        first = client.get(f"{url}&offset=0").json()
        last = client.get(f"{url}&offset=4").json()
    query = "status=failed&kind=run&limit=1&offset=1"
    assert first["next"] == f"{prefix}{TASKS}/results?{query}"
    assert last["next"] is None
