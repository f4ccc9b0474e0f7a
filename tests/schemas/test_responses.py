"""schemas.base, results, tasks, service: responses as JSON."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from hotloop.app.schemas.base import Problem
from hotloop.app.schemas.results import ResultRow, RunResult
from hotloop.app.schemas.service import (
    Check,
    Health,
    KernelList,
    KernelView,
    Readiness,
    ServiceIndex,
    TaskIndex,
    WorkloadView,
)
from hotloop.app.schemas.tasks import ClearedTasks, Shards, TaskPage, TaskProgress, TaskView
from tests.fixtures.fake_services import run_result, task_view

RESPONSES: tuple[type[BaseModel], ...] = (
    Check,
    ClearedTasks,
    Health,
    KernelList,
    KernelView,
    Problem,
    Readiness,
    ResultRow,
    RunResult,
    ServiceIndex,
    Shards,
    TaskIndex,
    TaskPage,
    TaskProgress,
    TaskView,
    WorkloadView,
)


def test_result_row_keeps_the_kind_of_each_number() -> None:
    row = ResultRow.model_validate({"item_id": 3, "loop": 2.0, "nested": 9_388_000, "gone": None})
    assert row.model_dump_json() == '{"item_id":3,"loop":2.0,"nested":9388000,"gone":null}'


def test_result_row_takes_numbers_only() -> None:
    with pytest.raises(ValueError, match="loop"):
        ResultRow.model_validate({"item_id": 3, "loop": "x"})


def test_times_are_iso_8601_in_utc() -> None:
    assert run_result().model_dump(mode="json")["start_time"] == "2026-01-01T00:00:00Z"


def test_page_leaves_results_out() -> None:
    page = TaskPage(items=[task_view()], total=1, limit=50, offset=0, next=None)
    assert "result" not in page.model_dump(mode="json")["items"][0]


@pytest.mark.parametrize("model", RESPONSES, ids=lambda model: str(model.__name__))
def test_every_field_is_always_there(model: type[BaseModel]) -> None:
    schema = model.model_json_schema(mode="serialization")
    optional = set(schema["properties"]) - set(schema["required"])
    assert bool(optional) == (model is Problem)
