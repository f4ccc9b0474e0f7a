"""strategies.worker, own_code, kernels.guarded: users' functions by every strategy, whose items may
fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hotloop import kernels
from hotloop.app.errors import WorkloadUnusableError
from hotloop.app.sources.simulated import GeneratedItems, SimulatedStage
from hotloop.app.strategies import own_code
from hotloop.app.strategies.base import BatchResult, Plan, Strategy
from hotloop.app.strategies.checksum import rows_checksum
from tests.fixtures.own_code import RATIOS, used, write_module
from tests.fixtures.plans import make_plan, total_checksum
from tests.fixtures.stages import FailingStage

ITEMS = 350
FAILING = [0, 100, 200, 300]
REASON = "ZeroDivisionError: float division by zero at ratios.py:18"


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kernels.Workload]:
    folder = tmp_path_factory.mktemp("own")
    with used(write_module(folder, "ratios", RATIOS)) as declared:
        yield declared


def plan_of(strategy: Strategy, workload: kernels.Workload, **changes: Any) -> Plan:
    fields = {
        "workload": workload.name,
        "source": workload.source,
        "parameters": {"steps": 20},
        "items": GeneratedItems(ITEMS),
        "batch_size": 64,
    }
    return make_plan(strategy.name, **(fields | changes))


async def run(strategy: Strategy, plan: Plan) -> list[BatchResult]:
    own_code.enter(plan)
    await strategy.prepare(plan)
    results = [result async for result in strategy.run(plan)]
    return sorted(results, key=lambda result: result.batch.start)


def expected_checksum(workload: kernels.Workload, failing: list[int]) -> int:
    ids = np.setdiff1d(np.arange(ITEMS), failing)
    outputs = kernels.get_kernel(workload.name, "python").run(
        workload.simulated_columns(ids), {"steps": 20}
    )
    return rows_checksum(ids, outputs)


def assert_failed(results: list[BatchResult], stage: str, failing: list[int]) -> None:
    errors = [error for result in results for error in result.errors if error.stage == stage]
    assert [error.item_id for error in errors] == failing
    for result in results:
        marked = set(result.item_ids[result.failed].tolist())
        assert marked == {error.item_id for error in result.errors}
        for column in result.columns.values():
            assert not column[result.failed].any()


@pytest.mark.parametrize("stages", [(), (SimulatedStage("db", 0.0, 0.0001),)], ids=["", "waits"])
@pytest.mark.parametrize("slice_items", [None, 10])
@pytest.mark.parametrize("kernel", ["python", "numba"])
def test_items_that_fail_are_found_and_the_others_are_computed(
    runner: asyncio.Runner,
    strategy: Strategy,
    workload: kernels.Workload,
    kernel: str,
    slice_items: int | None,
    stages: tuple[SimulatedStage, ...],
) -> None:
    plan = plan_of(strategy, workload, kernel=kernel, slice_items=slice_items, stages=stages)
    results = runner.run(run(strategy, plan))
    assert sum(result.batch.count for result in results) == ITEMS
    assert total_checksum(results) == expected_checksum(workload, FAILING)
    assert_failed(results, "kernel", FAILING)
    assert {error.reason for result in results for error in result.errors} == {REASON}


def test_items_that_failed_before_keep_their_reasons(
    runner: asyncio.Runner, strategy: Strategy, workload: kernels.Workload
) -> None:
    """Every third item fails in the stage, among them 0 and 300."""
    plan = plan_of(strategy, workload, kernel="numba", stages=(FailingStage(every=3),))
    results = runner.run(run(strategy, plan))
    by_stage = list(range(0, ITEMS, 3))
    assert_failed(results, "kernel", [100, 200])
    assert_failed(results, FailingStage(every=3).name, by_stage)
    assert total_checksum(results) == expected_checksum(workload, [*by_stage, 100, 200])


def test_code_of_another_version_is_refused(
    runner: asyncio.Runner, process_strategy: Strategy, workload: kernels.Workload
) -> None:
    """By workers, which import it anew; a pool of another workload works afterwards."""
    assert workload.source is not None
    plan = plan_of(process_strategy, workload, kernel="python")
    other = replace(plan, source=replace(workload.source, version="0" * 64))
    with pytest.raises(WorkloadUnusableError, match="version 000000000000 was meant"):
        own_code.enter(other)
    with pytest.raises(WorkloadUnusableError, match="version 000000000000 was meant"):
        runner.run(process_strategy.prepare(other))
    built_in = make_plan(process_strategy.name)
    assert sum(r.batch.count for r in runner.run(run(process_strategy, built_in))) == 1_000
    assert total_checksum(runner.run(run(process_strategy, plan))) == expected_checksum(
        workload, FAILING
    )
