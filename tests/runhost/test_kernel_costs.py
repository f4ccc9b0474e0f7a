"""What kernels are timed with: one term alone, in calls that are over soon."""

from __future__ import annotations

import pytest

import kernels
from app.runhost.kernel_costs import SIZES, WHOLE_PROBE_ITEMS, probe

WORKLOAD = kernels.get_workload("loops")
TERMS = sorted(term.name for term in WORKLOAD.terms)


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("size", SIZES)
def test_probe_is_one_term_and_no_larger_call_has_more_operations(term: str, size: int) -> None:
    operations = WORKLOAD.operations(probe("loops", term, size))
    assert {name for name, count in operations.items() if count} == {term}
    whole = WORKLOAD.operations(WORKLOAD.probes[term])[term]
    assert size * operations[term] <= 2 * WHOLE_PROBE_ITEMS * whole
    if size <= WHOLE_PROBE_ITEMS:
        assert operations[term] == whole
