"""Targets declare their workloads, one for each name, and files tell when to look again.

app/workloads/targets.py and app/workloads/watching.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hotloop import kernels
from hotloop.app.workloads import targets, watching
from hotloop.app.workloads.describer import Described
from hotloop.app.workloads.targets import OwnWorkload, Targets, WorkloadState
from hotloop.app.workloads.watching import FileWatch
from hotloop.kernels import Workload
from hotloop.kernels.functions.loading import Target
from tests.fixtures.own_modules import AREA, TURNS, described, workload_of, write
from tests.fixtures.waiting import in_loop, until


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    before = set(kernels.workloads())
    yield
    for name in set(kernels.workloads()) - before:
        kernels.withdraw(name)


@pytest.fixture
def area(tmp_path: Path) -> Workload:
    return workload_of(write(tmp_path, "area", AREA))


def another_version(workload: Workload) -> Workload:
    assert workload.source is not None
    return replace(workload, source=replace(workload.source, version="f" * 64))


def found(*workloads: Workload) -> Described:
    return Described(workloads, frozenset(("/a.py",)))


def test_workloads_are_declared_and_withdrawn(tmp_path: Path, area: Workload) -> None:
    own = Targets(["area.py"], tmp_path)
    assert own.shown == [OwnWorkload("area.py", WorkloadState.LOADING)]
    ((place, target),) = own.to_describe()
    assert target == Target("area", None, str(tmp_path), str(tmp_path / "area.py"))
    assert own.take(place, found(area)) is False
    assert own.shown == [OwnWorkload("area.py", WorkloadState.AVAILABLE, "area")]
    assert own.workloads == {"area": kernels.get_workload("area")} == {"area": area}
    assert own.take(place, found(area)) is False
    assert own.take(place, found(another_version(area))) is True
    assert kernels.get_workload("area").source == another_version(area).source
    assert own.take(place, Described((), frozenset(("/b.py",)), "a syntax error")) is True
    assert own.shown == [OwnWorkload("area.py", WorkloadState.FAILED, None, "a syntax error")]
    assert "area" not in kernels.workloads()
    assert own.files == {"/a.py", "/b.py"}
    assert own.take(place, found(area)) is False
    assert "area" in kernels.workloads()


def test_function_that_two_targets_name_is_one_workload(area: Workload) -> None:
    own = Targets(["area.py", "area:area"])
    own.take(1, found(area))
    own.take(0, found(area))
    assert own.shown == [OwnWorkload("area:area", WorkloadState.AVAILABLE, "area")]
    assert own.workloads == {"area": area}


def test_name_belongs_to_the_first(tmp_path: Path, area: Workload) -> None:
    own = Targets(["one", "two", "three"])
    own.take(0, found(area))
    own.take(1, found(another_version(area)))
    own.take(2, found(replace(area, name="loops"), replace(area, name="mine")))
    reasons = [each.reason or "" for each in own.shown]
    assert reasons[0] == reasons[3] == ""
    assert reasons[1].startswith("the name 'area' is taken by one; choose another one: ")
    assert reasons[2].startswith("'loops' is the name of a built-in workload; choose another one: ")
    assert [each.workload for each in own.shown] == ["area", "area", "loops", "mine"]
    assert kernels.get_workload("area") == area
    assert kernels.get_workload("loops").source is None


def test_what_names_nothing_has_a_reason_until_it_is_there(tmp_path: Path) -> None:
    own = Targets(["not there.py", "later.py"], tmp_path)
    assert own.to_describe() == []
    for each in own.shown:
        assert each.state is WorkloadState.FAILED
        assert each.reason == f"there is no file {each.target}"
    assert str(tmp_path / "later.py") in own.files
    write(tmp_path, "later", AREA)
    assert [place for place, _ in own.to_describe()] == [1]
    (each,) = Targets([":"]).shown
    assert each.state is WorkloadState.LOADING


def test_entry_points_are_served_too(monkeypatch: pytest.MonkeyPatch) -> None:
    offered = (Target("prices", "put"), Target("rates"))
    monkeypatch.setattr(targets, "entry_point_targets", lambda: offered)
    own = Targets(["mine", "rates"])
    assert [each.target for each in own.shown] == ["mine", "rates", "prices:put"]
    assert [str(target) for _, target in own.to_describe()] == ["mine", "rates", "prices:put"]


def test_several_workloads_of_a_file_are_declared(tmp_path: Path) -> None:
    both = write(tmp_path, "both", f"{AREA}\n{TURNS.replace('import hotloop', '')}")
    own = Targets([str(both)])
    own.take(0, described(both)["both"])
    assert [(each.workload, each.reason) for each in own.shown] == [("area", None), ("turns", None)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "WATCH_SECONDS", 0.01)


@in_loop
async def test_change_is_seen_once_a_file_is_quiet() -> None:
    stamps = {"a": (1, 1, 1), "b": (1, 1, 1)}
    looks = 0

    def stamp(file: str) -> watching.Stamp:
        return stamps.get(file)

    def files() -> list[str]:
        nonlocal looks
        looks += 1
        if 5 < looks < 20:
            stamps["a"] = (looks, 1, 1)  # it is being written
        return list(stamps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watching, "_stamp", stamp)
        await asyncio.wait_for(FileWatch(files).changed(), 30)
    assert looks >= 20


@in_loop
async def test_files_that_change_come_or_go_are_seen(tmp_path: Path) -> None:
    path, other = tmp_path / "a.py", tmp_path / "b.py"
    files = {str(path)}

    async def changed_by(act: Callable[[], object]) -> None:
        watching = asyncio.create_task(FileWatch(lambda: files).changed())
        await asyncio.sleep(0)
        act()
        await asyncio.wait_for(watching, 30)

    await changed_by(lambda: path.write_text("1"))
    await changed_by(lambda: path.write_text("22"))
    await changed_by(path.unlink)
    await changed_by(lambda: path.write_text("1"))
    watch = FileWatch(lambda: files)
    seeing = asyncio.create_task(watch.changed())
    other.write_text("1")
    files.add(str(other))  # named later, so it is as it should be
    await until(lambda: str(other) in watch._seen, "it is seen")
    assert not seeing.done()
    other.write_text("22")
    await asyncio.wait_for(seeing, 30)
