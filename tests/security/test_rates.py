"""Rates of requests are counted per client, here or in a shared Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from hotloop.app.errors import RateLimitedError
from hotloop.app.names import Scope
from hotloop.app.security.clients import Client
from hotloop.app.security.gate import Gate, Quota, RateLimiter, network_of
from hotloop.app.settings.settings import Settings
from tests.fixtures.redis_server import RunningRedis, running_redis

ALICE, BOB = (Client(name, f"key:{name}", Scope.RUN) for name in ("alice", "bob"))


@pytest.fixture(scope="module")
def redis() -> Iterator[RunningRedis]:
    with running_redis() as redis:
        yield redis


@pytest.fixture(params=["memory", "redis"])
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "memory" else request.getfixturevalue("redis").url


async def counted(limiter: RateLimiter, who: str, times: int) -> list[Quota]:
    quotas = [await limiter.count(who) for _ in range(times)]
    assert None not in quotas
    return [quota for quota in quotas if quota is not None]


def test_requests_over_the_rate_are_refused(url: str | None) -> None:
    async def count() -> None:
        limiter = RateLimiter("3/day", url)
        quotas = await counted(limiter, f"over {url}", 5)
        assert [quota.exceeded for quota in quotas] == [False, False, False, True, True]
        assert [quota.left for quota in quotas] == [2, 1, 0, 0, 0]
        assert all(1 <= quota.reset_seconds <= 86_400 for quota in quotas)
        assert quotas[0].headers["RateLimit-Policy"] == '"requests";q=3;w=86400'
        assert quotas[0].headers["RateLimit"].startswith('"requests";r=2;t=')
        with pytest.raises(RateLimitedError, match=r"more than 3 requests in 86,400 s"):
            quotas[-1].check()
        (other,) = await counted(limiter, "another", 1)
        assert not other.exceeded
        await limiter.close()

    asyncio.run(count())


def test_processes_share_their_counts_in_redis(redis: RunningRedis) -> None:
    async def count() -> None:
        first, second = (RateLimiter("3/day", redis.url) for _ in range(2))
        await counted(first, "shared", 2)
        quotas = await counted(second, "shared", 2)
        assert [quota.exceeded for quota in quotas] == [False, True]
        await first.close()
        await second.close()

    asyncio.run(count())


def test_requests_pass_while_the_storage_is_down(caplog: pytest.LogCaptureFixture) -> None:
    with running_redis() as redis:
        limiter = RateLimiter("1/day", redis.url)
        redis.kill()

        async def count() -> None:
            assert [await limiter.count("x") for _ in range(3)] == [None] * 3
            await limiter.close()

        asyncio.run(count())
    assert "not counted" in caplog.text


def test_keys_are_counted_by_client_and_other_requests_by_address() -> None:
    async def count() -> None:
        gate = Gate(Settings(rate_limit="1/hour"))

        async def exceeded(client: Client | None, address: str) -> bool:
            quota = await gate.count(client, address)
            assert quota is not None
            return quota.exceeded

        assert not await exceeded(ALICE, "10.0.0.1")
        assert not await exceeded(BOB, "10.0.0.1")
        assert await exceeded(ALICE, "10.0.0.2")
        assert not await exceeded(None, "10.0.0.1")
        assert await exceeded(None, "10.0.0.1")
        assert not await exceeded(None, "10.0.0.2")
        assert not await exceeded(None, "2001:db8::1")
        assert await exceeded(None, "2001:db8::ffff:1")

    asyncio.run(count())


def test_nothing_is_counted_by_default() -> None:
    assert asyncio.run(Gate(Settings()).count(ALICE, "10.0.0.1")) is None


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_address_counts_by_its_network(address: str, network: str) -> None:
    assert network_of(address) == network
