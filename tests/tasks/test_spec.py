"""tasks.spec, with execution.specs: specs of tasks as released versions have stored them."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any, Final

import pytest

from hotloop.app.comparison.specs import compare_request_of
from hotloop.app.errors import UnreadableTaskError
from hotloop.app.execution.specs import request_of, spec_of
from hotloop.app.schemas.runs import RunRequest
from hotloop.app.tasks.needs import needs_of
from hotloop.app.tasks.spec import SPEC_VERSION, InputKind, TaskSpec, has_files, input_of

_VERSION_0: Final[dict[str, Any]] = json.loads("""
{"batch_size": "auto", "workers": 4, "io_concurrency": 1000, "kernel": "python",
 "workload": "loops", "db": "none", "cache": "none", "cache_mode": "lookup",
 "query_batch_size": 500, "simulate_db_delay": true, "simulate_redis_delay": true,
 "db_delay_ms": 1000.0, "redis_delay_ms": [1.0, 10.0], "timeout_seconds": null,
 "max_error_rate": 1.0, "parameters": {"cpu_iterations": 20000, "outer_iterations": 100,
 "inner_iterations": 200}, "input": {"kind": "upload", "media_type": "text/csv"},
 "origin": {"request_id": "27801f6d8d9d4b55acf494e936e38e07"}}
""")
STORED: Final = {
    0: _VERSION_0,
    1: _VERSION_0 | {"version": 1, "needs": {"bytes": 90_000_000}},
}
"""A stored row of every released version; add one when SPEC_VERSION is raised."""

COMPARISON: Final = _VERSION_0 | {
    "strategies": ["sequential", "threading"],
    "kernels": ["python"],
    "rounds": 2,
    "budget_seconds": 120.0,
    "setup_budget_seconds": 60.0,
    "exact": False,
    "items_count": 60,
    "shown_items": None,
    "base_url": "http://127.0.0.1:35755",
    "input": {"kind": "generated", "media_type": None},
}


def test_a_row_of_every_version_is_kept() -> None:
    assert set(STORED) == set(range(SPEC_VERSION + 1))


@pytest.mark.parametrize("version", STORED)
def test_stored_specs_of_every_version_are_read(version: int) -> None:
    spec = TaskSpec.from_json(STORED[version])
    assert spec.version == version
    assert {**spec.to_json(), "version": version} == {**STORED[version], "version": version}
    assert input_of(STORED[version]) == (InputKind.UPLOAD, "text/csv")
    assert has_files(STORED[version])
    request = request_of(STORED[version], RunRequest)
    assert (request.workers, request.redis_delay_ms) == (4, (1.0, 10.0))
    assert request.parameters["outer_iterations"] == 100


def test_stored_comparisons_are_read() -> None:
    request = compare_request_of(COMPARISON)
    assert (request.rounds, request.total_items, request.kernels) == (2, 60, ("python",))
    assert not has_files(COMPARISON)


def test_spec_round_trip_changes_nothing() -> None:
    request = RunRequest(workers=3, db="none", redis_delay_ms=(2.0, 3.0), batch_size=7)
    made = spec_of(request, InputKind.GENERATED)
    stored = json.loads(json.dumps(made.to_json()))
    assert replace(TaskSpec.from_json(stored), redis_delay_ms=(2.0, 3.0)) == made
    assert request_of(stored, RunRequest).model_dump() == request.model_dump() | {
        "cache": "simulated"
    }
    assert set(stored) == {field.name for field in fields(TaskSpec)} - {
        "origin",
        "needs",
        "priority",
        "webhook",
    }


def test_newer_spec_is_refused_and_needs_a_newer_node() -> None:
    newer = STORED[SPEC_VERSION] | {"version": SPEC_VERSION + 1}
    with pytest.raises(UnreadableTaskError, match=f"of version {SPEC_VERSION + 1}, and this"):
        TaskSpec.from_json(newer)
    needs = needs_of("run", "loops", "python", "sequential", newer)
    assert f"spec:{SPEC_VERSION + 1}" in needs.abilities


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ({}, "its request is empty"),
        ({"workers": 1}, "its request lacks a field"),
        (_VERSION_0 | {"version": "x"}, "of version 'x'"),
    ],
)
def test_unreadable_spec_is_refused_with_the_reason(stored: dict[str, Any], words: str) -> None:
    with pytest.raises(UnreadableTaskError, match=words):
        TaskSpec.from_json(stored)


def test_wrong_values_are_refused_by_their_name() -> None:
    with pytest.raises(UnreadableTaskError, match="its workers must be an integer"):
        request_of(_VERSION_0 | {"workers": "many"}, RunRequest)
    with pytest.raises(UnreadableTaskError, match="where its items are"):
        input_of({"input": None})
