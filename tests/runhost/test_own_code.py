"""runhost.execution, strategies.own_code: users' functions in run hosts, whatever they do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotloop import kernels
from hotloop.app.errors import (
    OutOfMemoryError,
    RunCancelledError,
    RunHostDiedError,
    RunTimeoutError,
    WorkerCrashedError,
    WorkloadUnusableError,
)
from hotloop.app.names import StrategyName
from hotloop.app.runhost.client import RunHostClient
from hotloop.app.runhost.messages import Batches, IngestCommand, RunReport, RunStarted
from hotloop.app.sources.base import Items
from hotloop.app.sources.item_file import FileItems
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import BatchResult, Plan
from hotloop.app.strategies.checksum import rows_checksum
from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from tests.fixtures.own_code import MOODY, RATIOS, declaration, used, write_module
from tests.fixtures.plans import make_plan, total_checksum
from tests.fixtures.processes import is_gone, tree
from tests.fixtures.waiting import until
from tests.runhost.conftest import start_host

pytestmark = pytest.mark.long

ITEMS = 60
BAD = 33
IN_THREADS = [StrategyName.SEQUENTIAL, StrategyName.THREADING, StrategyName.ASYNC_BATCH]


@pytest.fixture(scope="module")
def moody(tmp_path_factory: pytest.TempPathFactory) -> kernels.Workload:
    return declaration(write_module(tmp_path_factory.mktemp("moody"), "moody", MOODY))


@pytest.fixture(scope="module")
def shared(runner: asyncio.Runner) -> Iterator[RunHostClient]:
    """A run host for tests that leave it alive."""
    client = runner.run(start_host())
    yield client
    runner.run(client.kill())


def plan_of(
    workload: kernels.Workload, strategy: StrategyName, mood: str = "good", **changes: Any
) -> Plan:
    fields: dict[str, Any] = {
        "workload": workload.name,
        "source": workload.source,
        "parameters": {"mood": mood, "bad": BAD},
        "items": GeneratedItems(ITEMS),
        "batch_size": 10,
        "max_batch_retries": 1,
    }
    return make_plan(strategy, **(fields | changes))


async def run(host: RunHostClient, plan: Plan) -> tuple[list[BatchResult], RunReport]:
    results: list[BatchResult] = []
    async for event in host.run(plan):
        if isinstance(event, Batches):
            results += event.results
    assert isinstance(event, RunReport)
    return results, event


async def assert_answers(host: RunHostClient) -> None:
    """A built-in workload runs in threads and processes."""
    for strategy in (StrategyName.THREADING, StrategyName.MULTIPROCESSING):
        results, report = await run(host, make_plan(strategy))
        assert report.error is None
        assert sum(result.batch.count for result in results) == 1_000


def test_items_fail_by_what_they_raise_and_by_exits(
    runner: asyncio.Runner, shared: RunHostClient, moody: kernels.Workload
) -> None:
    """`sys.exit()` in an item ends neither a worker nor the run host."""
    told = {
        "raise": "ValueError: nothing for 33 at moody.py:21",
        "exit": "SystemExit: 3 at moody.py:23",
    }
    for mood, reason in told.items():
        for strategy in LOCAL_STRATEGIES:
            results, report = runner.run(run(shared, plan_of(moody, strategy, mood)))
            assert report.error is None
            (error,) = (error for result in results for error in result.errors)
            assert (error.item_id, error.stage, error.reason) == (BAD, "kernel", reason)


@pytest.mark.parametrize("strategy", [StrategyName.THREADING, StrategyName.MULTIPROCESSING])
def test_memory_over_the_bound_is_told_and_the_run_host_goes_on(
    runner: asyncio.Runner,
    shared: RunHostClient,
    moody: kernels.Workload,
    strategy: StrategyName,
) -> None:
    eating = plan_of(moody, strategy, "eat", memory_bytes=1 << 30)
    _, report = runner.run(run(shared, eating))
    assert isinstance(report.error, OutOfMemoryError)
    assert "(1,024 MiB)" in str(report.error)
    runner.run(assert_answers(shared))


@pytest.mark.parametrize(
    "strategy", [StrategyName.THREADING, StrategyName.MULTIPROCESSING, StrategyName.HYBRID]
)
def test_endless_item_ends_with_its_deadline(
    runner: asyncio.Runner, moody: kernels.Workload, strategy: StrategyName
) -> None:
    """In a thread it takes the run host along, which is replaced; in a worker only the worker."""

    async def overrun() -> None:
        host = await start_host(cancel_grace_seconds=2.0)
        below = tree(host.pid)
        plan = plan_of(moody, strategy, "hang", timeout_seconds=2.0)
        if strategy in IN_THREADS:
            with pytest.raises(RunTimeoutError):
                await run(host, plan)
            await until(lambda: all(map(is_gone, below)), "nothing is left")
        else:
            _, report = await run(host, plan)
            assert isinstance(report.error, RunTimeoutError)
            await assert_answers(host)
            await host.kill()

    runner.run(overrun())


@pytest.mark.parametrize("strategy", [StrategyName.THREADING, StrategyName.MULTIPROCESSING])
def test_endless_item_is_cancelled(
    runner: asyncio.Runner, moody: kernels.Workload, strategy: StrategyName
) -> None:
    assert moody.source is not None
    hangs = Path(f"{moody.source.file}.hangs")
    hangs.unlink(missing_ok=True)

    async def cancel() -> None:
        host = await start_host(cancel_grace_seconds=2.0)
        events = host.run(plan_of(moody, strategy, "hang"))
        assert isinstance(await anext(events), RunStarted)
        await until(hangs.exists, "the item hangs")
        await host.cancel()
        if strategy in IN_THREADS:
            with pytest.raises(RunHostDiedError, match="SIGKILL"):
                [event async for event in events]
        else:
            *_, report = [event async for event in events]
            assert isinstance(report, RunReport)
            assert isinstance(report.error, RunCancelledError)
            await assert_answers(host)
            await host.kill()

    runner.run(cancel())


@pytest.mark.parametrize(
    ("strategy", "mood"),
    [
        (StrategyName.SEQUENTIAL, "crash"),
        (StrategyName.MULTIPROCESSING, "quit"),
        (StrategyName.CONCURRENT_FUTURES, "crash"),
    ],
)
def test_crash_is_tried_again_a_bounded_number_of_times(
    runner: asyncio.Runner, moody: kernels.Workload, strategy: StrategyName, mood: str
) -> None:
    async def crash() -> None:
        host = await start_host()
        named = {"crash": "SIGSEGV", "quit": "exit code 7"}[mood]
        if strategy in IN_THREADS:
            with pytest.raises(RunHostDiedError, match=named):
                await run(host, plan_of(moody, strategy, mood))
            return
        _, report = await run(host, plan_of(moody, strategy, mood))
        assert isinstance(report.error, WorkerCrashedError)
        assert report.error.attempts == 2
        assert named in str(report.error)
        await assert_answers(host)
        results, report = await run(host, plan_of(moody, strategy))
        assert report.error is None
        assert sum(result.batch.count for result in results) == ITEMS
        await host.kill()

    runner.run(crash())


FAULTY = {
    "raises": ("raise RuntimeError('no database')", "RuntimeError: no database at raises.py:1"),
    "exits": ("import sys; sys.exit(4)", "SystemExit: 4 at exits.py:1"),
    "lacks": ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    "eats": ("x = bytearray(10 << 30)", "MemoryError"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_code_that_cannot_be_imported_is_told_and_hurts_nothing(
    runner: asyncio.Runner, shared: RunHostClient, tmp_path: Path, name: str
) -> None:
    """The code was fine when the service described it, and is not any more."""
    file = write_module(tmp_path, name, RATIOS)
    workload = declaration(file)
    line, reason = FAULTY[name]
    file.write_text(f"{line}\n{RATIOS}", encoding="utf-8")
    for strategy in (StrategyName.THREADING, StrategyName.MULTIPROCESSING):
        plan = plan_of(workload, strategy, parameters={"steps": 5}, memory_bytes=1 << 30)
        _, report = runner.run(run(shared, plan))
        assert isinstance(report.error, WorkloadUnusableError)
        assert f"importing {name} failed: {reason}" in str(report.error)
    runner.run(assert_answers(shared))


def test_code_that_has_changed_is_refused_and_says_the_way_out(
    runner: asyncio.Runner, shared: RunHostClient, tmp_path: Path
) -> None:
    file = write_module(tmp_path, "changed", RATIOS)
    workload = declaration(file)
    file.write_text(RATIOS.replace("divisor * steps", "divisor + steps"), encoding="utf-8")
    plan = plan_of(workload, StrategyName.HYBRID, parameters={"steps": 5})
    _, report = runner.run(run(shared, plan))
    assert isinstance(report.error, WorkloadUnusableError)
    assert "has changed" in str(report.error)
    assert "restart the service, or serve with --reload" in str(report.error)


def test_kernel_that_cannot_be_compiled_is_told(
    runner: asyncio.Runner, shared: RunHostClient, moody: kernels.Workload
) -> None:
    for strategy in (StrategyName.THREADING, StrategyName.MULTIPROCESSING):
        _, report = runner.run(run(shared, plan_of(moody, strategy, kernel="numba")))
        assert isinstance(report.error, WorkloadUnusableError)
        assert "kernel 'numba'" in str(report.error)
    runner.run(assert_answers(shared))


SLOW_IMPORT = "import pathlib\npathlib.Path({started!r}).write_text('x')\nwhile True: pass\n"


def test_import_that_never_ends_is_ended_by_the_deadline(
    runner: asyncio.Runner, tmp_path: Path
) -> None:
    file = write_module(tmp_path, "endless", RATIOS)
    workload = declaration(file)
    started = tmp_path / "started"
    text = SLOW_IMPORT.format(started=str(started))
    file.write_text(f"{text}{RATIOS}", encoding="utf-8")

    async def overrun() -> None:
        host = await start_host(cancel_grace_seconds=0.5)
        plan = plan_of(workload, StrategyName.MULTIPROCESSING, timeout_seconds=1.0)
        with pytest.raises(RunTimeoutError):
            await run(host, plan)
        assert not host.alive

    runner.run(overrun())
    assert started.exists()


def test_upload_is_read_without_the_users_code(
    runner: asyncio.Runner, tmp_path: Path, moody: kernels.Workload
) -> None:
    """A run host that has not imported it gets the columns, and runs them with the code then."""
    columns = tuple(replace(column, sampler=None) for column in moody.columns_in)
    as_data = replace(moody, columns_in=columns)
    upload, items = tmp_path / "upload", tmp_path / "items"
    upload.write_text("item_id,item\n" + "".join(f"{100 + n},{n}\n" for n in range(ITEMS)))
    command = IngestCommand(
        str(upload), "text/csv", str(items), moody.name, ITEMS, 1 << 20, declaration=as_data
    )

    async def read_and_run() -> None:
        host = await start_host()
        assert await host.ingest(command) == ITEMS
        found: tuple[tuple[int, Items], ...] = (
            (100, FileItems(str(items), ITEMS)),
            (0, GeneratedItems(ITEMS)),
        )
        for first, source in found:
            plan = plan_of(moody, StrategyName.THREADING, "raise", items=source)
            results, report = await run(host, plan)
            assert report.error is None
            (error,) = (error for result in results for error in result.errors)
            assert error.item_id == first + BAD
            assert await host.ingest(command) == ITEMS
        await host.kill()

    runner.run(read_and_run())


def test_two_workloads_take_turns_and_keep_their_bits(
    runner: asyncio.Runner, shared: RunHostClient, tmp_path: Path
) -> None:
    """Each has a fork server of its own."""
    names = "ratios_1", "ratios_2"
    files = [write_module(tmp_path, name, RATIOS.replace("ratios(", f"{name}(")) for name in names]
    plans, expected = [], []
    for file in files:
        with used(file) as workload:
            by_processes = plan_of(workload, StrategyName.MULTIPROCESSING, kernel="numba")
            plans.append(replace(by_processes, parameters={"steps": 5}))
            ids = np.arange(1, ITEMS)
            outputs = kernels.get_kernel(workload.name, "python").run(
                workload.simulated_columns(ids), {"steps": 5}
            )
            expected.append(rows_checksum(ids, outputs))
    for _ in range(2):
        for plan, checksum in zip(plans, expected, strict=True):
            results, report = runner.run(run(shared, plan))
            assert report.error is None
            assert total_checksum(results) == checksum
        runner.run(assert_answers(shared))
