"""What a process says that it can do."""

from __future__ import annotations

from hotloop.app.execution.abilities import abilities
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.settings.settings import Settings
from hotloop.app.tasks.needs import needs_of


def report(kernel: str, available: bool) -> KernelReport:
    return KernelReport(
        workload="loops",
        kernel=kernel,
        available=available,
        reason=None if available else "not built",
        releases_gil=True,
        instruction_set=None,
        warm_up_seconds=0.0,
        ns_per_operation={},
    )


def test_node_can_do_what_its_kernels_and_settings_allow() -> None:
    reports = [report("python", True), report("cython", False)]
    able = abilities(reports, Settings(), 1_000)
    pinot = abilities(reports, Settings(pinot_url="http://127.0.0.1:8000"), 1_000)

    def fits(kernel: str, **spec: object) -> tuple[bool, bool]:
        needs = needs_of("run", "loops", kernel, "hybrid", spec)
        return able.fits(needs), pinot.fits(needs)

    assert fits("python", db="simulated", cache="none") == (True, True)
    assert fits("cython") == (False, False)
    assert fits("python", db="pinot") == (False, True)
    assert fits("python", cache="redis") == (False, False)
    assert fits("python", needs={"bytes": 1_000}) == (True, True)
    assert fits("python", needs={"bytes": 1_001}) == (False, False)
    assert fits("python", version=99) == (False, False)
