"""The machine as answers show it."""

from __future__ import annotations

from pathlib import Path

from hotloop.app.prediction.host_facts import cpu_model, host_facts
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.comparison import HostView
from hotloop.app.system import usable_cpu_count


def report(kernel: str, *, available: bool = True) -> KernelReport:
    chosen = "avx2+fma" if kernel == "cython" else None
    return KernelReport("loops", kernel, available, None, True, chosen, 0.0, {})


def test_this_machine_is_described_by_what_it_has() -> None:
    reports = (report("python"), report("cython"), report("numba", available=False))
    view = HostView(**host_facts(reports, "loops"))
    assert view.usable_cpus == usable_cpu_count() <= view.cpus
    assert view.memory_bytes is not None
    assert view.memory_bytes > 1 << 27
    assert view.instruction_sets == {"python": None, "cython": "avx2+fma"}
    assert {"hotloop", "numpy", "numba"} <= set(view.versions)
    assert (view.load_after, view.throttled_seconds) == (None, None)


def test_processor_is_named_by_what_the_system_says(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text("processor: 0\nmodel name\t: Some CPU\nflags: a\n")
    assert cpu_model(tmp_path) == "Some CPU"
    assert cpu_model(tmp_path / "nothing")
