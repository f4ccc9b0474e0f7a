"""The pool of run hosts: leases, waiting in line, replacing dead ones."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from hotloop.app.errors import NotReadyError, TooBusyError
from hotloop.app.names import StrategyName
from hotloop.app.runhost import host_pool as host_pool_module
from hotloop.app.runhost.host_pool import BUSY_RETRY_SECONDS, HostPoolOptions, RunHostPool
from hotloop.app.runhost.messages import RunReport
from tests.fixtures.plans import make_plan
from tests.fixtures.processes import is_gone, tree
from tests.fixtures.waiting import until
from tests.runhost.conftest import CONFIG

pytestmark = pytest.mark.long


@asynccontextmanager
async def host_pool(count: int = 1, queue_limit: int = 2) -> AsyncGenerator[RunHostPool, None]:
    pool = RunHostPool(CONFIG, HostPoolOptions(count, queue_limit, 1.0, dict(os.environ)))
    pool.start()
    try:
        yield pool
    finally:
        await pool.close()


def test_caller_right_after_the_start_waits_for_the_first_run_host(
    runner: asyncio.Runner,
) -> None:
    async def at_once() -> None:
        async with host_pool() as pool:
            assert pool.alive_count == 0
            assert len(await pool.kernels()) == 3
            async with pool.lease() as client:
                assert client.alive

    runner.run(at_once())


def test_failing_start_is_reported_and_tried_again(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def recover() -> None:
        with monkeypatch.context() as broken:
            broken.setattr(sys, "executable", "/bin/false")
            async with host_pool() as pool:
                with pytest.raises(NotReadyError, match=r"exit code 1.*health/ready"):
                    await pool.kernels()
                with pytest.raises(NotReadyError):
                    async with pool.lease():
                        pass
                broken.undo()
                await until(lambda: pool.alive_count == 1, "a run host is up")
                assert pool.last_failure is None
                assert len(await pool.kernels()) == 3

    runner.run(recover())


async def _leased(pool: RunHostPool, patient: bool) -> bool:
    async with pool.lease(patient=patient) as client:
        return client.alive


def test_patient_caller_waits_for_a_run_host_that_does_not_come_up(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait() -> None:
        with monkeypatch.context() as broken:
            broken.setattr(sys, "executable", "/bin/false")
            async with host_pool() as pool:
                before_the_first = asyncio.create_task(_leased(pool, patient=True))
                await until(lambda: pool.last_failure is not None, "the start failed")
                later = asyncio.create_task(_leased(pool, patient=True))
                pool.last_failure = None
                await until(lambda: pool.last_failure is not None, "it failed again")
                assert not before_the_first.done()
                assert not later.done()
                broken.undo()
                assert await before_the_first
                assert await later

    runner.run(wait())


def test_patient_caller_fails_after_a_long_time_without_run_hosts(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setattr(host_pool_module, "PATIENT_SECONDS", 0.0)

    async def wait() -> None:
        async with host_pool() as pool:
            with pytest.raises(NotReadyError, match="exit code 1"):
                await _leased(pool, patient=True)

    runner.run(wait())


def test_queued_caller_fails_when_no_run_host_starts(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that died was the last, and its successor does not start."""

    async def wait() -> None:
        with monkeypatch.context() as broken:
            async with host_pool() as pool:
                async with pool.lease() as client:
                    hurried = asyncio.create_task(_leased(pool, patient=False))
                    patient = asyncio.create_task(_leased(pool, patient=True))
                    await until(lambda: pool.waiting_count == 1, "both are in the line")
                    broken.setattr(sys, "executable", "/bin/false")
                    await client.kill()
                with pytest.raises(NotReadyError, match="exit code 1"):
                    await hurried
                assert pool.waiting_count == 0
                assert not patient.done()
                broken.undo()
                assert await patient

    runner.run(wait())


def test_leases_are_exclusive_in_order_and_bounded(runner: asyncio.Runner) -> None:
    async def line_up() -> None:
        order: list[int] = []

        async def wait_for_turn(number: int) -> None:
            async with pool.lease():
                order.append(number)

        async with host_pool(count=1, queue_limit=2) as pool:
            await until(lambda: pool.alive_count == 1, "the run host is up")
            async with pool.lease():
                first = asyncio.create_task(wait_for_turn(1))
                await asyncio.sleep(0)
                second = asyncio.create_task(wait_for_turn(2))
                await asyncio.sleep(0)
                with pytest.raises(TooBusyError, match="2 runs wait"):
                    await wait_for_turn(3)
                assert order == []
            await asyncio.gather(first, second)
            assert order == [1, 2]

    runner.run(line_up())


def test_place_counts_until_its_lease_has_a_run_host(
    runner: asyncio.Runner,
) -> None:
    async def line_up() -> None:
        async with host_pool(count=1, queue_limit=1) as pool:
            await until(lambda: pool.alive_count == 1, "the run host is up")
            with pool.place() as first, pool.place():  # the run host, and the one that waits
                with pytest.raises(TooBusyError, match="2 runs wait"), pool.place():
                    pass
                async with pool.lease(place=first):
                    with pytest.raises(TooBusyError, match="1 runs wait"), pool.place():
                        pass
                with pytest.raises(TooBusyError), pool.place(), pool.place():
                    pass
            with pool.place(), pool.place():
                pass  # all that was counted was given back

    runner.run(line_up())


def test_retry_after_differs_between_refused_callers(runner: asyncio.Runner) -> None:
    async def refuse() -> None:
        told = []
        async with host_pool(count=1, queue_limit=0) as pool:
            await until(lambda: pool.alive_count == 1, "the run host is up")
            async with pool.lease():
                for _ in range(200):
                    with pytest.raises(TooBusyError) as caught, pool.place():
                        pass
                    told.append(caught.value.retry_after_seconds)
        assert set(told) <= set(BUSY_RETRY_SECONDS)
        assert max(map(told.count, told)) < len(told) // 2

    runner.run(refuse())


def test_clients_take_turns_in_the_queue(runner: asyncio.Runner) -> None:
    async def line_up() -> None:
        order: list[str] = []

        async def wait_for_turn(owner: str, name: str) -> None:
            async with pool.lease(owner=owner):
                order.append(name)

        async with host_pool(count=1, queue_limit=3) as pool:
            await until(lambda: pool.alive_count == 1, "the run host is up")
            async with pool.lease(owner="a"):
                waiting = []
                for name in ("a1", "a2", "a3"):
                    waiting.append(asyncio.create_task(wait_for_turn("a", name)))
                    await asyncio.sleep(0)
                with pytest.raises(TooBusyError, match="3 runs wait"):
                    await wait_for_turn("a", "a4")
                for name in ("b1", "c1"):
                    waiting.append(asyncio.create_task(wait_for_turn(name[0], name)))
                    await asyncio.sleep(0)
                with pytest.raises(TooBusyError, match="5 runs wait"):
                    await wait_for_turn("b", "b2")
                waiting.append(asyncio.create_task(wait_for_turn("d", "d1")))
                await asyncio.sleep(0)
                with pytest.raises(TooBusyError, match="6 runs wait"):
                    await wait_for_turn("e", "e1")
            await asyncio.gather(*waiting)
            assert order == ["a1", "b1", "c1", "d1", "a2", "a3"]

    runner.run(line_up())


def test_caller_that_gives_up_passes_its_turn_on(runner: asyncio.Runner) -> None:
    async def give_up() -> None:
        async with host_pool(count=1) as pool:
            await until(lambda: pool.alive_count == 1, "the run host is up")

            async def wait() -> bool:
                async with pool.lease():
                    return True

            async with pool.lease():
                first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
                await asyncio.sleep(0)
            first.cancel()  # it has been given its turn, and has not run since
            with pytest.raises(asyncio.CancelledError):
                await first
            assert await second
            async with pool.lease() as client:
                assert client.alive

    runner.run(give_up())


def test_caller_that_gives_up_waiting_frees_its_place(runner: asyncio.Runner) -> None:
    async def give_up() -> None:
        async with host_pool(count=1, queue_limit=1) as pool:
            await until(lambda: pool.alive_count == 1, "the run host is up")
            async with pool.lease():

                async def wait() -> None:
                    async with pool.lease():
                        pass

                for _ in range(3):
                    waiting = asyncio.create_task(wait())
                    await asyncio.sleep(0)
                    waiting.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await waiting
            async with pool.lease() as client:
                assert client.alive

    runner.run(give_up())


def test_dead_run_host_is_replaced_and_the_next_run_works(runner: asyncio.Runner) -> None:
    async def die_and_go_on() -> None:
        async with host_pool(count=2) as pool:
            await until(lambda: pool.alive_count == 2, "both are up")
            async with pool.lease() as client:
                await client.kill()
            await until(lambda: pool.alive_count == 2, "both are up again")
            for _ in range(3):
                async with pool.lease() as client:
                    events = [e async for e in client.run(make_plan(StrategyName.SEQUENTIAL))]
                    assert events[-1].error is None  # type: ignore[union-attr]

    runner.run(die_and_go_on())


def test_run_host_that_died_while_idle_is_not_lent(runner: asyncio.Runner) -> None:
    async def skip_the_dead() -> None:
        async with host_pool(count=1) as pool:
            await until(lambda: pool.alive_count == 1, "it is up")
            async with pool.lease() as client:
                dead = client
            await dead.kill()
            async with pool.lease() as client:
                assert client is not dead
                assert client.alive

    runner.run(skip_the_dead())


def test_closed_pool_leaves_no_process(runner: asyncio.Runner) -> None:
    async def close() -> None:
        before = set(tree(os.getpid()))  # servers of other tests may be among them
        async with host_pool(count=2) as pool:
            await until(lambda: pool.alive_count == 2, "both are up")
            below = set(tree(os.getpid())) - before
        assert below
        await until(
            lambda: all(is_gone(p) or "resource_tracker" in _command(p) for p in below),
            "all are gone",
        )

    runner.run(close())


def _command(process: object) -> str:
    import psutil

    assert isinstance(process, psutil.Process)
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_retired_run_hosts_are_replaced_idle_ones_at_once_and_leased_ones_later(
    runner: asyncio.Runner,
) -> None:
    async def retire() -> None:
        async with host_pool(2) as pool:
            await until(lambda: pool.alive_count == 2, "both are up")
            async with pool.lease() as leased:
                assert not pool.is_idle
                async with pool.lease() as other:
                    idle = other.pid
                pool.retire()
                async with pool.lease(patient=True) as new:
                    assert new.pid not in (idle, leased.pid)
                assert leased.alive
                events = [event async for event in leased.run(make_plan(StrategyName.SEQUENTIAL))]
                assert isinstance(events[-1], RunReport)
                assert events[-1].error is None
            await leased.exited
            await until(lambda: pool.alive_count == 2 and pool.is_idle, "both are replaced")
            async with pool.lease() as one, pool.lease() as two:
                assert not {one.pid, two.pid} & {idle, leased.pid}
            assert pool.deaths == 0

    runner.run(retire())
