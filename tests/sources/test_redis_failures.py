"""sources.redis: the server refuses, stalls, dies and comes back."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest
from redis import Redis, ResponseError

from hotloop.app.names import RedisLayout
from hotloop.app.sources import resilience
from hotloop.app.sources.connections import close_connections
from hotloop.app.sources.redis import RedisStage
from hotloop.app.sources.resilience import Policy, SourceDownError, TransientError, breaker_of
from tests.fixtures.guarded import free_port
from tests.fixtures.outages import cancelled, try_again_soon
from tests.fixtures.real_sources import (
    BOTH,
    POLICY,
    UNTOUCHED,
    closing,
    fetched,
    item_batch,
    redis_stage,
)
from tests.fixtures.redis_server import running_redis
from tests.fixtures.waiting import until, wait_until

SECRET = "s3cret-pa55word"
GIVES_UP = replace(POLICY, attempts=2, outage_seconds=0)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    try_again_soon(monkeypatch, 0.02)
    monkeypatch.setattr(resilience, "FIRST_BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(resilience, "LONGEST_BACKOFF_SECONDS", 0.01)


def test_client_itself_retries_nothing() -> None:
    """Attempts are the guard's: counted, and waited for with jitter."""

    async def run() -> None:
        connected: list[int] = []

        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connected.append(1)
            await reader.read(1)
            writer.close()

        async with await asyncio.start_server(hang_up, "127.0.0.1") as server:
            port = server.sockets[0].getsockname()[1]
            stage = redis_stage(f"redis://127.0.0.1:{port}/0", policy=GIVES_UP)
            batch = item_batch([1])
            with pytest.raises(TransientError):
                await stage.fetch_async(batch, [0])
            assert len(connected) == batch.counts["cache"].calls == GIVES_UP.attempts

    closing(run)


def test_cache_aside_counts_a_down_server_as_misses() -> None:
    port = free_port()
    stage = redis_stage(f"redis://127.0.0.1:{port}/0", policy=GIVES_UP, aside=True)
    batch = fetched(stage, range(20))
    assert (batch.failed, batch.complete) == ({}, set())
    assert batch.columns["offset"].tolist() == [UNTOUCHED] * 20
    assert batch.counts["cache"].misses == 20
    assert batch.counts["cache"].hits == 0


def test_paused_server_is_a_timeout_and_then_answers() -> None:
    with running_redis() as server:
        server.fill(3, key="item:{item_id}", value=lambda item_id: str(item_id))
        stage = redis_stage(server.url, policy=Policy(0.2, 1, 30.0))

        async def run() -> None:
            await stage.fetch_async(item_batch([1]), [0])
            server.pause()
            batch = item_batch([1])
            with pytest.raises(TransientError, match=r"^redis did not answer"):
                await stage.fetch_async(batch, [0])
            server.resume()
            await stage.fetch_async(batch, [0])
            assert batch.columns["offset"].tolist() == [1]

        closing(run)


def test_answers_of_abandoned_calls_are_dropped() -> None:
    """Cancelled while the server is stalled; what it answers later belongs to nobody."""
    with running_redis() as server:
        server.fill(1_000, key="item:{item_id}", value=lambda item_id: str(item_id))
        stage = redis_stage(server.url, connections=4)

        async def run() -> None:
            await stage.fetch_async(item_batch([1]), [0])
            for layout in (RedisLayout.STRING, RedisLayout.HASH):
                await asyncio.gather(*(stage.fetch_async(item_batch([1]), [0]) for _ in range(9)))
                server.pause()
                abandoned = replace(stage, layout=layout)
                calls = [
                    asyncio.create_task(abandoned.fetch_async(item_batch([n, n]), range(2)))
                    for n in range(8)
                ]
                await asyncio.sleep(0.02)
                await cancelled(calls)
                server.resume()
                batch = item_batch(range(1_000))
                groups = [range(n, n + 10) for n in range(0, 1_000, 10)]
                await asyncio.gather(*(stage.fetch_async(batch, group) for group in groups))
                assert batch.columns["offset"].tolist() == list(range(1_000))

        closing(run)


@pytest.mark.parametrize("layout", [RedisLayout.HASH, RedisLayout.STRING])
def test_killed_server_that_comes_back_empty_costs_no_item(layout: RedisLayout) -> None:
    with running_redis() as server:
        stage = redis_stage(server.url, layout=layout)

        async def run() -> None:
            await stage.fetch_async(item_batch([1]), [0])
            server.kill()
            batch = item_batch(range(200))
            calls = [
                asyncio.create_task(stage.fetch_async(batch, [position])) for position in range(200)
            ]
            breaker = breaker_of("redis", server.url)
            await until(lambda: not breaker.is_closed, "the breaker is open")
            await asyncio.to_thread(server.restart)
            await asyncio.gather(*calls)
            assert breaker.is_closed
            assert batch.columns["offset"].tolist() == [0] * 200
            assert (batch.counts["cache"].hits, batch.counts["cache"].misses) == (0, 200)
            assert batch.counts["cache"].retries > 0

        closing(run)


def test_server_that_stays_away_fails_everything_once_and_then_at_once() -> None:
    with running_redis() as server:
        stage = redis_stage(server.url, policy=replace(POLICY, outage_seconds=0.2))

        async def run() -> None:
            server.kill()
            batch = item_batch(range(300))
            calls = [stage.fetch_async(batch, [position]) for position in range(300)]
            ended = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(error) for error in ended} == {SourceDownError}
            assert all("redis cannot be reached" in str(error) for error in ended)
            sent = batch.counts["cache"].calls
            for _ in range(50):
                with pytest.raises(SourceDownError):
                    await stage.fetch_async(batch, [0])
            assert batch.counts["cache"].calls - sent < 50

        closing(run)


@pytest.mark.parametrize("layout", [RedisLayout.HASH, RedisLayout.STRING])
def test_busy_server_is_retried(layout: RedisLayout) -> None:
    """While a script runs, any other command is answered with BUSY."""
    with running_redis() as server, server.client(socket_timeout=60) as client:
        client.config_set("busy-reply-threshold", 1)
        script = threading.Thread(target=_loop_for_ever, args=(server.client(socket_timeout=60),))
        script.start()
        wait_until(lambda: _is_busy(client), "the server is busy")
        stage = redis_stage(server.url, layout=layout, policy=replace(POLICY, attempts=100))

        async def run() -> None:
            batch = item_batch([1])
            call = asyncio.create_task(stage.fetch_async(batch, [0]))
            await until(lambda: batch.counts and batch.counts["cache"].retries > 2, "it is busy")
            client.script_kill()
            await call
            assert batch.columns["offset"].tolist() == [0]

        closing(run)
        script.join()


def _is_busy(client: Redis) -> bool:
    try:
        client.ping()
    except ResponseError as error:
        return str(error).startswith("BUSY")
    return False


def _loop_for_ever(client: Redis) -> None:
    with client, pytest.raises(ResponseError, match="kill"):
        client.eval("while true do end", 0)


@pytest.mark.parametrize("layout", [RedisLayout.HASH, RedisLayout.STRING])
def test_replica_without_its_master_is_retried(layout: RedisLayout) -> None:
    with running_redis() as server, server.client() as client:
        client.config_set("replica-serve-stale-data", "no")
        client.replicaof("127.0.0.1", free_port())
        stage = redis_stage(server.url, layout=layout, policy=GIVES_UP)
        with pytest.raises(TransientError, match="redis cannot answer now: Link with MASTER"):
            fetched(stage, [1])
        client.replicaof("NO", "ONE")
        assert fetched(stage, [1]).columns["offset"].tolist() == [0]


def test_both_faces_read_the_same() -> None:
    with running_redis() as server:
        server.fill(10, key="item:{item_id}", value=lambda n: f'{{"v": {n}.5, "o": {n}}}')
        stage: RedisStage = redis_stage(server.url, layout=RedisLayout.JSON, **BOTH)
        blocking = item_batch(range(10))
        stage.fetch(blocking, range(10), threading.Event())
        other = fetched(stage, range(10))
        asyncio.run(close_connections())
        for name, column in sorted(other.columns.items()):
            assert blocking.columns[name].tolist() == column.tolist()
        assert blocking.columns["value"].tolist() == [n + 0.5 for n in range(10)]
