"""Kernels are examined in child processes; one that fails, hangs or crashes costs only itself.

app/workloads/examiner.py and app/workloads/examining.py.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hotloop.app.workloads import examiner
from hotloop.app.workloads.examined import ExaminedKernel
from hotloop.app.workloads.examiner import Examiner
from tests.fixtures.own_modules import (
    AREA,
    TURNS,
    UNTIL,
    leaving_no_process,
    start_child,
    workload_of,
    write,
)

EXAMINER = Examiner(start_child, 2)


def examined(path: Path) -> dict[str, ExaminedKernel]:
    workload = workload_of(path)
    with leaving_no_process():
        return asyncio.run(EXAMINER.examine(workload))


def reasons(path: Path) -> dict[str, str | None]:
    return {name: each.reason for name, each in examined(path).items()}


def test_kernels_get_costs(tmp_path: Path) -> None:
    found = examined(write(tmp_path, "turns", TURNS))
    assert list(found) == ["python", "numba"]
    for name, kernel in found.items():
        assert kernel.reason is None
        assert kernel.costs is not None
        assert (kernel.costs.workload, kernel.costs.kernel) == ("turns", name)
        assert kernel.costs.releases_gil == (name == "numba")
        assert kernel.costs.seconds_of_call({"turn": 1_000}, 100) > 0
    assert found["numba"].warm_up_seconds > found["python"].warm_up_seconds


def test_sample_is_of_the_asked_parameters(tmp_path: Path) -> None:
    workload = workload_of(write(tmp_path, "until", UNTIL))
    sampled = [
        asyncio.run(EXAMINER.sample(workload, ["python"], {"most": most}))["python"]
        for most in (1, 1_000)
    ]
    assert 0 < sampled[0] < sampled[1]


def test_kernel_that_cannot_be_compiled_has_a_reason_with_its_place(tmp_path: Path) -> None:
    text = """
import hotloop

@hotloop.workload
def words(x: float) -> float:
    return float(str(x).upper().encode("latin-1").decode("latin-1"))
"""
    found = reasons(write(tmp_path, "words", text))
    assert found["python"] is None
    assert found["numba"] is not None
    assert "words.py:" in found["numba"]
    assert "\n" not in found["numba"]


FAULTS = {
    "crashes": ("import ctypes\n    ctypes.string_at(0)", "it crashed its process with SIGSEGV"),
    "leaves": ("import os\n    os._exit(0)", "it ended its process with status 0"),
    "grows": ("import numpy\n    numpy.ones(10 << 27).fill(2.0)", "more memory"),
    "raises": ("raise ValueError('never fits')", "ValueError: never fits at faulty.py:"),
}


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_of_one_kernel_leaves_the_others(tmp_path: Path, fault: str) -> None:
    body, wanted = FAULTS[fault]
    text = f"""
{AREA}
@area.kernel("batch", releases_gil=True)
def faulty(radius, result):
    {body}
    result[:] = 1.0
"""
    found = reasons(write(tmp_path, "faulty", text))
    assert (found["python"], found["numba"]) == (None, None)
    assert found["batch"] is not None
    assert wanted in found["batch"]


@pytest.mark.long
def test_kernel_that_never_returns_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examiner, "EXAMINE_SECONDS", 6.0)
    text = f"""
{AREA}
@area.kernel("batch", releases_gil=True)
def endless(radius, result):
    while True:
        pass
"""
    found = examined(write(tmp_path, "endless", text))
    reason = found["batch"].reason
    assert reason is not None
    assert reason.startswith(
        "while it was compiled, it did not end within 6 s; it was at endless.py:"
    )
    assert not found["batch"].is_certain


@pytest.mark.long
def test_kernel_that_prints_and_starts_processes_is_available(tmp_path: Path) -> None:
    text = f"""
import os, subprocess, sys
{AREA}
@area.kernel("batch", releases_gil=False)
def loud(radius, result):
    print("computing", len(radius), flush=True)
    os.write(1, b"x" * 100)
    if len(radius) == 1:
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
    result[:] = 3.0
"""
    assert reasons(write(tmp_path, "loud", text))["batch"] is None


@pytest.mark.long
def test_kernel_that_closes_descriptors_has_that_as_its_reason(tmp_path: Path) -> None:
    text = f"""
import os
{AREA}
@area.kernel("batch", releases_gil=False)
def closing(radius, result):
    os.closerange(3, 1_000)
"""
    found = reasons(write(tmp_path, "closing", text))["batch"]
    assert found is not None
    assert found.endswith("it closed the descriptors of its process")


def test_items_that_cannot_be_made_up_are_the_reason(tmp_path: Path) -> None:
    text = AREA.replace("10.0)", "10.0, sample=lambda ids: ids / 0)")
    found = reasons(write(tmp_path, "area", text.replace("ids / 0", "[][0]")))
    assert set(found) == {"python", "numba"}
    for reason in found.values():
        assert reason is not None
        assert "no items can be made up for it" in reason
        assert "`sample`" in reason


@pytest.mark.long
def test_code_that_changed_since_it_was_described_is_not_examined(tmp_path: Path) -> None:
    workload = workload_of(write(tmp_path, "area", AREA))
    write(tmp_path, "area", AREA.replace("3.0", "4.0"))
    found = asyncio.run(EXAMINER.examine(workload))
    for kernel in found.values():
        assert "the code of workload 'area' has changed" in (kernel.reason or "")
        assert not kernel.is_certain
    (tmp_path / "area.py").write_text("import ctypes\nctypes.string_at(0)\n")
    found = asyncio.run(EXAMINER.examine(workload))
    for kernel in found.values():
        assert (
            kernel.reason
            == "while it was imported, it crashed its process with SIGSEGV at area.py:2"
        )
