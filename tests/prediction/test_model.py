"""The cost model: rules that hold on any machine, and the term that limits a run."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, pairwise
from operator import mul
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotloop.app.names import StrategyName
from hotloop.app.prediction.model import makespan, predict
from hotloop.app.prediction.search_space import lower_bound_seconds
from hotloop.app.runhost.calibrate.constants import (
    IN_FLIGHT,
    Calibration,
    KernelCosts,
    LoopCosts,
    StrategyCosts,
    WaitCosts,
)
from hotloop.app.schemas.recommendation import Limit
from hotloop.app.sources.item_file import FileItems
from hotloop.app.sources.simulated import GeneratedItems, SimulatedStage
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from tests.fixtures.calibrations import NO_TIME, ideal, usual

DEFAULTS = {"cpu_iterations": 20_000, "outer_iterations": 100, "inner_iterations": 200}
STRATEGIES = sorted(StrategyName)


def plan(strategy: StrategyName = StrategyName.HYBRID, items: int = 1_000, **fields: Any) -> Plan:
    values: dict[str, Any] = {
        "workload": "loops",
        "kernel": "cython",
        "stages": (),
        "parameters": DEFAULTS,
        "batch_size": 100,
        "workers": 2,
        "io_concurrency": 100,
    }
    return Plan(strategy=strategy, items=GeneratedItems(items), **(values | fields))


seconds = st.floats(0, 0.01)
slowdowns = st.floats(1, 4)


@st.composite
def calibrations(draw: st.DrawFn) -> Calibration:
    cpus = draw(st.integers(1, 4))
    sizes = tuple(sorted({1, *draw(st.lists(st.integers(2, 1_000), max_size=4))}))

    def costs() -> tuple[float, ...]:
        """Draw the seconds of calls that grow with their items."""
        more = [draw(st.floats(0, 1e-6)) for _ in sizes]
        steps = [b - a for a, b in pairwise((0, *sizes))]
        calls = accumulate(map(mul, steps, more))
        return tuple(call / size for call, size in zip(calls, sizes, strict=True))

    def kernel(name: str, releases_gil: bool) -> KernelCosts:
        return KernelCosts(
            "loops",
            name,
            releases_gil,
            draw(st.floats(0, 1e-4)),
            draw(st.floats(0, 1e-6)),
            sizes,
            {"loop": costs(), "nested": costs()},
            min(cpus, draw(slowdowns)),
            min(cpus, draw(slowdowns)),
            draw(st.floats(0, 1e-4)),
            draw(st.floats(0, 1e-6)),
        )

    def strategy() -> StrategyCosts:
        empty, full = draw(seconds), draw(st.floats(1e-6, 0.01))
        return StrategyCosts(
            start_seconds=draw(seconds),
            empty_batch_seconds=empty,
            full_batch_seconds=max(0.0, empty - full) + draw(seconds),
            full_seconds=full,
            worker_seconds=draw(seconds),
            item_seconds=draw(st.floats(0, 1e-6)),
            setup_seconds=1.0,
            worker_bytes=1 << 20,
        )

    return Calibration(
        usable_cpus=cpus,
        max_threads=draw(st.integers(1, 64)),
        max_processes=draw(st.integers(1, 16)),
        kernels=(kernel("cython", True), kernel("python", False)),
        strategies={name: strategy() for name in LOCAL_STRATEGIES},
        waits=WaitCosts(draw(seconds), draw(seconds), 1_000),
        loops={
            name: LoopCosts(
                tuple(accumulate(draw(st.floats(0, 1e-4)) for _ in IN_FLIGHT)),
                tuple(accumulate(draw(st.floats(0, 1e-4)) for _ in IN_FLIGHT)),
                draw(st.floats(0, 1e-4)),
                draw(seconds),
            )
            for name in (StrategyName.ASYNC_BATCH, StrategyName.HYBRID)
        },
        base_bytes=1 << 20,
    )


@st.composite
def stages(draw: st.DrawFn) -> tuple[SimulatedStage, ...]:
    found = []
    for name in draw(st.sampled_from([(), ("db",), ("db", "cache")])):
        low = draw(st.floats(0, 1))
        found.append(SimulatedStage(name, low, low + draw(st.floats(0.001, 1))))
    return tuple(found)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    return plan(
        draw(st.sampled_from(STRATEGIES)),
        draw(st.integers(1, 20_000)),
        kernel=draw(st.sampled_from(["cython", "python"])),
        stages=draw(stages()),
        parameters={
            "cpu_iterations": draw(st.integers(0, 1_000)),
            "outer_iterations": draw(st.integers(0, 10)),
            "inner_iterations": 10,
        },
        batch_size=draw(st.integers(1, 5_000)),
        workers=draw(st.integers(1, 16)),
        io_concurrency=draw(st.integers(1, 5_000)),
    )


@given(plans(), calibrations(), st.integers(1, 5_000))
@settings(max_examples=200, deadline=None)
def test_more_items_never_take_less(made: Plan, machine: Calibration, more: int) -> None:
    larger = replace(made, items=GeneratedItems(made.item_count + more))
    assert predict(larger, machine).seconds >= predict(made, machine).seconds * (1 - 1e-9)


@given(plans(), calibrations())
@settings(max_examples=200, deadline=None)
def test_no_prediction_is_below_the_lower_bound(made: Plan, machine: Calibration) -> None:
    bound = lower_bound_seconds(made, machine, max(made.io_concurrency, made.workers))
    assert predict(made, machine).seconds >= bound * (1 - 1e-9)


@given(plans(), calibrations())
@settings(max_examples=200, deadline=None)
def test_prediction_is_the_sum_of_its_terms(made: Plan, machine: Calibration) -> None:
    found = predict(made, machine)
    terms = found.terms
    assert min(terms.waiting, terms.computing, terms.overhead) >= -1e-9
    assert found.seconds == pytest.approx(terms.waiting + terms.computing + terms.overhead)
    assert found == predict(made, machine)
    assert found.memory_bytes >= machine.base_bytes


SECOND = (SimulatedStage("db", 1.0, 1.0),)
IDLE = {"cpu_iterations": 0, "outer_iterations": 0, "inner_iterations": 0}


@pytest.mark.parametrize(
    ("made", "limit"),
    [
        (plan(StrategyName.SEQUENTIAL), Limit.CPU),
        (plan(StrategyName.SEQUENTIAL, stages=SECOND), Limit.IO),
        (plan(StrategyName.THREADING, kernel="python"), Limit.GIL),
        (plan(StrategyName.THREADING, kernel="python", workers=1), Limit.CPU),
        (plan(StrategyName.THREADING), Limit.CPU),
        (plan(StrategyName.CONCURRENT_FUTURES, kernel="python"), Limit.CPU),
        (plan(StrategyName.HYBRID, kernel="python"), Limit.CPU),
        (plan(StrategyName.HYBRID, stages=SECOND), Limit.IO),
        (plan(StrategyName.THREADING, parameters=IDLE, batch_size=1), Limit.OVERHEAD),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.strategy}",
)
def test_limit_is_the_largest_term(made: Plan, limit: Limit) -> None:
    assert predict(made, usual()).limited_by is limit


@pytest.mark.parametrize(
    ("batches", "workers", "expected"),
    [(0, 3, 0.0), (1, 3, 2.0), (2, 3, 5.0), (3, 3, 5.0), (4, 3, 7.0), (5, 3, 10.0), (3, 1, 12.0)],
)
def test_makespan_counts_the_shorter_last_batch(
    batches: int, workers: int, expected: float
) -> None:
    assert makespan(batches, workers, 5.0, 2.0) == expected


def test_small_calls_cost_what_was_measured() -> None:
    costs = replace(
        ideal().kernel("loops", "cython"),
        call_seconds=1.0,
        item_seconds=0.5,
        sizes=(1, 8, 16),
        operation_seconds={"loop": (8.0, 1.0, 2.0), "nested": (0.0, 0.0, 0.0)},
    )
    per_size = {
        count: costs.seconds_of_call({"loop": 1, "nested": 0}, count) for count in (1, 8, 16)
    }
    assert per_size == {1: 1.5 + 8, 8: 5.0 + 8, 16: 9.0 + 32}
    filled = replace(costs, operation_seconds={"loop": (8.0, 4.0, 1.0), "nested": (0.0,) * 3})
    assert filled.seconds_of_call({"loop": 1, "nested": 0}, 8) == 5.0 + 32
    assert filled.seconds_of_call({"loop": 1, "nested": 0}, 16) == 9.0 + 16
    # between sizes linear, beyond them as at the largest
    assert costs.seconds_of_call({"loop": 1, "nested": 0}, 12) == 7.0 + 20
    assert costs.seconds_of_call({"loop": 1, "nested": 0}, 32) == 17.0 + 64


@pytest.mark.parametrize("strategy", [StrategyName.SEQUENTIAL, StrategyName.THREADING])
@pytest.mark.parametrize("waits", [(), (SimulatedStage("db", 0.001, 0.001),)])
def test_items_that_are_made_up_cost_what_that_takes(
    strategy: StrategyName, waits: tuple[SimulatedStage, ...]
) -> None:
    machine = ideal()
    slow = replace(
        machine.kernel("loops", "cython"), making_call_seconds=0.5, making_item_seconds=0.25
    )
    slower = replace(machine, kernels=(slow,))
    made_up = plan(strategy, 8, batch_size=4, workers=1, stages=waits)
    received = replace(made_up, items=FileItems("items", 8))
    more = predict(made_up, slower).seconds - predict(made_up, machine).seconds
    assert more == pytest.approx(2 * 0.5 + 8 * 0.25)
    assert predict(received, slower) == predict(received, machine)


def test_event_loop_is_slower_with_more_in_flight_and_smaller_batches() -> None:
    loop = LoopCosts((1e-4, 1.2e-4, 2e-4), NO_TIME, 0.0, 1.0)
    machine = replace(ideal(), loops=dict.fromkeys(ideal().loops, loop))
    wait = (SimulatedStage("db", 0.0, 1e-6),)
    made = plan(stages=wait, items=100_000, batch_size=100_000, parameters=IDLE)

    def seconds(in_flight: int, batch_size: int) -> float:
        return predict(
            replace(made, io_concurrency=in_flight, batch_size=batch_size), machine
        ).seconds

    assert seconds(10, 100_000) == pytest.approx(10 + 1, rel=0.02)
    assert seconds(500, 100_000) == pytest.approx(10 + 1, rel=0.02)
    assert seconds(4_000, 100_000) == pytest.approx(12 + 1, rel=0.02)
    assert 12.5 < seconds(7_000, 100_000) < 20
    assert seconds(10_000, 100_000) == pytest.approx(20 + 1, rel=0.02)
    assert seconds(20_000, 100_000) == pytest.approx(26 + 1, rel=0.02)  # 0.8 × log(2) ÷ log(2.5)
    assert seconds(500, 1_000) == pytest.approx(10 + 100, rel=0.01)


def test_tasks_begin_once_for_each_in_flight_in_each_batch() -> None:
    loop = LoopCosts((1e-4, 1.5e-4, 2e-4), NO_TIME, 1e-3, 0.0)
    machine = replace(ideal(), loops=dict.fromkeys(ideal().loops, loop))
    wait = (SimulatedStage("db", 0.0, 1e-6),)
    made = plan(StrategyName.ASYNC_BATCH, stages=wait, items=100_000, parameters=IDLE)

    def seconds(in_flight: int, batch_size: int) -> float:
        return predict(
            replace(made, io_concurrency=in_flight, batch_size=batch_size), machine
        ).seconds

    assert seconds(500, 100_000) == pytest.approx(10 + 0.5, rel=0.01)
    assert seconds(500, 500) == pytest.approx(10 + 200 * 0.5, rel=0.01)
    assert seconds(4_000, 100_000) == pytest.approx(1.5 * 10 + 4, rel=0.05)


def test_tasks_of_hybrid_are_not_begun_anew_for_each_batch() -> None:
    loop = LoopCosts((1e-4,) * 3, NO_TIME, 1e-3, 0.0)
    machine = replace(ideal(), loops=dict.fromkeys(ideal().loops, loop))
    wait = (SimulatedStage("db", 0.0, 1e-6),)
    made = plan(stages=wait, items=100_000, io_concurrency=1_000, parameters=IDLE)
    for size in (5_000, 20):
        seconds = predict(replace(made, batch_size=size), machine).seconds
        assert seconds == pytest.approx(10 + 1, rel=0.02)


def test_hybrid_passes_on_each_batch_beside_the_work() -> None:
    machine = ideal()
    costs = replace(machine.strategies["hybrid"], empty_batch_seconds=1e-3, full_batch_seconds=1e-3)
    machine = replace(machine, strategies={**machine.strategies, "hybrid": costs})
    wait = (SimulatedStage("db", 0.0, 1e-6),)
    made = plan(stages=wait, items=100_000, io_concurrency=1_000)
    few, many = (predict(replace(made, batch_size=size), machine) for size in (10_000, 100))
    assert many.seconds - few.seconds == pytest.approx(0.99, rel=0.1)


@pytest.mark.parametrize(
    ("call", "workers", "expected"),
    [
        (0.0, 2, 99 * 1.0),
        (20.0, 2, 100 * 20.0 / 2 + 99 * 3.0),  # all CPUs are busy
        (10.0, 2, 100 * 10.0 / 2 + 99 * 2.0),  # halfway from a batch without work to a full one
        (20.0, 4, 100 * 20.0 / 2 + 99 * 3.0),
        (20.0, 1, 100 * 20.0 + 99 * 1.5),  # the other CPU has the time to pass batches on
        (0.0, 1, 99 * 1.5),
    ],
)
def test_cost_of_a_batch_depends_on_its_work_and_the_workers(
    call: float, workers: int, expected: float
) -> None:
    """Milliseconds, for 100 batches on two CPUs."""
    costs = StrategyCosts(
        start_seconds=0.0,
        empty_batch_seconds=1e-3,
        full_batch_seconds=3e-3,
        full_seconds=10e-3,
        worker_seconds=1.5e-3,
        item_seconds=0.0,
        setup_seconds=0.0,
        worker_bytes=0,
    )
    kernel = replace(ideal().kernel("loops", "cython"), call_seconds=call / 1e3)
    machine = replace(ideal(), kernels=(kernel,), strategies=dict.fromkeys(StrategyName, costs))
    made = plan(StrategyName.THREADING, items=100, batch_size=1, workers=workers, parameters=IDLE)
    assert predict(made, machine).seconds == pytest.approx(expected / 1e3)


def test_threads_of_a_kernel_that_holds_the_gil_are_no_faster() -> None:
    machine, one = usual(), plan(StrategyName.THREADING, kernel="python", workers=1)
    more = [predict(replace(one, workers=workers), machine).seconds for workers in (2, 4, 8)]
    alone = predict(one, machine).seconds
    assert all(seconds >= alone * 0.99 for seconds in more)
    processes = replace(one, strategy=StrategyName.MULTIPROCESSING, workers=2)
    assert predict(processes, machine).seconds < 0.6 * alone


def test_workers_over_the_limit_are_not_counted() -> None:
    made = plan(StrategyName.THREADING, stages=SECOND, batch_size=10, workers=50)
    few, many = usual(threads=4), usual(threads=50)
    assert predict(made, few).seconds == pytest.approx(250, rel=0.01)
    assert predict(made, many).seconds == pytest.approx(20, rel=0.01)


def test_uneven_waits_hold_up_batches_but_not_the_window() -> None:
    uneven = (SimulatedStage("db", 0.0, 1.0),)
    made = plan(stages=uneven, items=10_000, batch_size=100, io_concurrency=100)
    window = predict(made, ideal()).seconds
    batches = predict(replace(made, strategy=StrategyName.ASYNC_BATCH), ideal()).seconds
    # 100 waves of 0.5 s on average, against 100 batches of about 1 s
    assert window == pytest.approx(50, rel=0.1)
    assert batches == pytest.approx(100, rel=0.1)


def test_resumed_run_is_predicted_by_its_remaining_items() -> None:
    made = plan(StrategyName.SEQUENTIAL, items=10_000)
    rest = replace(made, ranges=((0, 100), (5_000, 100)))
    whole, left = predict(made, ideal()).seconds, predict(rest, ideal()).seconds
    assert left == pytest.approx(whole * 200 / 10_000)
    assert predict(replace(made, ranges=()), ideal()).seconds == 0.0


def test_unknown_kernel_is_a_lookup_error() -> None:
    with pytest.raises(LookupError, match="numba"):
        predict(plan(kernel="numba"), replace(usual(), kernels=()))
