"""Counters in the text format, as a Prometheus server reads them."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hotloop.app.names import StrategyName, TaskStatus
from hotloop.app.observability.health import SourceMonitor
from hotloop.app.observability.metrics import Gauges, Metrics
from hotloop.app.sources.base import StageCounts
from hotloop.app.sources.breaker_reports import BreakerReport


def samples(metrics: Metrics, *families: str) -> dict[tuple[str, ...], float]:
    """Name and label values, in the order of the labels' names, to the number; of families whose
    names begin so.
    """
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
        if family.name.startswith(families or "hotloop")
    }


def test_idle_service_counts_zero_for_its_sources() -> None:
    found = samples(Metrics(SourceMonitor(("redis",))), "hotloop_source")
    assert found == {
        ("hotloop_source_calls_total", "redis"): 0,
        ("hotloop_source_retries_total", "redis"): 0,
        ("hotloop_source_hits_total", "redis"): 0,
        ("hotloop_source_misses_total", "redis"): 0,
        ("hotloop_source_breaker_openings_total", "redis"): 0,
        ("hotloop_source_breaker_state", "redis", "closed"): 1,
        ("hotloop_source_breaker_state", "redis", "open"): 0,
        ("hotloop_source_breaker_state", "redis", "half_open"): 0,
    }


def test_runs_and_items_are_counted_by_strategy_kernel_and_outcome() -> None:
    metrics = Metrics(SourceMonitor(()))
    hybrid = "loops", StrategyName.HYBRID, "python"
    metrics.run_ended(*hybrid, TaskStatus.COMPLETED, 10, 3)
    metrics.run_ended(*hybrid, TaskStatus.COMPLETED, 5, 0)
    metrics.run_ended(*hybrid, TaskStatus.FAILED, 0, 0)
    metrics.run_ended("loops", StrategyName.THREADING, "python", TaskStatus.CANCELLED, 1, 1)
    assert samples(metrics, "hotloop_runs", "hotloop_items") == {
        ("hotloop_runs_total", "python", "completed", "hybrid", "loops"): 2,
        ("hotloop_runs_total", "python", "failed", "hybrid", "loops"): 1,
        ("hotloop_runs_total", "python", "cancelled", "threading", "loops"): 1,
        ("hotloop_items_total", "python", "done", "hybrid", "loops"): 12,
        ("hotloop_items_total", "python", "failed", "hybrid", "loops"): 3,
        ("hotloop_items_total", "python", "done", "threading", "loops"): 0,
        ("hotloop_items_total", "python", "failed", "threading", "loops"): 1,
    }


def test_runs_of_workloads_that_are_not_declared_count_together() -> None:
    """The number of labels stays bounded, whatever names stored tasks have."""
    metrics = Metrics(SourceMonitor(()))
    for name in ("gone", "gone-too"):
        metrics.run_ended(name, StrategyName.HYBRID, "python", TaskStatus.COMPLETED, 1, 0)
    found = samples(metrics, "hotloop_runs")
    assert found == {("hotloop_runs_total", "python", "completed", "hybrid", "other"): 2}


def test_counts_of_sources_are_those_of_the_monitor() -> None:
    monitor = SourceMonitor(())
    metrics = Metrics(monitor)
    monitor.count("pinot", StageCounts(calls=4, retries=3, hits=2, misses=1))
    found = samples(metrics)
    names = ("calls", "retries", "hits", "misses")
    assert [found[f"hotloop_source_{name}_total", "pinot"] for name in names] == [4, 3, 2, 1]


@pytest.mark.parametrize("state", ["closed", "half_open", "open"])
def test_breaker_is_in_one_state(state: str) -> None:
    monitor = SourceMonitor(("pinot",))
    monitor.note(BreakerReport("pinot", state, 2, "secret of nobody"))
    metrics = Metrics(monitor)
    found = samples(metrics, "hotloop_source")
    states = {key[2]: value for key, value in found.items() if len(key) == 3}
    assert states == {"closed": 0, "half_open": 0, "open": 0} | {state: 1}
    assert found["hotloop_source_breaker_openings_total", "pinot"] == 2
    assert b"secret of nobody" not in metrics.text()


def test_services_count_separately() -> None:
    first, second = Metrics(SourceMonitor(())), Metrics(SourceMonitor(()))
    first.run_ended("loops", StrategyName.HYBRID, "python", TaskStatus.COMPLETED, 1, 0)
    assert samples(second, "hotloop_runs", "hotloop_items", "hotloop_source") == {}
    assert b"_created" not in first.text()
    assert b"python_info" not in first.text()


def test_seconds_of_requests_and_runs_are_counted() -> None:
    metrics = Metrics(SourceMonitor(()))
    for seconds in (0.002, 0.02):
        metrics.request_ended("/health", "GET", 200, seconds)
    for status, seconds in ((TaskStatus.COMPLETED, 2.5), (TaskStatus.FAILED, 9.0)):
        metrics.run_ended("loops", StrategyName.HYBRID, "python", status, 1, 0, seconds)
    found = samples(metrics)
    of_health = "GET", "/health", "200"
    assert found["hotloop_request_seconds_count", *of_health] == 2
    assert found["hotloop_request_seconds_sum", *of_health] == pytest.approx(0.022)
    buckets = {
        labels[0]: value
        for (name, *labels), value in found.items()
        if name == "hotloop_request_seconds_bucket"
    }
    assert (buckets["0.001"], buckets["0.0025"], buckets["0.025"]) == (0, 1, 2)
    # Only runs that completed say how long a run takes.
    assert found["hotloop_run_seconds_sum", "python", "hybrid", "loops"] == 2.5


def test_comparisons_are_counted_separately_from_runs() -> None:
    metrics = Metrics(SourceMonitor(()))
    metrics.comparison_ended(TaskStatus.COMPLETED, 12)
    metrics.comparison_ended(TaskStatus.CANCELLED, 3)
    assert samples(metrics, "hotloop_comparison", "hotloop_runs") == {
        ("hotloop_comparisons_total", "completed"): 1,
        ("hotloop_comparisons_total", "cancelled"): 1,
        ("hotloop_comparisons_total", "failed"): 0,
        ("hotloop_comparison_measurements_total",): 15,
    }


def test_transactions_and_their_errors_are_counted_separately() -> None:
    metrics = Metrics(SourceMonitor(()))
    metrics.transaction_ended("read", 0.25, failed=False)
    metrics.transaction_ended("write", 0.5, failed=True)
    found = samples(metrics, "hotloop_store")
    kinds = ("read", "write")
    assert [found["hotloop_store_seconds_sum", kind] for kind in kinds] == [0.25, 0.5]
    assert [found["hotloop_store_errors_total", kind] for kind in kinds] == [0, 1]


def test_gauges_show_the_last_sample_and_deaths_only_grow() -> None:
    metrics = Metrics(SourceMonitor(()))
    for waiting, deaths in ((5, 1), (2, 3)):
        metrics.set_gauges(
            Gauges(
                queued_shards={"waiting": 7, "held": 1},
                waiting_runs=waiting,
                run_hosts={"busy": 1, "idle": 0, "missing": 1},
                run_host_deaths=deaths,
                loop_lag_seconds={"p99": 0.25, "max": 0.5},
                resident_bytes=1_000,
                open_files=9,
            )
        )
    found = samples(metrics)
    assert found["hotloop_queued_shards", "waiting"] == 7
    assert found["hotloop_waiting_runs",] == 2
    assert found["hotloop_run_hosts", "missing"] == 1
    assert found["hotloop_run_host_deaths_total",] == 3
    assert found["hotloop_loop_lag_seconds", "max"] == 0.5
    assert found["hotloop_process_resident_bytes",] == 1_000
    assert found["hotloop_process_open_files",] == 9
