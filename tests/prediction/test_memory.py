"""The estimated memory of a run, and the refusal of runs that need too much."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from hotloop import kernels
from hotloop.app.errors import MemoryBudgetError
from hotloop.app.execution.specs import plan_for
from hotloop.app.names import StrategyName
from hotloop.app.prediction import memory
from hotloop.app.prediction.memory import (
    ITEM_BYTES,
    LEAST_OWN_BYTES,
    ROUGHLY,
    MemoryBudget,
    default_budget_bytes,
)
from hotloop.app.schemas.options import StrategyChoice
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.pools import PoolLimits
from hotloop.app.system import MemoryLimit
from hotloop.kernels.contract import WorkloadSource
from hotloop.kernels.loops import LOOPS
from tests.fixtures.calibrations import ideal
from tests.fixtures.server import running_server
from tests.fixtures.waiting import wait_until
from tests.prediction.test_plan import REPORTS, SETTINGS, parsed
from tests.prediction.test_plan import plan as made

NO_IO: dict[str, Any] = {"db": "none", "cache": "none"}
NO_WORK = {"cpu_iterations": 0, "outer_iterations": 0, "inner_iterations": 0}
BUDGET = MemoryBudget(1 << 30, PoolLimits(256, 8, 8))


def plan(strategy: str, **body: Any) -> Plan:
    result: Plan = made(strategy, **(NO_IO | {"items_count": 1_000_000} | body))
    return result


@pytest.mark.parametrize("strategy", ["concurrent-futures", "multiprocessing"])
def test_worker_processes_count_up_to_their_limit(strategy: str) -> None:
    few = BUDGET.needed(plan(strategy, workers=2, batch_size=1))
    assert few == ROUGHLY.host + 2 * ROUGHLY.worker + 8 * ITEM_BYTES
    most = BUDGET.needed(plan(strategy, workers=256, batch_size=1))
    assert most == ROUGHLY.host + 8 * ROUGHLY.worker + 20 * ITEM_BYTES


def test_worker_processes_without_waits_count_up_to_the_cpus() -> None:
    budget = MemoryBudget(1 << 30, PoolLimits(256, 8, 2))
    computing = plan("multiprocessing", workers=8, batch_size=1)
    assert budget.needed(computing) == ROUGHLY.host + 2 * ROUGHLY.worker + 8 * ITEM_BYTES
    waiting = plan("multiprocessing", workers=8, batch_size=1, db="simulated")
    assert budget.needed(waiting) == ROUGHLY.host + 8 * ROUGHLY.worker + 20 * ITEM_BYTES


def test_threads_cost_only_their_batches() -> None:
    few = BUDGET.needed(plan("threading", workers=4, batch_size=10))
    assert few == ROUGHLY.host + 120 * ITEM_BYTES
    whole = BUDGET.needed(plan("threading", workers=256, batch_size=1_000_000))
    assert whole == ROUGHLY.host + 1_000_000 * ITEM_BYTES, "no more than there are items"


def test_vectors_count_by_their_width() -> None:
    series = kernels.Column("series", "float64", "", width=1_000)
    kernels.declare(replace(LOOPS, name="wide", columns_in=(series,)))
    try:
        whole = replace(plan("threading", workers=2, batch_size=1_000_000), workload="wide")
        assert BUDGET.needed(whole) == ROUGHLY.host + 1_000_000 * (ITEM_BYTES + 2 * 8_000)
        assert BUDGET.needed(replace(whole, workload="loops")) < BUDGET.needed(whole) / 30
    finally:
        kernels.withdraw("wide")


def test_hybrid_uses_processes_for_a_kernel_that_holds_the_gil() -> None:
    body = {"workers": 2, "batch_size": 1}
    threads = BUDGET.needed(plan("hybrid", kernel="cython", **body))
    assert BUDGET.needed(plan("hybrid", kernel="python", **body)) == threads + 2 * ROUGHLY.worker


@pytest.mark.parametrize("strategy", ["async-batch", "hybrid"])
def test_items_in_flight_are_counted(strategy: str) -> None:
    body = {"db": "simulated", "batch_size": 1_000, "workers": 1}
    few = BUDGET.needed(plan(strategy, io_concurrency=1, **body))
    many = BUDGET.needed(plan(strategy, io_concurrency=20_000, **body))
    assert many - few >= 19_999 * ROUGHLY.waiting
    assert BUDGET.needed(plan("sequential", io_concurrency=20_000, **body)) < few


def test_too_large_run_is_refused_with_the_figures() -> None:
    with pytest.raises(MemoryBudgetError, match="840 MiB of memory, over the 500 MiB") as caught:
        MemoryBudget(500 << 20, PoolLimits(256, 8, 8)).check(
            plan("multiprocessing", workers=8, batch_size=1)
        )
    assert caught.value.field == "workers"
    with pytest.raises(MemoryBudgetError) as caught:
        MemoryBudget(220 << 20, PoolLimits(256, 8, 8)).check(
            plan("threading", batch_size=1_000_000)
        )
    assert caught.value.field == "batch_size"
    BUDGET.check(plan("multiprocessing", workers=8, batch_size=1))


def planned(choice: StrategyChoice, budget: MemoryBudget, **body: Any) -> Plan:
    request = parsed({"kernel": "python", "items_count": 1_000, "batch_size": 1} | NO_IO | body)
    items = GeneratedItems(request.total_items)
    result, _ = plan_for(choice, request, items, REPORTS, ideal(REPORTS, 8), SETTINGS, budget)
    return result


def test_auto_takes_a_strategy_that_fits() -> None:
    roomy, tight = (
        MemoryBudget(8 << 30, PoolLimits(256, 8, 8)),
        MemoryBudget(220 << 20, PoolLimits(256, 8, 8)),
    )
    assert memory.uses_processes(planned("auto", roomy, workers=8))
    assert not memory.uses_processes(planned("auto", tight, workers=8))
    with pytest.raises(MemoryBudgetError):
        planned(StrategyName.MULTIPROCESSING, tight, workers=8)
    with pytest.raises(MemoryBudgetError):
        planned("auto", MemoryBudget(1, PoolLimits(256, 8, 8)))


def test_default_is_a_share_of_the_container_or_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "memory_limit", lambda: None)
    assert default_budget_bytes() == int(0.8 * psutil.virtual_memory().total)
    monkeypatch.setattr(memory, "memory_limit", lambda: MemoryLimit(10 << 20, 0))
    assert default_budget_bytes() == 8 << 20


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="no proportional sizes")
def test_service_refuses_before_it_starts_and_runs_need_no_more_than_said(tmp_path: Path) -> None:
    budget = 500 << 20
    settings = {"run_hosts": 1, "memory_budget_bytes": budget, "max_worker_processes": 4}
    with running_server(tmp_path, **settings) as server:
        wait_until(lambda: server.client.get("/health/ready").is_success, "the service is warm")
        # Workers that wait are started, however few CPUs there are.
        body = {"db_delay_ms": 0.1, "cache": "none", "items_count": 400, "batch_size": 10}
        body |= {"parameters": NO_WORK}
        assert server.look_below()
        before = len(server.look_below())
        for strategy in ("concurrent-futures", "multiprocessing"):
            answer = server.run(strategy, **body, workers=4)
            assert (answer.status_code, answer.json()["type"]) == (
                422,
                "urn:hotloop:problem:memory-budget",
            )
            assert answer.json()["needed_bytes"] > answer.json()["limit_bytes"] == budget
        waits = server.client.post(
            "/api/v1/tasks/background", json=body | {"strategy": "multiprocessing", "workers": 4}
        )
        assert waits.status_code == 422
        upload = server.upload(
            b"item_id,value,offset\nx\n", strategy="multiprocessing", workers=4, db="simulated"
        )
        assert upload.json()["type"].endswith("memory-budget"), "before its rows are read"
        assert server.client.get("/api/v1/tasks/results").json()["total"] == 0
        assert len(server.look_below()) == before, "no worker was started for any of them"
        answer = server.run("multiprocessing", **body, workers=3)
        assert answer.is_success
        needed = MemoryBudget(budget, PoolLimits(256, 4, 4)).needed(
            plan("multiprocessing", workers=3, batch_size=10, items_count=400)
        )
        assert answer.json()["peak_memory_bytes"] <= needed <= budget


def test_memory_of_a_users_code_is_bounded_and_shared_by_processes() -> None:
    large = MemoryBudget(8 << 30, PoolLimits(256, 8, 8))
    source = WorkloadSource("prices", "put", "0" * 64)
    threads, processes = plan("threading", workers=4), plan("multiprocessing", workers=4)
    assert large.bounded(processes).memory_bytes is None, "estimates know what loops needs"
    assert large.bounded(replace(threads, source=source)).memory_bytes == 8 << 30
    assert large.bounded(replace(processes, source=source)).memory_bytes == 2 << 30
    assert BUDGET.bounded(replace(processes, source=source)).memory_bytes == LEAST_OWN_BYTES
