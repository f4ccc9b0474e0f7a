"""Measurements are added up over attempts and shards, and stored as JSON."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hotloop.app.errors import UnreadableTaskError
from hotloop.app.execution.run_body import RunBody
from hotloop.app.runhost.measurements import KEPT_ERRORS, LagSummary, Measurements
from hotloop.app.sources.base import ItemError, StageCounts
from hotloop.app.strategies.checksum import MODULUS
from hotloop.app.tasks.model import Shard

counts = st.integers(0, 2**40)
seconds = st.floats(0, 1e9)
milliseconds = st.floats(0, 1e6)
errors = st.builds(
    ItemError, st.integers(-(2**63), 2**63 - 1), st.sampled_from(["db", "cache"]), st.text()
)
stages = st.dictionaries(
    st.sampled_from(["db", "cache"]),
    st.tuples(
        st.sampled_from(["redis", "pinot"]),
        st.builds(StageCounts, counts, counts, counts, counts),
    ),
)
details = st.builds(
    Measurements,
    checksum=st.integers(0, MODULUS - 1),
    errors=st.lists(errors, max_size=5).map(tuple)
    | st.integers(KEPT_ERRORS - 2, KEPT_ERRORS).map(
        lambda n: tuple(ItemError(i, "db", "no row") for i in range(n))
    ),
    stages=stages,
    io_seconds=seconds,
    duration_seconds=st.none() | seconds,
    setup_seconds=st.none() | seconds,
    effective_workers=st.none() | st.integers(1, 1_000),
    cpu_seconds=st.none() | seconds,
    cpu_utilization=st.none() | st.floats(0, 1),
    peak_memory_bytes=st.none() | counts,
    event_loop_lag_ms=st.none() | st.builds(LagSummary, milliseconds, milliseconds, milliseconds),
)

FEWER = settings(max_examples=30)
"""Measurements are slow to generate, and these rules are simple."""

FULL = Measurements(
    checksum=MODULUS - 1,
    errors=(ItemError(7, "db", "no row for 7"), ItemError(-1, "cache", "é")),
    stages={"db": ("redis", StageCounts(1, 2, 3, 4)), "cache": ("pinot", StageCounts(5, 6, 7, 8))},
    io_seconds=0.1 + 0.2,
    duration_seconds=2.0,
    setup_seconds=0.5,
    effective_workers=3,
    cpu_seconds=1.5,
    cpu_utilization=0.25,
    peak_memory_bytes=1 << 40,
    event_loop_lag_ms=LagSummary(1.0, 2.0, 3.0),
)


def as_close(one: Measurements) -> dict[str, Any]:
    """Return fields that compare by ==, floats to within rounding."""
    values = {field.name: getattr(one, field.name) for field in fields(Measurements)}
    return {
        name: pytest.approx(value) if isinstance(value, float) else value
        for name, value in values.items()
        if name != "cpu_utilization"
    }


# --- as JSON -------------------------------------------------------------------------------


@FEWER
@given(details)
@example(Measurements())
@example(FULL)
def test_json_round_trip_preserves_measurements(one: Measurements) -> None:
    stored = json.loads(json.dumps(one.to_json()))
    assert Measurements.from_json(stored) == one
    assert [stage["stage"] for stage in stored["stages"]] == list(one.stages)


def test_json_has_the_names_that_clients_know() -> None:
    stored = FULL.to_json()
    assert set(stored) == {field.name for field in fields(Measurements)}
    assert stored["checksum"] == "ffffffffffffffff"
    assert stored["errors"][0] == {"item_id": 7, "stage": "db", "reason": "no row for 7"}
    assert stored["stages"][1] == {
        "stage": "cache",
        "source": "pinot",
        "calls": 5,
        "retries": 6,
        "hits": 7,
        "misses": 8,
    }
    assert stored["event_loop_lag_ms"] == {"p50": 1.0, "p99": 2.0, "max": 3.0}


def test_shard_without_details_has_measured_nothing() -> None:
    assert Measurements.from_json(None) == Measurements()


# --- adding --------------------------------------------------------------------------------


@FEWER
@given(details, details, details)
def test_plus_is_associative(one: Measurements, two: Measurements, three: Measurements) -> None:
    assert as_close(one.plus(two).plus(three)) == as_close(one.plus(two.plus(three)))


@FEWER
@given(details)
@example(FULL)
def test_empty_measurements_change_nothing(one: Measurements) -> None:
    assert Measurements().plus(one) == one.plus(Measurements()) == one


@FEWER
@given(details, details)
def test_plus_changes_neither(one: Measurements, two: Measurements) -> None:
    before = json.dumps(one.to_json()), json.dumps(two.to_json())
    one.plus(two).plus(two)
    assert (json.dumps(one.to_json()), json.dumps(two.to_json())) == before


def test_plus_of_each_field() -> None:
    later = Measurements(
        checksum=3,
        errors=(ItemError(1, "db", "x"),),
        stages={"db": ("pinot", StageCounts(10, 20, 30, 40))},
        io_seconds=1.0,
        duration_seconds=6.0,
        setup_seconds=0.25,
        effective_workers=2,
        cpu_seconds=0.5,
        cpu_utilization=0.75,
        peak_memory_bytes=5,
        event_loop_lag_ms=LagSummary(2.0, 1.0, 4.0),
    )
    total = FULL.plus(later)
    assert total == Measurements(
        checksum=2,
        errors=(*FULL.errors, *later.errors),
        stages={
            "db": ("pinot", StageCounts(11, 22, 33, 44)),
            "cache": ("pinot", StageCounts(5, 6, 7, 8)),
        },
        io_seconds=0.1 + 0.2 + 1.0,
        duration_seconds=8.0,
        setup_seconds=0.75,
        effective_workers=3,
        cpu_seconds=2.0,
        cpu_utilization=(0.25 * 2 + 0.75 * 6) / 8,
        peak_memory_bytes=1 << 40,
        event_loop_lag_ms=LagSummary(2.0, 2.0, 4.0),
    )


@FEWER
@given(details, details)
def test_utilization_is_between_those_of_the_parts(one: Measurements, two: Measurements) -> None:
    parts = [d.cpu_utilization for d in (one, two) if d.cpu_utilization is not None]
    total = one.plus(two).cpu_utilization
    if not parts:
        assert total is None
    else:
        assert total is not None
        assert min(parts) - 1e-12 <= total <= max(parts) + 1e-12


def test_execution_that_was_not_measured_does_not_count_for_the_utilization() -> None:
    """Measurements of an execution whose run host died."""
    unmeasured = Measurements(duration_seconds=100.0)
    assert FULL.plus(unmeasured).cpu_utilization == 0.25
    assert unmeasured.plus(FULL).cpu_utilization == 0.25


@FEWER
@given(details, details)
def test_errors_are_the_first_that_came(one: Measurements, two: Measurements) -> None:
    total = one.plus(two).errors
    assert len(total) <= KEPT_ERRORS
    assert total == (one.errors + two.errors)[: len(total)]
    assert len(total) == min(KEPT_ERRORS, len(one.errors) + len(two.errors))


# --- over shards ---------------------------------------------------------------------------


def shards_of(parts: list[Measurements | None]) -> list[Shard]:
    return [
        Shard(
            task_id="task_00000000_1700000000",
            shard=number,
            start=10 * number,
            count=10,
            details=None if part is None else json.loads(json.dumps(part.to_json())),
        )
        for number, part in enumerate(parts)
    ]


@given(st.lists(st.none() | details, min_size=1, max_size=4))
def test_task_has_the_sum_of_its_shards(parts: list[Measurements | None]) -> None:
    total = Measurements()
    for part in parts:
        total = total.plus(part or Measurements())
    found = Measurements.from_json(RunBody().summarize(shards_of(parts)))
    assert replace(found, errors=()) == replace(total, errors=())
    assert sorted(map(repr, found.errors)) == sorted(map(repr, total.errors))
    ids = [error.item_id for error in found.errors]
    assert ids == sorted(ids)
    assert len(ids) <= KEPT_ERRORS


def test_errors_of_a_task_are_bounded_and_in_the_order_of_items() -> None:
    """Within a shard they are in the order in which batches were done."""
    first = Measurements(errors=tuple(ItemError(i, "db", "x") for i in (5, 3, 9)))
    many = Measurements(errors=tuple(ItemError(1_000 - i, "db", "x") for i in range(KEPT_ERRORS)))
    measured = RunBody().summarize(shards_of([first, None, many]))
    ids = [error["item_id"] for error in measured["errors"]]
    assert ids == [3, 5, 9, *range(1_000 - KEPT_ERRORS + 4, 1_001)]


def test_task_without_measured_shards_has_measured_nothing() -> None:
    assert RunBody().summarize(shards_of([None, None])) == Measurements().to_json()


def test_fields_of_a_later_version_are_left_out_and_nothing_is_nothing() -> None:
    stored = FULL.to_json() | {"newer": 1}
    stored["errors"][0]["newer"] = stored["stages"][0]["newer"] = 1
    stored["event_loop_lag_ms"] = {"p50": 1.0, "p99": 2.0, "max": 3.0, "newer": 4.0}
    read = Measurements.from_json(stored)
    assert read == replace(FULL, event_loop_lag_ms=LagSummary(1.0, 2.0, 3.0))
    assert Measurements.from_json({}) == Measurements()


def test_unreadable_measurements_are_left_out_of_the_sum() -> None:
    damaged = FULL.to_json() | {"checksum": None}
    with pytest.raises(UnreadableTaskError, match="what its executions have measured"):
        Measurements.from_json(damaged)
    of_task = [
        Shard(task_id="task_00000000_1", shard=n, start=n, count=1, details=details)
        for n, details in enumerate((damaged, FULL.to_json(), {}))
    ]
    assert RunBody().summarize(of_task)["duration_seconds"] == FULL.duration_seconds
