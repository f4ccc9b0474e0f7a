"""The sections that need no clock: intervals, bounds, and tables that say what is projected."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import io, memory, redis_reads, results, watchers
from benchmarks.probing import Latencies
from hotloop.app.comparison.intervals import interval, ratios
from hotloop.app.system import usable_cpu_count

HEALTH = Latencies(100, 1.0, 4.0, 9.0)
RUN: dict[str, Any] = {"event_loop_lag_ms": {"p99": 2.0}}


def test_interval_contains_the_median_and_is_repeatable() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 100.0]
    found = interval(values)
    assert (found.median, found) == (3.0, interval(values))
    assert 1.0 <= found.low <= 3.0 <= found.high <= 100.0
    assert interval([5.0]).text(1) == "5.0 (5.0 … 5.0)"


def test_ratios_compare_round_by_round() -> None:
    assert ratios([2.0, 20.0, 6.0], [1.0, 10.0, 3.0]).text(2) == "2.00 (2.00 … 2.00)"


def test_bound_is_the_maximum_of_waits_and_kernel() -> None:
    simulated, real = io.CASES[0], next(case for case in io.CASES if case.real)
    assert io.bound_seconds(simulated, 0.0) == pytest.approx(10.055)
    assert io.bound_seconds(real, 0.0) == pytest.approx(10.0)
    assert io.bound_seconds(real, 100.0 * usable_cpu_count()) == pytest.approx(100.0)


def test_table_marks_projected_values() -> None:
    whole = io.Measured(io.CASES[0], [10.2, 10.4, 10.3], [HEALTH], [RUN])
    part = io.Measured(io.CASES[-1], [50_275.0], [HEALTH], [RUN])
    lines = io.table([whole, part], 1.0)
    assert "| `hybrid` | 10.30 (10.20 … 10.40) | 10.05 | 1.024 | 4,854 |" in lines[2]
    assert "*projected* 50,275 (from 8 items)" in lines[3]
    assert "projected" not in lines[2]


def test_redis_is_compared_with_the_hand_written_client() -> None:
    names = (redis_reads.BY_HAND, redis_reads.STAGE, redis_reads.RUN_IO, redis_reads.RUN)
    lines = redis_reads.table({name: [0.1] for name in names[:1]} | {names[1]: [0.08]})
    assert lines[2] == "| By hand | 100.0 (100.0 … 100.0) | 500,000 |  |"
    assert lines[3].endswith("| 625,000 | 1.25 (1.25 … 1.25) |")


def test_memory_includes_both_processes() -> None:
    peaks = {"hybrid": [memory.Peak(100_000_000, 50_000_000), memory.Peak(102_000_000, 50_000_000)]}
    assert memory.table(peaks)[2] == (
        "| hybrid | 100.0 MB | 102.0 MB | 1.020 | 50.0 MB | 50.0 MB | 1.000 |"
    )


def test_exports_are_in_rows_per_second() -> None:
    export = results.Export("csv", 32 * results.ROWS, [10.0, 5.0, 20.0], [0.004], [HEALTH])
    assert "| csv | 500,000 (250,000 … 1,000,000) | 16 | 32.0 | 4 | 4.0 / 9.0 |" in results.table(
        [export]
    )


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": ["ndjson", "csv"]},
        {"$ref": "#/components/schemas/Format"},
        {"anyOf": [{"$ref": "#/components/schemas/Format"}, {"type": "null"}]},
    ],
)
def test_formats_are_those_of_the_service(schema: dict[str, Any]) -> None:
    schemas: dict[str, dict[str, Any]] = {"Format": {"enum": ["ndjson", "csv"]}}
    assert results.choices(schema, schemas) == ["ndjson", "csv"]


def test_watchers_have_both_phases() -> None:
    lines = watchers.table(
        [watchers.Watched(8, 2.25, HEALTH, 1_000.4, 12.3, Latencies(9, 2, 3, 4))]
    )
    assert lines[0] == "## Watchers"
    assert lines[-1] == "| 8 | 2.2 | 1.0 / 4.0 | 1,000 | 12 | 2.0 / 3.0 |"
