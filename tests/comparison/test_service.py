"""comparison.service, execution, measuring: with a kernel that computes something else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from hotloop.app.comparison.loop import ComparisonLoop
from hotloop.app.comparison.measuring import Outputs
from hotloop.app.comparison.service import _within
from hotloop.app.errors import (
    InvalidRequestError,
    NothingMeasuredError,
    OutputsDifferError,
    RunError,
)
from hotloop.app.names import TaskKind, TaskStatus
from hotloop.app.schemas.comparison import CompareRequest
from hotloop.app.schemas.tasks import TaskView
from hotloop.app.settings.settings import Settings
from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks.model import PART, Task
from hotloop.app.tasks.store import TaskStore
from hotloop.app.wiring import open_services

pytestmark = pytest.mark.long

BODY: dict[str, Any] = {
    "items_count": 30,
    "rounds": 1,
    "db": "none",
    "cache": "none",
    "strategies": ["sequential", "async-batch"],
    "parameters": {"cpu_iterations": 50, "outer_iterations": 3, "inner_iterations": 3},
}


def asked_for(kernels: list[str]) -> CompareRequest:
    return CompareRequest.model_validate_json(json.dumps(BODY | {"kernels": kernels}))


async def failed(folder: Path, request: CompareRequest) -> tuple[str, bool, int, str]:
    """End of a failed comparison: (message, outputs_equal, mismatches, first detail)."""
    async with open_services(Settings(data_dir=folder, run_hosts=1)) as services:
        with pytest.raises(OutputsDifferError) as raised:
            await services.comparisons.compare(request)
        error: RunError = raised.value
        assert error.task_id is not None
        view = await services.tasks.get(error.task_id)
    assert view.status is TaskStatus.FAILED
    assert view.comparison is not None
    found = view.comparison
    assert found.winner is None
    assert found.outputs_equal is False
    return (
        str(view.error_message),
        found.outputs_equal,
        len(found.mismatches),
        (found.mismatches[0].detail),
    )


def test_batch_that_differs_between_strategies_fails_the_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, calls = Outputs.add, 0

    def add_wrongly(self: Outputs, result: BatchResult) -> None:
        nonlocal calls
        calls += 1
        object.__setattr__(result, "checksum", result.checksum + (calls == 3))
        add(self, result)

    monkeypatch.setattr(Outputs, "add", add_wrongly)
    request = asked_for(["cython"])
    message, _, count, detail = asyncio.run(failed(tmp_path, request))
    assert "outputs that must be equal are not" in message
    assert count == 1
    assert detail.startswith("checksums over 30 items differ")


def test_python_that_is_out_of_the_parity_bound_fails_the_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Outputs.add
    broken = 0

    def add_once(self: Outputs, result: BatchResult) -> None:
        nonlocal broken
        add(self, result)
        if self.rows and broken == 0:
            broken += 1
            self.rows["nested"][3] += 1

    monkeypatch.setattr(Outputs, "add", add_once)
    request = asked_for(["python", "cython"])
    message, _, count, detail = asyncio.run(failed(tmp_path, request))
    assert "nested of the item at position 3" in message
    assert count == 1
    assert detail.startswith("python and cython")


def test_comparison_that_measured_nothing_fails_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a machine so busy that the warm-up alone takes the whole budget.
    monkeypatch.setattr(ComparisonLoop, "_left", lambda self: -1.0 if self.record.done else 1.0)

    async def run() -> TaskView:
        async with open_services(Settings(data_dir=tmp_path, run_hosts=1)) as services:
            with pytest.raises(NothingMeasuredError) as raised:
                await services.comparisons.compare(asked_for(["cython"]))
            assert raised.value.task_id is not None
            return await services.tasks.get(raised.value.task_id)

    view = asyncio.run(run())
    assert view.status is TaskStatus.FAILED
    assert "2 × the budget was used up before it could be measured" in str(view.error_message)
    assert "raise budget_seconds" in str(view.error_message)
    assert view.comparison is not None
    assert view.comparison.outputs_equal is None


def test_parts_belong_to_the_client_of_their_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison stores its own task and the tasks of its background cells."""
    body = BODY | {"kernels": ["cython"], "strategies": None, "workers": 1}
    request = CompareRequest.model_validate_json(json.dumps(body))
    made: list[tuple[str, str | None]] = []
    create = TaskStore.create

    def noted(self: TaskStore, task: Task, *rest: Any) -> None:
        made.append((task.kind, task.client))
        create(self, task, *rest)

    monkeypatch.setattr(TaskStore, "create", noted)

    async def compared() -> None:
        async with open_services(Settings(data_dir=tmp_path, run_hosts=1)) as services:
            now = await services.comparisons.compare(request, "key:alice")
            later = await services.comparisons.submit(request, "key", "key:alice")
            async for _ in services.background.events(later.task_id, None):
                pass  # until it has ended
            view = await services.tasks.get(later.task_id)
            assert view.status is TaskStatus.COMPLETED, view.error_message
            for task_id in (now.task_id, later.task_id):
                assert services.store.client_of(task_id) == "key:alice"

    asyncio.run(compared())
    assert {kind for kind, _ in made} == {TaskKind.COMPARISON, PART}
    assert {client for _, client in made} == {"key:alice"}
    assert [kind for kind, _ in made].count(PART) >= 2


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, (100.0, 50.0)),
        ({"budget_seconds": 140}, (140.0, 10.0)),
        ({"setup_budget_seconds": 110}, (40.0, 110.0)),
        ({"budget_seconds": 50, "setup_budget_seconds": 100}, (50.0, 100.0)),
    ],
)
def test_budgets_that_are_not_given_fit_into_what_a_client_may_wait(
    given: dict[str, float], kept: tuple[float, float]
) -> None:
    found = _within(150.0, CompareRequest.model_validate_json(json.dumps(given)))
    assert (found.budget_seconds, found.setup_budget_seconds) == kept


@pytest.mark.parametrize(
    "given",
    [
        {"budget_seconds": 300},
        {"setup_budget_seconds": 150},
        {"budget_seconds": 100, "setup_budget_seconds": 51},
    ],
)
def test_given_budgets_that_a_client_may_not_wait_for_are_refused(given: dict[str, float]) -> None:
    request = CompareRequest.model_validate_json(json.dumps(given))
    with pytest.raises(InvalidRequestError, match="at most 150 together") as raised:
        _within(150.0, request)
    assert raised.value.field == "budget_seconds"
