"""The body of a background task, and the words it is told in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from hotloop.app.names import StrategyName, TaskStatus
from hotloop.app.schemas.runs import BackgroundRequest, RunRequest

ROW = {"item_id": 1, "value": 0.5, "offset": 7}

BODIES: tuple[dict[str, Any], ...] = (
    {},
    {"items_count": 3, "workers": 2, "kernel": "numba", "redis_delay_ms": [1, 4]},
    {"items": [ROW], "parameters": {"cpu_iterations": 3}, "timeout_seconds": 1.5},
    {"db": "pinot", "cache": "none", "max_error_rate": 0.5},
)


def parse(model: type[RunRequest], body: dict[str, Any]) -> RunRequest:
    return model.model_validate_json(json.dumps(body))


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("strategy", list(StrategyName))
def test_run_in_the_background_has_the_requested_spec(
    body: dict[str, Any], strategy: StrategyName
) -> None:
    """Requests compared by their JSON, or by the given fields, are equal as well."""
    made = BackgroundRequest.of(parse(RunRequest, body), strategy)
    asked = parse(BackgroundRequest, body | {"strategy": strategy})
    assert made == asked
    assert made.model_fields_set == asked.model_fields_set
    assert made.model_dump_json() == asked.model_dump_json()
    assert made.strategy is StrategyName(strategy)
    assert (made.total_items, made.db_source, made.cache_source) == (
        asked.total_items,
        asked.db_source,
        asked.cache_source,
    )


def test_task_has_the_fields_of_a_run_and_a_strategy() -> None:
    added = set(BackgroundRequest.model_fields) - set(RunRequest.model_fields)
    assert added == {"strategy", "priority", "webhook"}
    assert BackgroundRequest().model_dump(exclude=added) == RunRequest().model_dump()


@pytest.mark.parametrize("field", ["workers", "batch_size"])
def test_bounds_and_strictness_are_those_of_a_run(field: str) -> None:
    for wrong in ("5", 5.0, 0):
        for model in (RunRequest, BackgroundRequest):
            with pytest.raises(ValidationError):
                parse(model, {field: wrong})


def test_states_that_are_an_end() -> None:
    ended = {status for status in TaskStatus if status.has_ended}
    assert ended == {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED}
