"""The machine before a calibration: facts, typical constants at its pace, a sensible ranking."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from hotloop import kernels
from hotloop.app.names import StrategyName
from hotloop.app.prediction.machine import (
    PACES,
    REFERENCE_NS,
    host_facts,
    pace,
    reported_calibration,
    workload_view,
)
from hotloop.app.prediction.search_space import Candidate, Fixed, ranked, search_space
from hotloop.app.schemas.comparison import HostView
from hotloop.app.sources.simulated import SimulatedStage
from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from hotloop.app.system import usable_cpu_count
from tests.fixtures.calibrations import report
from tests.prediction.test_model import plan

LIKE = (report("python", 125.0), report("cython", 0.9), report("numba", 0.85))
"""About as the machine of the typical constants reports its kernels."""

PLENTY = 1 << 40


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for each in value.values() for number in numbers(each)]
    if isinstance(value, list | tuple):
        return [number for each in value for number in numbers(each)]
    return [value]


def test_pace_is_that_of_the_python_kernel() -> None:
    assert pace([]) == 1.0
    assert pace([report("cython", 500.0)]) == 1.0
    assert pace([report("python", available=False)]) == 1.0
    twice = {term: 2 * ns for term, ns in REFERENCE_NS.items()}
    slow = replace(report("python"), ns_per_operation=twice)
    assert pace([slow]) == pytest.approx(2.0)
    assert pace([report("python", 1e9)]) == PACES[1]
    assert pace([report("python", 1e-9)]) == PACES[0]


def test_pace_scales_all_constants_but_waits_and_bytes() -> None:
    usual, slow = (
        reported_calibration((report("python", ns), *LIKE[1:]), 2, 8, 8) for ns in (100.0, 300.0)
    )
    for name in LOCAL_STRATEGIES:
        one, other = usual.strategies[name], slow.strategies[name]
        assert numbers(asdict(other))[:-1] == pytest.approx(
            [3 * each for each in numbers(asdict(one))[:-1]]
        )
        assert other.worker_bytes == one.worker_bytes
    for its, loop in usual.loops.items():
        assert numbers(asdict(slow.loops[its])) == pytest.approx(
            [3 * each for each in numbers(asdict(loop))]
        )
    assert slow.waits == usual.waits


def best(**work: Any) -> Candidate:
    names = work.pop("kernels", tuple(kernels.available_kernels("loops")))
    calibration = reported_calibration(LIKE, 2, 256, 8)
    made = plan(**work)
    return ranked(search_space(made, Fixed(kernels=names), calibration), calibration, PLENTY)[0]


def test_waiting_work_is_best_with_hybrid_and_many_in_flight() -> None:
    stages = (SimulatedStage("db", 0.05, 0.05), SimulatedStage("cache", 0.001, 0.002))
    choice = best(items=20_000, stages=stages)
    assert choice.plan.strategy is StrategyName.HYBRID
    assert choice.plan.io_concurrency >= 2_000


def test_computing_work_is_best_with_a_compiled_kernel_on_all_cpus() -> None:
    choice = best(items=50_000)
    assert choice.plan.kernel != "python"
    assert choice.plan.strategy in (StrategyName.THREADING, StrategyName.HYBRID)
    assert choice.plan.workers == 2


def test_computing_work_of_the_python_kernel_is_best_in_processes() -> None:
    choice = best(items=5_000, kernels=("python",))
    assert choice.plan.strategy in (
        StrategyName.MULTIPROCESSING,
        StrategyName.CONCURRENT_FUTURES,
        StrategyName.HYBRID,  # which hands this kernel to processes
    )
    assert choice.plan.workers >= 2


def test_facts_are_those_of_this_machine() -> None:
    reports = (
        report("python"),
        replace(report("cython"), instruction_set="avx2+fma"),
        report("numba", available=False),
    )
    view = HostView(**host_facts(reports, "loops"))
    assert view.usable_cpus == usable_cpu_count() <= view.cpus
    assert view.memory_bytes is not None
    assert view.memory_bytes > 1 << 27
    assert view.instruction_sets == {"python": None, "cython": "avx2+fma"}
    assert {"hotloop", "numpy", "numba"} <= set(view.versions)
    assert (view.load_after, view.throttled_seconds) == (None, None)


def test_view_of_a_workload_shows_all_that_it_declares(signals: kernels.Workload) -> None:
    """`schemas.service`: what forms and clients are made from."""
    source = kernels.WorkloadSource("signals", "level", "0123456789abcdef", folder="/secret")
    shown = workload_view(replace(signals, source=source)).model_dump(mode="json")
    assert (shown["source"], shown["version"]) == ("signals:level", "0123456789ab")
    assert "secret" not in str(shown)
    assert shown["terms"] == [{"name": "samples", "operations": "3"}]
    assert shown["depends_on_data"] is False
    columns = {each["name"]: each for each in shown["columns_in"]}
    assert (columns["inverted"]["dtype"], columns["inverted"]["example"]) == ("bool", False)
    assert (columns["samples"]["width"], columns["samples"]["example"]) == (3, 0.5)
    assert columns["noise"]["width"] is None
    parameters = {each["name"]: each for each in shown["parameters"]}
    assert parameters["method"]["choices"] == ["sum", "mean"]
    assert repr(parameters["order"]["choices"]) == "[1, 2, 2.5]"
    assert (parameters["absolute"]["dtype"], parameters["absolute"]["default"]) == ("bool", False)
    assert parameters["absolute"]["minimum"] is parameters["method"]["maximum"] is None
    own = workload_view(kernels.get_workload("loops"))
    assert (own.source, own.version) == (None, None)
