"""Who is let in, and as whom."""

from __future__ import annotations

from dataclasses import dataclass

from app.access_settings import AccessSettings
from app.errors import UnauthorizedError
from app.security.clients import ANYONE, Client
from app.security.keys import KEY_HEADER, KeyRing
from app.security.rates import Quota, RateLimiter, network_of


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request shows of who sends it."""

    key: str | None = None


class Gate:
    """One for each application; knows the settings and no request."""

    def __init__(self, settings: AccessSettings) -> None:
        self.is_open = not settings.needs_authentication
        """Whether nobody has to say who they are."""
        self.keys = KeyRing(entry.key for entry in settings.api_keys)
        self._rates = _limiter(settings)

    def admit(self, shown: Credentials) -> Client:
        """Raises UnauthorizedError."""
        if self.is_open:
            return ANYONE
        if shown.key is not None:
            return self.keys.find(shown.key).client
        raise UnauthorizedError(f"send a key in the header {KEY_HEADER}")

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


def _limiter(settings: AccessSettings) -> RateLimiter | None:
    if settings.rate_limit is None:
        return None
    url = settings.rate_limit_storage
    return RateLimiter(settings.rate_limit, None if url is None else url.get_secret_value())
