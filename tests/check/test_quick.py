"""One fault for each point of a certificate, in a kernel of numpy, and the kernel without a fault.

app/check/certifying.py, processes.py, told.py, children.py, examining.py, replaying.py, plan.py
and subject.py, and app/check/points/: results.py, errors.py, batches.py, base.py, repeats.py,
threads.py, gil.py, far.py, cost.py, timing.py, in real processes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hotloop.app.check import POINTS, Certificate, Status, certify
from tests.check.quick import KERNEL, certified, written

FAULTS = {
    "parity": "y[(x > 3.0) & (x < 3.1)] += 1e-9",
    "edges": "y[x == 10.0] += 1e-9",
    "batch": "if len(y) % 8 == 7:\n    y[-1] += 1e-9",
    "inputs": "ctypes.memset(x.ctypes.data, 0, min(8, x.nbytes))",
    "poison": "m[:] = np.where(n == 13, STATE.setdefault(0, room[0]) * 0 + room[-1] > 1e8, n % 7)",
    "bounds": "np.lib.stride_tricks.as_strided(y, (len(y) + 1,), writeable=True)[-1] = 3.0",
    "determinism": "if hash('hotloop') % 2:\n    y += 1e-9",
    "threads": "STATE['x'] = x\ntime.sleep(0)\nif STATE['x'] is not x:\n    y += 1e-9",
    "gil": "sorted(x.tolist(), key=abs)",
    "cost": "for _ in range(turns * turns // 2):\n    np.add(y, 0.0, out=y)",
}


def states(certificate: Certificate, kernel: str = KERNEL) -> dict[str, Status]:
    return {each.point: each.status for each in certificate.points if each.kernel == kernel}


def test_correct_kernel_passes_every_point(tmp_path: Path) -> None:
    certificate = certified(tmp_path)
    assert certificate.findings == ()
    assert certificate.passed
    assert set(states(certificate).values()) == {Status.PASSED}
    assert [each.name for each in certificate.kernels] == ["python", KERNEL]
    assert certificate.kernel_passed(KERNEL)
    assert certificate.mark(KERNEL) == certificate.hash


SHORT = {"batch", "poison"}


@pytest.mark.parametrize(
    "point",
    [pytest.param(p, marks=[] if p in SHORT else [pytest.mark.long]) for p in FAULTS],
)
def test_fault_is_found_at_its_point(point: str, tmp_path: Path) -> None:
    certificate = certified(tmp_path, FAULTS[point])
    assert not certificate.passed
    assert states(certificate)[point] is Status.FAILED
    assert {each.kernel for each in certificate.findings} == {KERNEL}
    (finding,) = (each for each in certificate.findings if each.point == point)
    assert finding.seen
    assert finding.advice
    assert certificate.mark(KERNEL) == "failed"
    assert certificate.mark("python") == certificate.hash


@pytest.mark.long
def test_where_python_raises_a_kernel_must_raise(tmp_path: Path) -> None:
    (tmp_path / "roots.py").write_text(
        "import math\n"
        "import numpy as np\n"
        "import hotloop\n"
        "@hotloop.workload(columns={'x': hotloop.Float(-1.0, 1.0)})\n"
        "def root(x: float) -> float:\n"
        "    return math.sqrt(x)\n"
        "root.kernel('numba', lambda x, result: np.sqrt(x, out=result))\n"
    )
    certificate = certify("roots.py:root", seconds=20, folder=tmp_path)
    (finding,) = certificate.findings
    assert finding.point == "errors"
    assert "`python` raises ValueError" in finding.seen
    assert "this kernel gives result = nan" in finding.seen
    assert finding.example is not None
    assert finding.example["columns"]["x"] < 0.0
    assert any("python` raises for" in note for note in certificate.notes)


def test_points_have_names_meanings_and_advice() -> None:
    assert {"runs", "errors", *FAULTS} == {point.name for point in POINTS}
    assert all(point.meaning and point.advice for point in POINTS)


@pytest.mark.long
def test_items_of_a_finding_show_the_fault(tmp_path: Path) -> None:
    certificate = certify(written(tmp_path, "m[n == 500] = 8"), seconds=20, folder=tmp_path)
    (finding, *_) = certificate.findings
    assert finding.example is not None
    assert finding.example["columns"]["n"] == 500
    assert set(finding.example["parameters"]) == {"turns"}
    assert "m is 8, python gives 3" in finding.seen
