"""`calibrate.timed_runs`, `calibrate.strategy_costs`, `calibrate.waiting_costs`: the measured
constants are those of an invented machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hotloop import kernels
from hotloop.app.names import StrategyName
from hotloop.app.prediction.model import predict
from hotloop.app.runhost.calibrate.constants import IN_FLIGHT, LoopCosts, StrategyCosts
from hotloop.app.runhost.calibrate.kernel_costs import Probe, thread_slowdown
from hotloop.app.runhost.calibrate.strategy_costs import SAME_AS, StrategyTimes
from hotloop.app.runhost.calibrate.timed_runs import Experiment, TimedRuns, typical_seconds
from hotloop.app.runhost.calibrate.waiting_costs import WAITING, WaitingTimes, loop_costs
from hotloop.app.sources.simulated import SimulatedStage
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.registry import LOCAL_STRATEGIES, STRATEGIES, uses_processes
from hotloop.app.system import has_gil
from tests.fixtures.calibrations import ideal

# With many in flight, both take so much longer than with few.
LOOPS = {
    StrategyName.ASYNC_BATCH: LoopCosts((4e-6, 7e-6, 7e-6), (3e-6, 5e-6, 6e-6), 6e-6, 0.0),
    StrategyName.HYBRID: LoopCosts((6e-6, 9e-6, 9e-6), (4e-6, 6e-6, 7e-6), 7e-6, 4e-4),
}
FULL = Probe("loops", "cython", 30, kernels.get_workload("loops").resolve_parameters())


class Scripted(TimedRuns):
    """Runs that take as long as a script says."""

    def __init__(self, script: Iterator[float], told: list[float]) -> None:
        self._script = script
        self._told = told
        self.made: list[Plan] = []
        self._done = self._tell

    async def _tell(self, seconds: float) -> None:
        self._told.append(seconds)

    async def _seconds(self, plan: Plan) -> float:
        self.made.append(plan)
        return next(self._script)


def test_medians_leave_out_the_run_that_only_warms_up() -> None:
    first, *_, last = WaitingTimes("loops", "cython", 2).experiments()
    usual = Experiment("usual", first.plan, 2)
    long = Experiment("long", last.plan, is_long=True)
    once = Experiment("once", last.plan, is_long=True, rounds=1)
    script = [90, 1, 2, 50, 7, 3, 4, 60, 5, 6, 70]
    told: list[float] = []
    runs = Scripted(map(float, script), told)
    found = asyncio.run(runs.in_turns([usual, long, once], 3))
    assert len(runs.made) == len(script)
    assert found == {
        (first.plan.strategy, "usual"): 3.5,
        (last.plan.strategy, "long"): 60.0,
        (last.plan.strategy, "once"): 7.0,
    }
    # Each run is told of, and all of them together are what was planned.
    assert len(told) == len(script)
    assert sum(told) == pytest.approx(typical_seconds([usual, long, once], 3))


def loop_seconds(plan: Plan, what: str) -> float:
    """Return the seconds by docs/model.md of runs that keep the event loop busy."""
    costs = LOOPS[plan.strategy]
    items, in_flight = plan.item_count, plan.io_concurrency
    number = IN_FLIGHT.index(in_flight)
    seconds = in_flight * costs.task_seconds + items * costs.item_seconds[number]
    for stage in plan.stages:
        assert isinstance(stage, SimulatedStage)
        seconds += stage.low_seconds
    if len(plan.stages) > 1:
        seconds += in_flight * costs.stage_seconds[0]
        seconds += (items - in_flight) * costs.stage_seconds[number]
    if what == "small batches":
        seconds += (items / plan.batch_size - 1) * costs.batch_seconds
    return seconds


def test_costs_of_the_event_loop_are_found_again() -> None:
    start = 1e-3
    seconds = {(name, "start"): start for name in STRATEGIES}
    machine = replace(ideal(), loops={str(name): costs for name, costs in LOOPS.items()})
    for what, plan, *_ in WaitingTimes("loops", "cython", 2).experiments():
        if what == "waits":
            continue
        taken = loop_seconds(plan, what)
        seconds[plan.strategy, what] = start + taken
        # The model counts a first batch of `hybrid` as well, which is a part of the start.
        first = LOOPS[plan.strategy].batch_seconds
        assert predict(plan, machine).seconds == pytest.approx(taken, rel=0.01, abs=1.01 * first)
    found = loop_costs(seconds)
    assert set(found) == set(WAITING)
    for name, expected in LOOPS.items():
        for field in LoopCosts.__dataclass_fields__:
            assert getattr(found[name], field) == pytest.approx(getattr(expected, field)), field


@pytest.mark.parametrize("name", LOCAL_STRATEGIES)
def test_costs_of_a_strategy_are_found_again(name: StrategyName) -> None:
    """Runs that take as long as the model predicts for a machine give the constants of it."""
    times = StrategyTimes(FULL, cpus=2)
    in_processes = uses_processes(name, releases_gil=True)
    machine = ideal()
    kernel = replace(machine.kernel("loops", "cython"), process_slowdown=1.25, thread_slowdown=1.5)
    machine = replace(machine, kernels=(kernel,))
    call = kernel.seconds_of_call(
        kernels.get_workload("loops").operations(FULL.parameters), FULL.items
    )
    parallel = name not in (StrategyName.SEQUENTIAL, StrategyName.ASYNC_BATCH)
    busy = call * (1.25 if in_processes else 1.5) / 2 if parallel else call
    expected = StrategyCosts(
        start_seconds=1e-3,
        empty_batch_seconds=4e-4,
        full_batch_seconds=5e-4,
        full_seconds=busy,
        worker_seconds=5.5e-4 if parallel else 5e-4,
        item_seconds=0.0,
        setup_seconds=0.25,
        worker_bytes=100 if in_processes else 0,
    )
    machine = replace(machine, strategies={**machine.strategies, name: expected})
    measured = SAME_AS.get(name, name)
    machine = replace(machine, strategies={**machine.strategies, measured: expected})
    seconds = {
        (plan.strategy, what): predict(plan, machine).seconds
        for what, plan, *_ in (*times.experiments(), *times.single_worker())
        if plan.strategy in (name, measured)
    }
    found = times.costs(name, seconds, kernel, 0.25, 100)
    for field in StrategyCosts.__dataclass_fields__:
        assert getattr(found, field) == pytest.approx(getattr(expected, field), rel=0.02), field


@pytest.mark.skipif(not has_gil(), reason="free-threaded: none takes turns")
def test_thread_slowdown_of_a_kernel_that_holds_the_gil_is_the_number_of_cpus() -> None:
    assert thread_slowdown(Probe("loops", "python", 1, FULL.parameters), 3) == 3.0
