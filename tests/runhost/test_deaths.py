"""runhost.client, __main__, config: deaths of a run host and its parent leave no process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from hotloop.app.errors import RunHostDiedError, RunTimeoutError
from hotloop.app.names import StrategyName
from hotloop.app.runhost.messages import RunStarted
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from tests.fixtures.plans import make_plan
from tests.fixtures.processes import is_gone, tree
from tests.fixtures.stages import DeadlyItems, EndlessStage, byte_count
from tests.fixtures.waiting import until, wait_until
from tests.runhost.conftest import start_host

pytestmark = pytest.mark.long

IN_THE_HOST = [StrategyName.SEQUENTIAL, StrategyName.THREADING, StrategyName.ASYNC_BATCH]


@pytest.mark.parametrize("strategy", IN_THE_HOST)
@pytest.mark.parametrize(
    ("how", "named"), [("kill", "SIGKILL"), ("segfault", "SIGSEGV"), ("exit", "exit code 3")]
)
def test_crash_inside_the_run_host_is_named(
    runner: asyncio.Runner, strategy: StrategyName, how: str, named: str, tmp_path: Path
) -> None:
    items = DeadlyItems(500, 250, str(tmp_path / "deaths"), how=how)

    async def crash() -> None:
        host = await start_host()
        below = tree(host.pid)
        with pytest.raises(RunHostDiedError, match=named):
            async for _ in host.run(make_plan(strategy, items=items)):
                pass
        await until(lambda: all(map(is_gone, below)), "everything below it is gone")

    runner.run(crash())


@pytest.mark.parametrize("strategy", LOCAL_STRATEGIES)
def test_killed_run_host_takes_its_workers_along(
    runner: asyncio.Runner, strategy: StrategyName, tmp_path: Path
) -> None:
    started = str(tmp_path / "started")

    async def kill() -> None:
        host = await start_host()
        events = host.run(make_plan(strategy, stages=(EndlessStage(started),)))
        assert isinstance(await anext(events), RunStarted)
        await until(lambda: byte_count(started) > 0, "an item waits")
        below = tree(host.pid)
        os.kill(host.pid, signal.SIGKILL)
        with pytest.raises(RunHostDiedError, match="SIGKILL"):
            await anext(events)
        await until(lambda: all(map(is_gone, below)), "everything below it is gone")

    runner.run(kill())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has this score")
def test_run_host_and_its_workers_are_killed_first_when_memory_is_out(
    runner: asyncio.Runner,
) -> None:
    async def scores() -> list[str]:
        host = await start_host()
        async for _ in host.run(make_plan(StrategyName.MULTIPROCESSING)):
            pass
        pids = [host.pid, *(process.pid for process in tree(host.pid))]
        found = [Path(f"/proc/{pid}/oom_score_adj") for pid in pids]
        told = [path.read_text().strip() for path in found]
        await host.kill()
        return told

    told = runner.run(scores())
    assert told.count("500") >= 4, "the run host, its fork server and two workers"


def test_run_closed_early_kills_the_run_host(runner: asyncio.Runner) -> None:
    async def close() -> None:
        host = await start_host()
        events = host.run(make_plan(StrategyName.HYBRID, items=GeneratedItems(10**9)))
        await anext(events)
        await events.aclose()
        assert not host.alive

    runner.run(close())


def test_run_host_that_ignores_its_deadline_is_killed(runner: asyncio.Runner) -> None:
    """A batch whose kernel runs for hours cannot be ended from inside."""
    endless = {"cpu_iterations": 10_000_000, "outer_iterations": 0, "inner_iterations": 0}
    plan = make_plan(StrategyName.SEQUENTIAL, parameters=endless, timeout_seconds=0.1)

    async def overrun() -> None:
        host = await start_host(cancel_grace_seconds=0.2)
        with pytest.raises(RunTimeoutError):
            async for _ in host.run(plan):
                pass
        assert not host.alive

    runner.run(overrun())


def test_run_host_that_does_not_start_is_named(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RunHostDiedError, match="exit code 1"):
        runner.run(start_host())


PARENT = """
import asyncio, sys
from hotloop.app.runhost.messages import RunStarted
from tests.fixtures.plans import make_plan
from tests.fixtures import stages
from tests.runhost.conftest import start_host

async def main():
    host = await start_host()
    if sys.argv[1] != "idle":
        stage = getattr(stages, sys.argv[4])(started=sys.argv[2])
        async for event in host.run(make_plan(sys.argv[1], kernel=sys.argv[3], stages=(stage,))):
            print("started", flush=True)
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("strategy", ["idle", *StrategyName])
def test_killed_parent_leaves_no_process(strategy: str, tmp_path: Path) -> None:
    started = str(tmp_path / "started")
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, strategy, started, "python", "EndlessStage"],
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() in ("started\n", "ready\n")
        if strategy != "idle":
            wait_until(lambda: byte_count(started) > 0, "an item waits")
        below = tree(parent.pid)
        assert len(below) >= 2
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_until(lambda: all(map(is_gone, below)), f"all of {below} are gone")


@pytest.mark.parametrize("strategy", ["sequential", "multiprocessing", "hybrid"])
@pytest.mark.parametrize("stage", ["EndlessStage", "HoldingStage"])
def test_parent_and_keeper_killed_together_leave_nothing_behind(
    strategy: str, stage: str, tmp_path: Path
) -> None:
    started = str(tmp_path / "started")
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, strategy, started, "python", stage],
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        wait_until(lambda: byte_count(started) > 0, "an item is in work")
        below = tree(parent.pid)
        (keeper,) = [process for process in below if "sh" in process.name()]
        try:
            keeper.kill()
            parent.send_signal(signal.SIGKILL)
            parent.wait()
            wait_until(lambda: all(map(is_gone, below)), f"all of {below} are gone", bound=5)
        finally:
            for process in below:
                if not is_gone(process):
                    process.kill()


def test_parent_killed_while_the_run_host_starts_leaves_nothing_behind() -> None:
    """A run host that is not ready yet is ended by the keeper and the closed socket."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, "idle", "-", "-", "-"], stdout=subprocess.PIPE, text=True
    ) as parent:
        me = psutil.Process(parent.pid)
        wait_until(lambda: me.children(), "the run host process exists")
        below = tree(parent.pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_until(lambda: all(map(is_gone, below)), f"all of {below} are gone")
