"""Plans are made from requests, with an estimate of their seconds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from hotloop import kernels
from hotloop.app.errors import EstimateTooLongError, InvalidRequestError
from hotloop.app.names import StrategyName
from hotloop.app.prediction.model import estimate_seconds
from hotloop.app.prediction.plan import check_estimate, make_plan
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.options import DbSource
from hotloop.app.schemas.runs import RunRequest, UploadQuery
from hotloop.app.settings.settings import Settings
from hotloop.app.sources.simulated import GeneratedItems, SimulatedStage
from hotloop.kernels.contract import Scratch, Term, WorkloadSource
from hotloop.kernels.loops import LOOPS
from tests.fixtures.calibrations import ideal


def report(kernel: str, loop: float, nested: float, **changes: Any) -> KernelReport:
    fields: dict[str, Any] = {
        "workload": "loops",
        "kernel": kernel,
        "available": True,
        "reason": None,
        "releases_gil": kernel != "python",
        "instruction_set": None,
        "warm_up_seconds": 0.0,
        "ns_per_operation": {"loop": loop, "nested": nested},
    }
    return KernelReport(**(fields | changes))


SETTINGS = Settings(data_dir=Path("data"))

# 2 ms and 0.1 ms an item with the default parameters
REPORTS = (
    report("python", 100.0, 0.0),
    report("cython", 0.0, 5.0),
    report("numba", 0, 0, available=False, reason="it is not here", ns_per_operation={}),
)


def parsed(body: dict[str, Any]) -> RunRequest:
    return RunRequest.model_validate_json(json.dumps(body))


def plan(strategy: str = "sequential", **body: Any) -> Any:
    request = parsed({"kernel": "cython", "items_count": 1_000} | body)
    items = GeneratedItems(request.total_items)
    return make_plan(StrategyName(strategy), request, items, REPORTS, ideal(REPORTS), SETTINGS)


def test_defaults_become_both_stages_and_all_parameters() -> None:
    made = plan()
    assert made.stages == (SimulatedStage("db", 1.0, 1.0), SimulatedStage("cache", 0.001, 0.01))
    assert made.parameters == {
        "cpu_iterations": 20_000,
        "outer_iterations": 100,
        "inner_iterations": 200,
    }


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"db": "none"}, ["cache"]),
        ({"cache": "none"}, ["db"]),
        ({"simulate_db_delay": False}, ["cache"]),
        ({"simulate_redis_delay": False}, ["db"]),
        ({"db_delay_ms": 0}, ["cache"]),
        ({"redis_delay_ms": [0, 0]}, ["db"]),
        ({"redis_delay_ms": [0, 1]}, ["db", "cache"]),
    ],
)
def test_stage_that_answers_at_once_is_left_out(body: dict[str, Any], names: list[str]) -> None:
    assert [stage.name for stage in plan(**body).stages] == names


def test_items_with_columns_skip_the_stages_unless_asked() -> None:
    rows = [{"item_id": 1, "value": 1.0, "offset": 2}]
    request = parsed({"items": rows, "kernel": "cython"})
    made = make_plan(
        StrategyName.HYBRID, request, GeneratedItems(1), REPORTS, ideal(REPORTS), SETTINGS
    )
    assert made.stages == ()
    asked = UploadQuery(db=DbSource.SIMULATED, kernel="cython")
    stages = make_plan(
        StrategyName.HYBRID, asked, GeneratedItems(1), REPORTS, ideal(REPORTS), SETTINGS
    ).stages
    assert [stage.name for stage in stages] == ["db"]


def test_auto_takes_the_fastest_kernel_for_the_parameters() -> None:
    assert plan(kernel="auto").kernel == "cython"
    nested_only = {"cpu_iterations": 0, "outer_iterations": 1_000, "inner_iterations": 1_000}
    assert plan(kernel="auto", parameters=nested_only).kernel == "python"


def test_auto_is_refused_with_all_reasons_if_no_kernel_is_available() -> None:
    none = [replace(each, available=False, reason=f"no {each.kernel}") for each in REPORTS]
    with pytest.raises(
        InvalidRequestError, match=r"python: no python; cython: no cython"
    ) as caught:
        make_plan(
            StrategyName.HYBRID, RunRequest(), GeneratedItems(1), none, ideal(REPORTS), SETTINGS
        )
    assert caught.value.field == "kernel"


def test_unavailable_kernel_is_refused_with_its_reason() -> None:
    with pytest.raises(InvalidRequestError, match="it is not here") as caught:
        plan(kernel="numba")
    assert caught.value.field == "kernel"


def test_refusal_of_an_unknown_workload_lists_the_known_ones() -> None:
    with pytest.raises(InvalidRequestError, match="loops") as caught:
        plan(workload="nothing")
    assert caught.value.field == "workload"


IO, CPU = 1.0055, 0.1e-3


@pytest.mark.parametrize(
    ("strategy", "body", "seconds"),
    [
        ("sequential", {}, 1_000 * (IO + CPU)),
        ("threading", {"workers": 10, "batch_size": 100}, 1_000 * (IO + CPU) / 10),
        # no more workers than batches
        ("threading", {"workers": 10, "batch_size": 500}, 1_000 * (IO + CPU) / 2),
        ("multiprocessing", {"workers": 4, "batch_size": 10}, 1_000 * (IO + CPU) / 4),
        ("concurrent-futures", {"workers": 4, "batch_size": 10}, 1_000 * (IO + CPU) / 4),
        ("async-batch", {"batch_size": 100}, 10 * IO + 1_000 * CPU),
        ("async-batch", {"batch_size": 100, "io_concurrency": 50}, 20 * IO + 1_000 * CPU),
        # All are one batch, which is computed when the last has come, or many.
        ("hybrid", {"io_concurrency": 100}, 10 * IO + 1_000 * CPU),
        ("hybrid", {"io_concurrency": 100, "batch_size": 10}, 10 * IO + 100 * CPU / 2),
    ],
)
def test_estimates_are_those_of_the_formulas(
    strategy: str, body: dict[str, Any], seconds: float
) -> None:
    # To 1 %: of those that wait at once the slowest counts.
    found = estimate_seconds(plan(strategy, **body), ideal(REPORTS))
    assert found == pytest.approx(seconds, rel=0.01)


REAL = Settings(
    data_dir=Path("data"), pinot_url="http://broker", redis_url=SecretStr("redis://cache")
)
CALL = 0.1 + 0.001


@pytest.mark.parametrize(
    ("strategy", "body", "seconds"),
    [
        # Each item is asked for by itself.
        ("sequential", {}, 1_000 * (CALL + CPU)),
        ("threading", {"workers": 2}, 1_000 * (CALL / 50 + CPU) / 2),
        # Of 10 batches one worker has 3.
        ("multiprocessing", {"workers": 4}, 300 * (CALL / 50 + CPU)),
        ("concurrent-futures", {"workers": 1}, 1_000 * (CALL / 50 + CPU)),
        # 250 in flight are 5 groups, so that 200 take one turn, or 2 turns with 3 in flight.
        ("async-batch", {"batch_size": 200, "io_concurrency": 250}, 5 * CALL + 1_000 * CPU),
        ("async-batch", {"batch_size": 200, "io_concurrency": 199}, 5 * 2 * CALL + 1_000 * CPU),
        ("hybrid", {"io_concurrency": 250}, 4 * CALL + 300 * CPU / 2),
        ("hybrid", {"io_concurrency": 299}, 4 * CALL + 300 * CPU / 2),
        # One group at least.
        ("hybrid", {"io_concurrency": 1}, 20 * CALL + 100 * CPU),
        # A group is within a batch.
        ("threading", {"workers": 2, "batch_size": 10}, 1_000 * (CALL / 10 + CPU) / 2),
        ("hybrid", {"batch_size": 10, "io_concurrency": 100}, 10 * CALL + 100 * CPU / 2),
    ],
)
def test_estimates_with_stages_that_ask_for_groups(
    strategy: str, body: dict[str, Any], seconds: float
) -> None:
    common = {"db": "pinot", "cache": "redis", "kernel": "cython", "items_count": 1_000}
    request = parsed(common | {"query_batch_size": 50, "batch_size": 100} | body)
    items = GeneratedItems(request.total_items)
    made = make_plan(StrategyName(strategy), request, items, REPORTS, ideal(REPORTS), REAL)
    assert [stage.name for stage in made.stages] == ["db", "cache"]
    assert estimate_seconds(made, ideal(REPORTS)) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("strategy", "kernel", "busy"),
    [
        ("threading", "python", 1),
        ("threading", "cython", 2),
        ("multiprocessing", "python", 2),
        ("hybrid", "python", 2),
        ("async-batch", "cython", 1),
    ],
)
def test_cpu_bound_estimates_depend_on_the_gil_and_the_cpus(
    strategy: str, kernel: str, busy: int
) -> None:
    made = plan(strategy, kernel=kernel, db="none", cache="none", workers=8, batch_size=10)
    expected = 1_000 * {"python": 2e-3, "cython": CPU}[kernel] / busy
    assert estimate_seconds(made, ideal(REPORTS)) == pytest.approx(expected)


def test_refusal_of_a_long_estimate_has_both_figures_and_advice() -> None:
    with pytest.raises(EstimateTooLongError, match="hybrid") as caught:
        check_estimate(plan(), ideal(REPORTS), limit_seconds=100)
    assert caught.value.estimate_seconds == pytest.approx(1_005.6)
    assert check_estimate(plan(), ideal(REPORTS), limit_seconds=1_006) < 1_006


@pytest.mark.parametrize(
    ("kernel", "parameters", "expected"),
    [
        ("cython", {}, 2_496),  # 0.25 s ÷ 0.1 ms, in whole lanes
        ("python", {}, 64),  # of 125
        ("python", {"cpu_iterations": 200_000}, 12),
        ("python", {"cpu_iterations": 10_000_000}, 1),
        ("cython", {"outer_iterations": 0}, 1 << 30),
    ],
)
def test_slices_take_a_quarter_of_a_second(
    kernel: str, parameters: dict[str, int], expected: int
) -> None:
    assert plan(kernel=kernel, parameters=parameters).slice_items == expected


def test_plan_names_the_source_of_a_users_function() -> None:
    assert plan().source is None
    source = WorkloadSource("prices", "put", "0" * 64)
    try:
        kernels.declare(replace(LOOPS, source=source))
        assert plan().source == source
    finally:
        kernels.declare(LOOPS)


@pytest.mark.parametrize(
    ("changes", "field", "text"),
    [
        (
            {"scratch": (Scratch("values", "float64", ("cpu_iterations - 8",)),)},
            "cpu_iterations",
            "these parameters give scratch 'values' the shape (-1,); it may have up to",
        ),
        (
            {"scratch": (Scratch("values", "float64", ("1 / (cpu_iterations - 7)",)),)},
            "cpu_iterations",
            "the shape of scratch 'values': ",
        ),
        (
            {"terms": (Term("loop", "1 / (cpu_iterations - 7)"),)},
            "cpu_iterations",
            "the cost 'loop' of these parameters: ",
        ),
    ],
)
def test_parameters_with_which_no_batch_could_run_are_refused(
    changes: dict[str, Any], field: str, text: str
) -> None:
    try:
        kernels.declare(replace(LOOPS, **changes))
        with pytest.raises(kernels.InvalidParameterError) as raised:
            plan(parameters={"cpu_iterations": 7})
    finally:
        kernels.declare(LOOPS)
    assert raised.value.field == field
    assert raised.value.message.startswith(text)
