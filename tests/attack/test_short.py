"""A very short form of each attack; `make attack` makes them long. Nothing here is timed."""

from __future__ import annotations

import pytest

from tests.attack import descriptors, flood, fuzz, slow, streams
from tests.attack.findings import Findings
from tests.attack.small import MOST, small_body, small_query

pytestmark = pytest.mark.long

NOT_INSTALLED = "the extra attack is not installed"
QUICK = {"cpu_iterations": 10, "outer_iterations": 2, "inner_iterations": 2}


def check(findings: Findings) -> None:
    assert findings.faults(timed=False) == [], "\n".join(findings.details)
    assert findings.figures


def test_generated_requests() -> None:
    pytest.importorskip("schemathesis", reason=NOT_INSTALLED)
    from tests.attack.generated import attack

    check(attack(requests=150, first_phases=("fuzzing", "stateful")))


def test_flood() -> None:
    check(flood.attack(clients=30, seconds=60, parameters=QUICK, most_requests=60))


def test_slow_clients() -> None:
    check(slow.attack(connections=30, limit_seconds=2))


def test_abandoned_streams() -> None:
    check(streams.attack(streams=40))


def test_exhausted_descriptors() -> None:
    check(descriptors.attack(rounds=2))


def test_fuzzing() -> None:
    pytest.importorskip("atheris", reason=NOT_INSTALLED)
    check(fuzz.attack(runs=300, most_seconds=20))


def test_generated_bodies_become_small_and_stay_invalid() -> None:
    small = small_body(
        {"items_count": 10_000_000, "workers": 256, "parameters": {"cpu_iterations": 9_999_999}}
    )
    assert small["items_count"] == MOST["items_count"]
    assert small["workers"] == MOST["workers"]
    assert small["parameters"]["cpu_iterations"] == MOST["cpu_iterations"]
    invalid = {"items_count": 0, "workers": True, "db_delay_ms": "1", "rounds": 10**9}
    assert small_body(invalid) | invalid == small_body(invalid)
    assert small_body([1]) == [1]
    compared = small_body({"kernels": None, "items": None}, is_comparison=True)
    assert compared["kernels"] == ["numba"]
    assert compared["strategies"] == ["sequential"]
    assert compared["items_count"] <= MOST["items_count"]
    assert small_query({"wait": True})["wait"] == "false"
    assert small_query({"items_count": 5_000, "x": 1}) == {"items_count": 20, "x": 1}


def test_figure_out_of_bounds_is_a_fault() -> None:
    """The judge judges: a figure that is not as it must be is a fault, timed or not."""
    findings = Findings("part", "how")
    findings.none("errors", ["one"])
    findings.at_most_ms("p99", 21.0, 20.0)
    findings.exactly("status", 200, 200)
    assert findings.faults(timed=False) == ["part: errors: 1, must be 0"]
    assert len(findings.faults()) == 2
