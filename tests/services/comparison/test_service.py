"""Comparisons by the services themselves, with a kernel that computes something else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from app.errors import OutputsDifferError, RunError
from app.names import TaskStatus
from app.schemas.comparison import CompareRequest
from app.services import open_services
from app.services.comparison.measuring import Outputs
from app.settings import Settings
from app.strategies.base import BatchResult

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
    """How a comparison ended that fails: (message, outputs_equal, mismatches, first detail)."""
    async with open_services(Settings(data_dir=folder, run_hosts=1)) as services:
        with pytest.raises(OutputsDifferError) as raised:
            await services.comparisons.compare(request, "http://127.0.0.1:8001")
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
