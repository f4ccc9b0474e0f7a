"""The faults of own_faults.txt, each in a kernel that Numba compiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotloop.app.check import certify
from tests.check.own_faults import CORRECT, FAULTS, Fault

pytestmark = pytest.mark.long

SECONDS = 60.0


def test_correct_kernel_passes(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(CORRECT)
    certificate = certify("own.py:work", seconds=SECONDS, folder=tmp_path)
    assert certificate.findings == ()
    assert [each.name for each in certificate.kernels] == ["python", "numba", "fast"]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=lambda fault: fault.name)
def test_fault_is_found_in_the_kernel_that_has_it(fault: Fault, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(fault.source)
    certificate = certify("own.py:work", seconds=SECONDS, folder=tmp_path)
    assert fault.points & {each.point for each in certificate.findings}, certificate
    assert {each.kernel for each in certificate.findings} == {"fast"}
