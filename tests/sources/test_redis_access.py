"""sources.redis: refused access and absent servers, reported without address and secret."""

from __future__ import annotations

import asyncio
import logging
import pickle
from dataclasses import replace

import pytest

from hotloop.app.names import RedisLayout
from hotloop.app.sources import resilience
from hotloop.app.sources.base import ItemFetchError, StageCounts
from hotloop.app.sources.resilience import RefusedError, TransientError, breaker_of
from tests.fixtures.guarded import free_port
from tests.fixtures.outages import try_again_soon
from tests.fixtures.real_sources import (
    POLICY,
    assert_hides,
    closing,
    fetched,
    item_batch,
    redis_stage,
)
from tests.fixtures.redis_server import running_redis

SECRET = "s3cret-pa55word"
GIVES_UP = replace(POLICY, attempts=2, outage_seconds=0)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    try_again_soon(monkeypatch, 0.02)
    monkeypatch.setattr(resilience, "FIRST_BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(resilience, "LONGEST_BACKOFF_SECONDS", 0.01)


def test_password_is_sent_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with running_redis(password=SECRET) as server:
        server.fill(1, key="item:{item_id}", value=lambda item_id: "5")
        stage = redis_stage(server.url)
        assert fetched(stage, [0]).columns["offset"].tolist() == [5]

        for wrong in (server.url.replace(SECRET, "wr0ng"), server.url.replace(f":{SECRET}@", "")):
            with pytest.raises(RefusedError) as caught:
                fetched(redis_stage(wrong), [0])
            assert str(caught.value) == "redis refuses the access; see HOTLOOP_REDIS_URL"
        shown = f"{stage!r} {pickle.loads(pickle.dumps(stage))!r}"
        assert pickle.loads(pickle.dumps(stage)) == stage
        text = shown + caplog.text + repr(breaker_of("redis", server.url))
        assert_hides(text, SECRET, "wr0ng", server.port)


def test_refused_access_is_one_call_and_opens_no_breaker() -> None:
    with running_redis(password=SECRET) as server:
        url = server.url.replace(SECRET, "wrong")
        for _ in range(6):
            batch = item_batch([1])

            async def ask(url: str = url, batch: object = batch) -> None:
                await redis_stage(url).fetch_async(batch, [0])  # type: ignore[arg-type]

            with pytest.raises(RefusedError):
                closing(ask)
            assert batch.counts["cache"] == StageCounts(calls=1)
        assert breaker_of("redis", url).is_closed


def test_right_without_a_permission_is_refused() -> None:
    with running_redis() as server, server.client() as client:
        client.acl_setuser("poor", enabled=True, passwords=[f"+{SECRET}"], commands=["+ping"])
        url = server.url.replace("://", f"://poor:{SECRET}@")
        with pytest.raises(RefusedError, match=r"^redis refuses the command or the key") as caught:
            fetched(redis_stage(url), [1])
        assert_hides(str(caught.value), SECRET, "poor")


@pytest.mark.parametrize("layout", sorted(RedisLayout))
def test_unreachable_server_fails_every_item_without_its_address(layout: RedisLayout) -> None:
    port = free_port()
    stage = redis_stage(f"redis://127.0.0.1:{port}/0", layout=layout, policy=GIVES_UP)
    with pytest.raises(TransientError) as caught:
        fetched(stage, [1])
    assert str(caught.value) == "redis cannot be reached, or closed the connection"


@pytest.mark.parametrize("where", ["no-such-host.invalid", "[::1]"])
def test_unreachable_host_error_hides_its_name(where: str) -> None:
    with pytest.raises(TransientError) as caught:
        fetched(redis_stage(f"redis://{where}:1/0", policy=GIVES_UP), [1])
    assert str(caught.value) == "redis cannot be reached, or closed the connection"


def test_unix_socket_and_tls_that_are_not_there(tmp_path: object) -> None:
    with running_redis() as server:
        for url in (f"unix://{tmp_path}/none.sock", server.url.replace("redis://", "rediss://")):
            with pytest.raises(TransientError, match=r"^redis (cannot be reached|did not answer)"):
                fetched(redis_stage(url, policy=replace(GIVES_UP, timeout_seconds=1)), [1])


def test_something_else_that_answers_is_no_redis() -> None:
    async def run() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(talk, "127.0.0.1") as server:
            port = server.sockets[0].getsockname()[1]
            stage = redis_stage(f"redis://127.0.0.1:{port}/0", policy=GIVES_UP)
            with pytest.raises(ItemFetchError, match=r"^redis"):
                await stage.fetch_async(item_batch([1]), [0])

    closing(run)


def test_other_refusals_quote_the_server() -> None:
    with running_redis() as server:
        stage = redis_stage(server.url.replace("/0", "/99"), policy=GIVES_UP)
        with pytest.raises(RefusedError, match=r"^redis refused: DB index is out of range$"):
            fetched(stage, [1])
