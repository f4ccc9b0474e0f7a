"""Costs are measured as a kernel takes time, on a clock that the kernel sets, so that all figures
are known: app/workloads/timing.py, app/workloads/measuring.py and app/workloads/contention.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hotloop.app.workloads import measuring, timing
from hotloop.app.workloads.measuring import kernel_costs, sampled_seconds
from hotloop.app.workloads.timing import KernelTimer
from hotloop.kernels import Workload
from hotloop.kernels.kernel import Kernel
from tests.fixtures.own_modules import AREA, TURNS, UNTIL, workload_of, write


class Clock:
    """Time that passes only when a kernel lets it."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def kernel_of(
    workload: Workload, function: Callable[..., None], *, releases_gil: bool = True
) -> Kernel:
    return Kernel("made-up", workload, releases_gil, None, (function,), lambda: None)


def test_terms_and_calls_are_told_apart(tmp_path: Path, clock: Clock) -> None:
    workload, calls = workload_of(write(tmp_path, "turns", TURNS)), []

    def compute(start: NDArray[Any], turns: int, result: NDArray[Any]) -> None:
        taken = 20e-6 + len(start) * (1e-7 + turns * 2e-9)
        clock.now += taken
        calls.append((len(start), taken))

    costs = kernel_costs(kernel_of(workload, compute), workload.resolve_parameters(), 1)
    assert costs.call_seconds == pytest.approx(20e-6)
    assert costs.item_seconds == pytest.approx(1e-7, rel=1e-3)
    assert costs.operation_seconds["turn"] == pytest.approx([2e-9] * len(costs.sizes), rel=1e-3)
    assert (costs.thread_slowdown, costs.process_slowdown) == (1.0, 1.0)
    for parameters, count in (({}, 1_000), ({"turns": 5}, 7), ({"turns": 90_000}, 3)):
        operations = workload.operations(parameters)
        true = 20e-6 + count * (1e-7 + operations["turn"] * 2e-9)
        assert costs.seconds_of_call(operations, count) == pytest.approx(true, rel=1e-3)
    assert max(taken for count, taken in calls if count > 1) <= measuring.LONGEST_SECONDS * 1.01
    assert sum(taken for _, taken in calls) < 3 * timing.BUDGET_SECONDS


def test_items_side_by_side_cost_more_in_small_calls(tmp_path: Path, clock: Clock) -> None:
    workload = workload_of(write(tmp_path, "turns", TURNS))

    def compute(start: NDArray[Any], turns: int, result: NDArray[Any]) -> None:
        lanes = -(-len(start) // 16) * 16
        clock.now += 1e-6 + lanes * turns * 1e-9

    costs = kernel_costs(kernel_of(workload, compute), workload.resolve_parameters(), 1)
    operations = workload.operations()
    assert costs.seconds_of_call(operations, 1) == pytest.approx(1e-6 + 16e-6, rel=0.02)
    assert costs.seconds_of_call(operations, 16) == pytest.approx(1e-6 + 16e-6, rel=0.02)
    assert costs.seconds_of_call(operations, 4_096) == pytest.approx(4_096e-6, rel=0.02)


def test_slow_kernel_is_measured_where_it_is_affordable(tmp_path: Path, clock: Clock) -> None:
    workload, begun = workload_of(write(tmp_path, "turns", TURNS)), clock.now

    def compute(start: NDArray[Any], turns: int, result: NDArray[Any]) -> None:
        clock.now += len(start) * turns * 0.02  # 20 s for an item with the default

    costs = kernel_costs(
        kernel_of(workload, compute, releases_gil=False), workload.resolve_parameters(), 2
    )
    assert costs.operation_seconds["turn"][-1] == pytest.approx(0.02, rel=1e-3)
    assert clock.now - begun < 10 * timing.BUDGET_SECONDS
    assert costs.thread_slowdown == 2.0


def test_sample_is_the_mean_of_many_items(tmp_path: Path, clock: Clock) -> None:
    workload = workload_of(write(tmp_path, "until", UNTIL))

    def compute(start: NDArray[Any], most: int, result: NDArray[Any]) -> None:
        clock.now += 3e-6 + float((start * most * 1e-8).sum())

    kernel, parameters = kernel_of(workload, compute), workload.resolve_parameters({"most": 500})
    timer = KernelTimer(kernel)
    beside = timer.call_seconds(parameters)
    ids = np.arange(measuring.SAMPLED_ITEMS, dtype=np.int64)
    true = float((workload.simulated_columns(ids)["start"] * 500 * 1e-8).mean())
    assert sampled_seconds(timer, parameters, beside) == pytest.approx(true, rel=0.01)
    costs = kernel_costs(kernel, parameters, 1)
    assert costs.seconds_of_call(workload.operations(), 1_000) == pytest.approx(
        3e-6 + 1_000 * true, rel=0.01
    )


def test_items_that_fail_are_left_out(tmp_path: Path, clock: Clock) -> None:
    workload = workload_of(write(tmp_path, "turns", TURNS))

    def compute(start: NDArray[Any], turns: int, result: NDArray[Any]) -> None:
        if (start > 0.5).any():
            raise ValueError("out of range")
        clock.now += len(start) * 1e-6

    timer = KernelTimer(kernel_of(workload, compute))
    assert timer.call(1_000, workload.resolve_parameters()) == pytest.approx(1e-3)
    assert timer.good is not None
    assert 0 < len(timer.good) < timing.TRIED_ITEMS

    def fail(*_: Any) -> None:
        raise ValueError("never")

    with pytest.raises(ValueError, match="never"):
        kernel_costs(kernel_of(workload, fail), workload.resolve_parameters(), 1)


def test_kernel_that_needs_an_item_is_measured(tmp_path: Path, clock: Clock) -> None:
    workload = workload_of(write(tmp_path, "area", AREA))

    def compute(radius: NDArray[Any], result: NDArray[Any]) -> None:
        float(radius[0])
        clock.now += 1e-6 + len(radius) * 1e-8

    costs = kernel_costs(kernel_of(workload, compute), {}, 1)
    assert costs.seconds_of_call({"item": 1.0}, 10_000) == pytest.approx(1e-4, rel=0.05)


def test_kernel_that_holds_the_gil_is_timed_in_processes(tmp_path: Path, clock: Clock) -> None:
    workload = workload_of(write(tmp_path, "turns", TURNS))

    def compute(start: NDArray[Any], turns: int, result: NDArray[Any]) -> None:
        clock.now += len(start) * turns * 1e-7

    kernel = kernel_of(workload, compute, releases_gil=False)
    costs = kernel_costs(kernel, workload.resolve_parameters(), 3)
    assert costs.thread_slowdown == 3.0
    assert costs.process_slowdown == pytest.approx(1.0)


def test_making_up_items_is_measured_beside_the_kernel(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "time", clock)
    workload = workload_of(write(tmp_path, "turns", TURNS))

    def sampler(ids: NDArray[np.int64]) -> NDArray[Any]:
        clock.now += 30e-6 + len(ids) * 2e-7
        return np.zeros(len(ids))

    sampled = replace(workload.columns_in[0], sample="there", sampler=sampler)
    workload = replace(workload, columns_in=(sampled, *workload.columns_in[1:]))

    def compute(start: NDArray[Any], turns: int, result: NDArray[Any]) -> None:
        clock.now += 20e-6 + len(start) * 1e-7

    costs = kernel_costs(kernel_of(workload, compute), workload.resolve_parameters(), 1)
    assert costs.call_seconds == pytest.approx(20e-6)
    assert costs.making_item_seconds == pytest.approx(2e-7, rel=1e-3)
    assert costs.making_seconds(1_000) == pytest.approx(30e-6 + 1_000 * 2e-7, rel=1e-2)
