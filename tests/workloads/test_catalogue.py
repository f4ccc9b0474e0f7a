"""The catalogue knows built-in and own workloads, examines what is asked for, and sees changes.

app/workloads/catalogue.py and app/workloads/examinations.py, with real child processes; run hosts
that answer as told stand for real ones, which are in test_service.py.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from hotloop import kernels
from hotloop.app.errors import NotReadyError
from hotloop.app.runhost.host_pool import RunHostPool
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.workloads import catalogue as catalogue_module
from hotloop.app.workloads import examinations, examiner, watching
from hotloop.app.workloads.catalogue import Catalogue, CatalogueOptions
from hotloop.app.workloads.child_client import Child
from hotloop.app.workloads.targets import WorkloadState
from tests.fixtures.calibrations import REPORTS
from tests.fixtures.own_modules import (
    AREA,
    ENDLESS,
    MEMORY,
    TURNS,
    UNTIL,
    leaving_no_process,
    write,
)
from tests.fixtures.processes import is_gone, tree
from tests.fixtures.waiting import in_loop, until


class Hosts:
    """Run hosts that report built-in kernels."""

    def __init__(self) -> None:
        self.busy = False
        self.looks = 0
        self.retired = 0

    @property
    def is_idle(self) -> bool:
        self.looks += 1
        return not self.busy

    async def kernels(self) -> tuple[KernelReport, ...]:
        return REPORTS

    def retire(self) -> None:
        self.retired += 1


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(watching, "WATCH_SECONDS", 0.02)
    monkeypatch.setattr(catalogue_module, "QUIET_SECONDS", 10_000.0)
    before = set(kernels.workloads())
    with leaving_no_process():
        yield
    for name in set(kernels.workloads()) - before:
        kernels.withdraw(name)


@asynccontextmanager
async def serving(
    folder: Path, *targets: object, hosts: Hosts | None = None, reload: bool = False
) -> AsyncIterator[Catalogue]:
    data = folder / "data"
    data.mkdir(exist_ok=True)
    options = CatalogueOptions(
        tuple(map(str, targets)), folder, data, 2, MEMORY, dict(os.environ), reload
    )
    made = Catalogue(options, cast(RunHostPool, hosts or Hosts()))
    made.start()
    try:
        yield made
    finally:
        await made.close()


async def loaded(catalogue: Catalogue) -> None:
    await until(lambda: not catalogue.is_loading, "all is described")


def of(reports: tuple[KernelReport, ...], workload: str) -> dict[str, KernelReport]:
    return {report.kernel: report for report in reports if report.workload == workload}


def children_started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the mode of each child that is started from now on."""
    started: list[str] = []
    start = Child.start.__func__  # type: ignore[attr-defined]

    async def counted(cls: type[Child], mode: str, *rest: object) -> Child:
        started.append(mode)
        return cast(Child, await start(cls, mode, *rest))

    monkeypatch.setattr(Child, "start", classmethod(counted))
    return started


HOURS = TURNS.replace("100_000", "10**13").replace('{"turn": "turns"}', '"data"')
"""A workload with parameters under which an item takes hours."""


@in_loop
async def test_service_without_own_workloads_starts_no_child(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        started = children_started(patch)
        async with serving(tmp_path) as catalogue:
            await loaded(catalogue)
            assert await catalogue.reports() == REPORTS
            assert await catalogue.reports("loops", {"cpu_iterations": 5}) == REPORTS
            assert await catalogue.costs("loops") == ()
            assert catalogue.own == []
        assert started == []


@in_loop
async def test_examined_once_when_asked_for_and_then_kept(tmp_path: Path) -> None:
    write(tmp_path, "turns", TURNS)
    with pytest.MonkeyPatch.context() as patch:
        started = children_started(patch)
        async with serving(tmp_path, "turns.py") as catalogue:
            await loaded(catalogue)
            before = of(await catalogue.reports(), "turns")
            assert [report.examined for report in before.values()] == [False, False]
            assert await catalogue.costs() == ()
            assert started == ["describe"]
            first, *others = await asyncio.gather(*(catalogue.reports("turns") for _ in range(3)))
            assert others == [first, first]
            assert started == ["describe", "examine"]
            assert all(each.available for each in of(first, "turns").values())
            assert first[: len(REPORTS)] == REPORTS
            assert await catalogue.reports() == first
            costs = await catalogue.costs()
            assert [(each.workload, each.kernel) for each in costs] == [
                ("turns", "python"),
                ("turns", "numba"),
            ]
        async with serving(tmp_path, "turns.py") as catalogue:
            await loaded(catalogue)
            assert await catalogue.reports("turns") == first
            assert await catalogue.costs("turns") == costs
        assert started == ["describe", "examine", "describe"]


@in_loop
async def test_caller_that_gives_up_does_not_end_the_examination(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        started = children_started(patch)
        async with serving(tmp_path, write(tmp_path, "area", AREA)) as catalogue:
            await loaded(catalogue)
            asking = asyncio.create_task(catalogue.reports("area"))
            await until(lambda: len(started) == 2, "it is examined")
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            reports = await catalogue.reports("area")
            assert all(each.available for each in of(reports, "area").values())
        assert started == ["describe", "examine"]


@in_loop
async def test_sample_that_nobody_waits_for_ends(tmp_path: Path) -> None:
    slow = {"turns": 10**12}
    write(tmp_path, "turns", HOURS)
    with pytest.MonkeyPatch.context() as patch:
        started = children_started(patch)
        async with serving(tmp_path, "turns.py") as catalogue:
            await loaded(catalogue)
            await catalogue.reports("turns")
            asking = asyncio.create_task(catalogue.reports("turns", slow))
            await until(lambda: len(started) == 3, "a sample is taken")
            below = set(tree(os.getpid()))
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await until(lambda: any(map(is_gone, below)), "the sample ends")


@in_loop
async def test_python_is_not_sampled_after_a_slow_compiled_kernel(tmp_path: Path) -> None:
    write(tmp_path, "turns", HOURS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examiner, "SAMPLE_SECONDS", 0.5)
        patch.setattr(examinations, "SAMPLE_SECONDS", 0.5)
        started = children_started(patch)
        async with serving(tmp_path, "turns.py") as catalogue:
            await loaded(catalogue)
            await catalogue.reports("turns")
            costs = await catalogue.costs("turns", {"turns": 10**12})
            seconds = {each.kernel: each.operation_seconds["item"][-1] for each in costs}
            assert seconds["numba"] == pytest.approx(0.5, rel=0.1)
            assert seconds["python"] > 2 * seconds["numba"]
            assert started == ["describe", "examine", "examine"]


@in_loop
async def test_costs_are_of_the_asked_parameters(tmp_path: Path) -> None:
    write(tmp_path, "until", UNTIL)
    with pytest.MonkeyPatch.context() as patch:
        started = children_started(patch)
        async with serving(tmp_path, "until.py") as catalogue:
            await loaded(catalogue)

            async def ns(parameters: dict[str, int], exact: bool = False) -> float:
                found = of(await catalogue.reports("until", parameters, exact=exact), "until")
                (term,) = found["python"].ns_per_operation.values()
                costs = await catalogue.costs("until", parameters, exact=exact)
                assert 1e9 * costs[0].operation_seconds["item"][-1] == pytest.approx(term)
                return term

            usual = await ns({})
            assert started == ["describe", "examine"]
            assert await ns({"most": 1_050}) == usual
            assert await ns({"most": 2}) < usual
            assert started == ["describe", "examine", "examine"]
            await ns({"most": 1_050}, exact=True)
            await ns({"most": 1_050}, exact=True)
            assert started == ["describe", "examine", "examine", "examine"]
            with pytest.raises(kernels.InvalidParameterError):
                await catalogue.reports("until", {"most": 0})
        async with serving(tmp_path, "until.py") as catalogue:
            await loaded(catalogue)
            assert await ns({"most": 2}) < usual
        assert started.count("examine") == 3


@in_loop
async def test_idle_service_examines_by_itself(tmp_path: Path) -> None:
    hosts = Hosts()
    hosts.busy = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue_module, "QUIET_SECONDS", 0.01)
        patch.setattr(catalogue_module, "LOOK_SECONDS", 0.01)
        started = children_started(patch)
        paths = write(tmp_path, "area", AREA), write(tmp_path, "turns", TURNS)
        async with serving(tmp_path, *paths, hosts=hosts) as catalogue:
            await loaded(catalogue)
            await until(lambda: hosts.looks > 3, "it looks for an idle moment")
            assert started == ["describe"]
            hosts.busy = False
            await until(lambda: started == ["describe", "examine", "examine"], "it examines")
            for name in ("area", "turns"):
                await catalogue.reports(name)
            assert started == ["describe", "examine", "examine"]


@in_loop
async def test_change_of_a_file_is_another_version(tmp_path: Path) -> None:
    hosts, path = Hosts(), write(tmp_path, "area", AREA)
    with pytest.MonkeyPatch.context() as patch:
        started = children_started(patch)
        await edited(tmp_path, path, hosts, started)


async def edited(tmp_path: Path, path: Path, hosts: Hosts, started: list[str]) -> None:
    async with serving(tmp_path, path, hosts=hosts, reload=True) as catalogue:
        await loaded(catalogue)
        (shown,) = catalogue.own
        assert (shown.state, shown.workload) == (WorkloadState.AVAILABLE, "area")
        first = kernels.get_workload("area").source

        write(tmp_path, "area", f"# only a comment\n{AREA}")
        await until(lambda: len(started) == 2, "it is described again")
        write(tmp_path, "area", AREA.replace("3.0", "4.0"))
        await until(lambda: kernels.get_workload("area").source != first, "it is another version")
        assert hosts.retired == 1

        write(tmp_path, "area", AREA.replace("def area(", "def area(("))
        await until(lambda: catalogue.own[0].state is WorkloadState.FAILED, "it has failed")
        assert (catalogue.own[0].reason or "").startswith("SyntaxError: ")
        assert "area" not in kernels.workloads()
        assert hosts.retired == 2

        count = len(started)
        write(tmp_path, "area", ENDLESS)
        await until(lambda: len(started) > count, "it is described again")
        write(tmp_path, "area", AREA)  # repaired while its import still hangs
        await until(lambda: "area" in kernels.workloads(), "it is back")
        assert kernels.get_workload("area").source == first
        assert hosts.retired == 2


@in_loop
async def test_without_reload_files_are_not_watched(tmp_path: Path) -> None:
    path = write(tmp_path, "area", AREA)
    async with serving(tmp_path, path) as catalogue:
        await loaded(catalogue)
        await asyncio.gather(catalogue._tasks[0])  # nothing watches any more
        write(tmp_path, "area", AREA.replace("3.0", "4.0"))
        reports = of(await catalogue.reports("area"), "area")
        for report in reports.values():
            assert "has changed" in (report.reason or "")


@in_loop
async def test_system_without_processes_is_asked_again(tmp_path: Path) -> None:
    path = write(tmp_path, "area", AREA)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue_module, "RETRY_SECONDS", 0.01)
        patch.setattr("sys.executable", "/nowhere/python")
        started = children_started(patch)
        async with serving(tmp_path, path) as catalogue:
            await until(lambda: len(started) > 2, "it tries again")
            assert catalogue.is_loading
            patch.undo()
            await loaded(catalogue)
            patch.setattr("sys.executable", "/nowhere/python")
            with pytest.raises(NotReadyError, match="no process could be started"):
                await catalogue.reports("area")
            patch.undo()
            reports = of(await catalogue.reports("area"), "area")
            assert all(report.available for report in reports.values())
