"""Admission of requests: finds the client of a request, and limits the rate of its requests."""

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
"""Timeout of a shared storage, after which requests are answered without being counted."""

_IPV6_NETWORK: Final = 64
"""Bits of a subscriber's network; the subscriber has all addresses in it."""

_BEARER: Final = "a token as Authorization: Bearer"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials of a request. The first that is not None counts."""

    key: str | None = None
    bearer: str | None = None
    """A JSON Web Token."""
    session: str | None = None
    """The value of the session's cookie."""

    @property
    def by_session(self) -> bool:
        """True if a browser adds the credentials by itself, whatever page sends the request."""
        return self.key is None and self.bearer is None and self.session is not None


class Gate:
    """Admits requests of one application by the keys, tokens and rate limit of the settings."""

    def __init__(self, settings: Settings) -> None:
        self.is_open = not settings.needs_authentication
        """True if requests need no credentials."""
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
        """Return the client that the credentials belong to. Raises UnauthorizedError, and
        MissingScopeError for a token without any scope.
        """
        if self.is_open:
            return ANYONE
        if shown.key is not None:
            return self.keys.find(shown.key).client
        if shown.bearer is not None:
            if self._tokens is None:
                raise UnauthorizedError(
                    f"bearer tokens are refused, because HOTLOOP_JWT_KEY is not set; {self._ways}"
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
        """Count a request of a client, or of an address if the client is unknown. Return None
        without a rate limit.
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
    """The number of requests that a client has left in a window."""

    limit: int
    window_seconds: int
    left: int
    reset_seconds: int
    """Time until more requests are allowed."""
    exceeded: bool = False
    """True if this request was above the limit."""

    def check(self) -> None:
        """Raise RateLimitedError if the request was above the limit."""
        if self.exceeded:
            raise RateLimitedError(
                f"more than {self.limit:,} requests in {self.window_seconds:,} s; send fewer",
                self.reset_seconds,
            )

    @property
    def headers(self) -> dict[str, str]:
        """The headers of draft-ietf-httpapi-ratelimit-headers-10."""
        return {
            "RateLimit-Policy": f'"requests";q={self.limit};w={self.window_seconds}',
            "RateLimit": f'"requests";r={self.left};t={self.reset_seconds}',
        }


class RateLimiter:
    """Counts requests in a sliding window, in this process or in a Redis that processes share."""

    def __init__(self, rate: str, storage_url: str | None) -> None:
        """Raises ValueError if `rate` is not like `600/minute`."""
        self._item: RateLimitItem = parse(rate)
        self._redis: RedisStorage | None = None
        storage: MemoryStorage | RedisStorage = MemoryStorage()
        if storage_url is not None:
            storage = self._redis = _redis_storage(storage_url)
        self._limiter = SlidingWindowCounterRateLimiter(storage)

    async def count(self, who: str) -> Quota | None:
        """Count a request of `who`. Return None while the storage cannot be reached: such requests
        are answered uncounted.
        """
        try:
            allowed = await self._limiter.hit(self._item, who)
            stats = await self._limiter.get_window_stats(self._item, who)
        except StorageError as error:
            logger.warning("requests are not counted: %s", error.storage_error)
            return None
        window = self._item.get_expiry()
        reset = min(window, max(1, math.ceil(stats.reset_time - time.time())))
        left = max(0, stats.remaining) if allowed else 0
        return Quota(self._item.amount, window, left, reset, not allowed)

    async def close(self) -> None:
        """Close the connections to the storage."""
        if self._redis is not None:
            bridge: Any = self._redis.bridge  # its type does not name its client
            await bridge.get_connection().aclose()


def _redis_storage(url: str) -> RedisStorage:
    # redis takes long to import, and imports the SDK of OpenTelemetry if that is installed.
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
    """Return the network whose addresses are counted together: an IPv4 address alone, or the IPv6
    network of a subscriber, who has any number of addresses.
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
