"""The check for outputs that break the parity rule agrees with the suite's own bound."""

import numpy as np
import pytest

from hotloop.kernels import Kernel
from hotloop.kernels.loops import LOOPS
from hotloop.kernels.parity import parity_faults
from tests.kernels.cases import mixed_columns
from tests.kernels.oracles import addends_magnitude

PARAMETERS = {"cpu_iterations": 2_000, "outer_iterations": 7, "inner_iterations": 9}


def test_kernels_have_no_faults(compiled: Kernel, python: Kernel) -> None:
    columns = mixed_columns(33, seed=5)
    expected, computed = (kernel.run(columns, PARAMETERS) for kernel in (python, compiled))
    assert parity_faults(LOOPS, columns, PARAMETERS, expected, computed) == []


@pytest.mark.parametrize(("share", "faults"), [(0.9, 0), (1.1, 1)])
def test_bound_follows_the_rule(python: Kernel, share: float, faults: int) -> None:
    columns = mixed_columns(5, seed=6)
    expected = python.run(columns, PARAMETERS)
    computed = {name: column.copy() for name, column in expected.items()}
    bound = 4 * 2.0**-52 * addends_magnitude(float(columns["value"][3]), 2_000)
    computed["loop"][3] += share * bound
    found = parity_faults(LOOPS, columns, PARAMETERS, expected, computed)
    assert len(found) == faults
    assert all("position 3" in fault for fault in found)


def test_integers_must_be_equal(python: Kernel) -> None:
    columns = mixed_columns(5, seed=6)
    expected = python.run(columns, PARAMETERS)
    computed = {name: column.copy() for name, column in expected.items()}
    computed["nested"][2] += 1
    (fault,) = parity_faults(LOOPS, columns, PARAMETERS, expected, computed)
    assert fault.startswith("nested of the item at position 2")


def test_non_finite_result_is_a_fault(python: Kernel) -> None:
    columns = mixed_columns(5, seed=6)
    expected = python.run(columns, PARAMETERS)
    computed = {name: column.copy() for name, column in expected.items()}
    computed["loop"][0] = np.nan
    assert len(parity_faults(LOOPS, columns, PARAMETERS, expected, computed)) == 1
