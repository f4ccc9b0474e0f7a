"""Maintenance by a running process: removals, and reports on its store."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hotloop import kernels
from hotloop.app.errors import NotReadyError, StoreUnavailableError
from hotloop.app.execution.maintenance import Upkeep, abilities, take_work
from hotloop.app.execution.specs import check_code
from hotloop.app.names import TaskStatus
from hotloop.app.observability import clusters as clusters_module
from hotloop.app.observability.clusters import ClusterMonitor
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.settings.settings import Settings
from hotloop.app.sources.arrow_rows import PARQUET
from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from hotloop.app.tasks import nodes as nodes_module
from hotloop.app.tasks.folder import DataFolder
from hotloop.app.tasks.model import Task, new_task_id
from hotloop.app.tasks.needs import needs_of, version_needs
from hotloop.app.tasks.store import TaskStore, open_store
from hotloop.kernels.loops import LOOPS
from tests.fixtures.guarded import free_port
from tests.fixtures.waiting import until


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TaskStore]:
    store = open_store(tmp_path)
    yield store
    store.close()


def upkeep_of(store: TaskStore, folder: Path, nodes: Any = None) -> Upkeep:
    context: Any = SimpleNamespace(
        store=store,
        folder=DataFolder(folder),
        settings=Settings(retention_hours=1),
        hosts=SimpleNamespace(alive_count=1),
    )
    queue: Any = None
    return Upkeep(context, queue, nodes)


def test_clock_that_jumps_by_days_removes_no_finished_task(
    store: TaskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    ended = {age: new_task_id() for age in (timedelta(hours=2), timedelta(minutes=1))}
    for age, task_id in ended.items():
        task = Task(
            task_id=task_id,
            task_type="synchronous",
            spec={},
            workload="loops",
            kernel="numba",
            strategy="hybrid",
            total_items=1,
            created_at=now - age,
            owner="this",
            status=TaskStatus.FAILED,
            end_time=now - age,
        )
        store.create(task)
    old, young = ended.values()
    upkeep = upkeep_of(store, tmp_path)
    upkeep.remove_old()
    assert (store.status(old), store.status(young)) == (None, TaskStatus.FAILED)
    ahead = (now + timedelta(days=10)).timestamp()
    monkeypatch.setitem(nodes_module._NOW, "sqlite", repr(ahead))
    upkeep.remove_old()
    upkeep_of(store, tmp_path).remove_old()  # nor does a process that begins now
    assert store.status(young) is TaskStatus.FAILED


def test_failing_heartbeat_is_reported_until_one_succeeds(store: TaskStore, tmp_path: Path) -> None:
    is_down = True

    class Nodes:
        def beat(self, is_able: bool) -> bool:
            if is_down:
                raise StoreUnavailableError("it takes no writes now")
            return True

        def look(self, _: float) -> tuple[tuple[()], tuple[()]]:
            return (), ()

    upkeep = upkeep_of(store, tmp_path, Nodes())

    async def main() -> None:
        nonlocal is_down
        with pytest.raises(StoreUnavailableError):
            await asyncio.to_thread(upkeep.beat)
        assert upkeep.failure == "it takes no writes now"
        is_down = False
        await asyncio.to_thread(upkeep.beat)
        assert upkeep.failure is None

    asyncio.run(main())


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


def test_node_can_do_what_its_kernels_and_settings_allow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reports = [report("python", True), report("cython", False)]
    able = abilities(reports, Settings(), 1_000, LOCAL_STRATEGIES)
    pinot = abilities(reports, Settings(pinot_url="http://127.0.0.1:8000"), 1_000, LOCAL_STRATEGIES)

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
    upload = {"kind": "upload", "media_type": PARQUET}
    assert fits("python", input=upload) == (True, True)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert not abilities(reports, Settings(), 1_000, LOCAL_STRATEGIES).fits(
        needs_of("run", "loops", "python", "hybrid", {"input": upload})
    )


def test_node_publishes_anew_when_the_version_of_a_users_code_changes() -> None:
    """The queue learns it first, so that it claims nothing that its node has lost."""
    told: list[tuple[str, frozenset[str]]] = []

    def note(what: str) -> Any:
        return lambda able: told.append((what, able.names))

    context: Any = SimpleNamespace(
        hosts=SimpleNamespace(kernels=kernels_of),
        catalogue=SimpleNamespace(reports=kernels_of),
        clusters=ClusterMonitor({}),
        settings=Settings(),
        memory=SimpleNamespace(run_bytes=1),
    )
    nodes: Any = SimpleNamespace(publish=note("publish"))
    queue: Any = SimpleNamespace(launch=note("launch"), set_abilities=note("set"))

    async def main() -> None:
        taking = asyncio.create_task(take_work(context, nodes, queue))
        await until(lambda: len(told) == 2, "it takes work")
        kernels.declare(put("0" * 64))
        await until(lambda: len(told) == 4, "it publishes anew")
        kernels.declare(put("1" * 64))
        await until(lambda: len(told) == 6, "it publishes anew")
        taking.cancel()
        await asyncio.wait([taking])

    try:
        asyncio.run(main())
    finally:
        kernels.withdraw("put")
    assert [what for what, _ in told] == ["publish", "launch", *2 * ["set", "publish"]]
    versions = [{name for name in names if name.startswith("workload:put@")} for _, names in told]
    first, second = {"workload:put@000000000000"}, {"workload:put@111111111111"}
    assert versions == [set(), set(), first, first, second, second]


def test_node_loses_the_ability_for_a_cluster_that_is_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clusters_module, "LOOK_SECONDS", 0.2)
    port = free_port()
    settings = Settings(dask_address=f"tcp://127.0.0.1:{port}")
    monitor = ClusterMonitor(settings.clusters)
    context: Any = SimpleNamespace(
        catalogue=SimpleNamespace(reports=kernels_of),
        clusters=monitor,
        settings=settings,
        memory=SimpleNamespace(run_bytes=1),
    )
    published: list[bool] = []
    nodes: Any = SimpleNamespace(
        publish=lambda able: published.append(
            able.fits(needs_of("run", "loops", "python", "dask", {}))
        )
    )
    queue: Any = SimpleNamespace(launch=lambda _: None, set_abilities=lambda _: None)

    async def main() -> None:
        await monitor.start()
        taking = asyncio.create_task(take_work(context, nodes, queue))
        await until(lambda: published == [False], "it takes other work")
        with socket.create_server(("127.0.0.1", port)):
            await until(lambda: published == [False, True], "it can do this work, too")
        await until(lambda: published == [False, True, False], "it has lost the ability")
        taking.cancel()
        await asyncio.wait([taking])
        await monitor.close()

    asyncio.run(main())


async def kernels_of() -> tuple[KernelReport, ...]:
    return (report("python", True),)


def put(version: str) -> kernels.Workload:
    """Declare a user's workload of a version."""
    return replace(LOOPS, name="put", source=kernels.WorkloadSource("prices", "put", version))


def test_task_of_another_version_of_a_users_code_waits() -> None:
    spec = {"needs": version_needs(put("0" * 64).source)}
    task = Task(
        task_id=new_task_id(),
        task_type="background",
        spec=spec,
        workload="put",
        kernel="numba",
        strategy="hybrid",
        total_items=1,
        created_at=datetime.now(UTC),
        owner="n",
    )
    check_code(replace(task, workload="loops", spec={}))
    try:
        with pytest.raises(NotReadyError, match=r"version 0{12} .* which is not served"):
            check_code(task)
        kernels.declare(put("1" * 64))
        with pytest.raises(NotReadyError, match="which is served in version 111111111111"):
            check_code(task)
        kernels.declare(put("0" * 64))
        check_code(task)
    finally:
        kernels.withdraw("put")
