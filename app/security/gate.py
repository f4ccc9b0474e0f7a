"""The gate of the service: which client a request is of, and how many a client may send."""

from __future__ import annotations

import ipaddress
import logging
import math
import time
from dataclasses import dataclass
from typing import Any, Final

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError

from hotloop.app.errors import RateLimitedError, UnauthorizedError
from hotloop.app.security.clients import ANYONE, KEY_HEADER, ApiKey, Client, KeyRing, Sessions
from hotloop.app.settings.settings import Settings

logger = logging.getLogger(__name__)

STORAGE_SECONDS: Final = 1.0
"""How long a shared storage may take before requests go on uncounted."""

_IPV6_NETWORK: Final = 64
"""Bits that one subscriber has the rest of."""

_BEARER: Final = "a token as Authorization: Bearer"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request shows of who sends it; the first that it has counts."""

    key: str | None = None
    bearer: str | None = None
    """A JSON Web Token."""
    session: str | None = None
    """What the cookie of a session has."""

    @property
    def by_session(self) -> bool:
        """Whether a browser shows them by itself, whatever page had it ask."""
        return self.key is None and self.bearer is None and self.session is not None


class Gate:
    """One for each application; knows the settings and no request."""

    def __init__(self, settings: Settings) -> None:
        self.is_open = not settings.needs_authentication
        """Whether nobody has to say who they are."""
        self.keys = KeyRing(map(ApiKey.of, settings.api_keys))
        secret = settings.session_secret
        self.sessions = Sessions(None if secret is None else secret.get_secret_value(), self.keys)
        self._rates = _limiter(settings)
        self._tokens = None
        if settings.jwt_key is not None:
            from hotloop.app.security.tokens import TokenCheck  # takes long to import

            assert settings.jwt_algorithm is not None
            assert settings.jwt_audience is not None
            self._tokens = TokenCheck(
                settings.jwt_key.get_secret_value(),
                settings.jwt_algorithm,
                settings.jwt_audience,
                settings.jwt_issuer,
            )

    def admit(self, shown: Credentials) -> Client:
        """Raises UnauthorizedError, and MissingScopeError for who has no scope at all."""
        if self.is_open:
            return ANYONE
        if shown.key is not None:
            return self.keys.find(shown.key).client
        if shown.bearer is not None:
            if self._tokens is None:
                raise UnauthorizedError(
                    f"bearer tokens are taken with HOTLOOP_JWT_KEY only; {self._ways}"
                )
            return self._tokens.client_of(shown.bearer)
        if shown.session is not None:
            return self.sessions.find(shown.session).key.client
        raise UnauthorizedError(self._ways)

    @property
    def _ways(self) -> str:
        ways = [f"a key in the header {KEY_HEADER}"] if self.keys else []
        if self._tokens is not None:
            ways.append(_BEARER)
        return f"send {' or '.join(ways)}"

    async def count(self, client: Client | None, address: str) -> Quota | None:
        """Count a request of a client, or of an address when nobody knows who it is; None where
        nothing is counted.
        """
        if self._rates is None:
            return None
        if client is not None and client.id is not None:
            return await self._rates.count(f"client:{client.id}")
        return await self._rates.count(f"address:{network_of(address)}")

    async def close(self) -> None:
        if self._rates is not None:
            await self._rates.close()


def _limiter(settings: Settings) -> RateLimiter | None:
    if settings.rate_limit is None:
        return None
    url = settings.rate_limit_storage
    return RateLimiter(settings.rate_limit, None if url is None else url.get_secret_value())


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left of a client's requests in a window."""

    limit: int
    window_seconds: int
    left: int
    reset_seconds: int
    """Until more are left."""
    exceeded: bool = False
    """Whether this request was one too many."""

    def check(self) -> None:
        """Raises RateLimitedError."""
        if self.exceeded:
            raise RateLimitedError(
                f"more than {self.limit:,} requests in {self.window_seconds:,} s; send fewer",
                self.reset_seconds,
            )

    @property
    def headers(self) -> dict[str, str]:
        """As draft-ietf-httpapi-ratelimit-headers-10 has them."""
        return {
            "RateLimit-Policy": f'"requests";q={self.limit};w={self.window_seconds}',
            "RateLimit": f'"requests";r={self.left};t={self.reset_seconds}',
        }


class RateLimiter:
    """Counts in a sliding window, in this process or in a Redis that several share."""

    def __init__(self, rate: str, storage_url: str | None) -> None:
        """`rate` like `600/minute`; ValueError for other text."""
        self._item: RateLimitItem = parse(rate)
        self._redis: RedisStorage | None = None
        storage: MemoryStorage | RedisStorage = MemoryStorage()
        if storage_url is not None:
            storage = self._redis = _redis_storage(storage_url)
        self._limiter = SlidingWindowCounterRateLimiter(storage)

    async def count(self, who: str) -> Quota | None:
        """Count a request of `who`; None while the storage cannot be reached: who cannot be counted
        is served.
        """
        try:
            allowed = await self._limiter.hit(self._item, who)
            stats = await self._limiter.get_window_stats(self._item, who)
        except StorageError as error:
            logger.warning("requests go on uncounted: %s", error.storage_error)
            return None
        window = self._item.get_expiry()
        reset = min(window, max(1, math.ceil(stats.reset_time - time.time())))
        left = max(0, stats.remaining) if allowed else 0
        return Quota(self._item.amount, window, left, reset, not allowed)

    async def close(self) -> None:
        """Close the connections to the storage."""
        if self._redis is not None:
            bridge: Any = self._redis.bridge  # whose type does not tell which client it has
            await bridge.get_connection().aclose()


def _redis_storage(url: str) -> RedisStorage:
    # Takes long to import, and brings the SDK of OpenTelemetry where that is installed.
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    options: dict[str, Any] = {
        "socket_timeout": STORAGE_SECONDS,
        "socket_connect_timeout": STORAGE_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }
    return RedisStorage(
        f"async+{url}",
        wrap_exceptions=True,
        implementation="redispy",
        key_prefix="hotloop-rate",
        **options,
    )


def network_of(address: str) -> str:
    """Those who are counted together with an address: itself, and with version 6 the network of
    one subscriber, who has any number of addresses.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 6:
        mapped = parsed.ipv4_mapped
        if mapped is not None:
            return str(mapped)
        return str(ipaddress.ip_network((parsed, _IPV6_NETWORK), strict=False))
    return str(parsed)
