"""Timing kernels: calls with one cost term, disturbed calls, slowdowns by contention."""

from __future__ import annotations

import pytest

from hotloop import kernels
from hotloop.app.runhost.calibrate.kernel_costs import (
    IDLE_ITEMS,
    SIZES,
    WHOLE_PROBE_ITEMS,
    KernelTimes,
    probe,
)

WORKLOAD = kernels.get_workload("loops")
TERMS = sorted(term.name for term in WORKLOAD.terms)


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("size", SIZES)
def test_probe_has_one_term_and_bounded_operations(term: str, size: int) -> None:
    operations = WORKLOAD.operations(probe("loops", term, size))
    assert {name for name, count in operations.items() if count} == {term}
    whole = WORKLOAD.operations(WORKLOAD.probes[term])[term]
    assert size * operations[term] <= 2 * WHOLE_PROBE_ITEMS * whole
    if size <= WHOLE_PROBE_ITEMS:
        assert operations[term] == whole


@pytest.mark.parametrize("disturbed", [11e-6, 50e-6])
def test_disturbed_idle_call_does_not_make_operations_free(
    disturbed: float,
) -> None:
    # One item: 10 µs for the call, 5 µs for its operations; the call alone was once seen slower.
    times = KernelTimes("loops", "cython", sizes=[1, 512])
    times.rounds = {("", 1): [disturbed], ("", IDLE_ITEMS): [disturbed]}
    for term in TERMS:
        times.rounds |= {(term, 1): [15e-6], (term, 512): [3e-3, 2e-3, 1e-3]}
    costs = times.costs()
    for term in TERMS:
        operations = WORKLOAD.operations(probe("loops", term, 512))[term]
        alone, among = costs.operation_seconds[term]
        assert among == pytest.approx((2e-3 - disturbed) / 512 / operations)
        expected = (15e-6 - disturbed) / WORKLOAD.operations(probe("loops", term, 1))[term]
        assert alone == pytest.approx(max(among, expected))


def test_least_slowdown_counts() -> None:
    times = KernelTimes("loops", "cython", sizes=[1])
    times.rounds = {("", 1): [1e-6], ("", IDLE_ITEMS): [1e-3]} | {(t, 1): [1e-4] for t in TERMS}
    for slowdowns in ((1.9, 1.0), (1.1, 1.3), (1.5, 1.2)):
        times.note_slowdowns(*slowdowns)
    costs = times.costs()
    assert (costs.thread_slowdown, costs.process_slowdown) == (1.1, 1.0)
