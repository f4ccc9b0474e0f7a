"""Who is let in, and as whom."""

from __future__ import annotations

from dataclasses import dataclass

from hotloop.app.errors import UnauthorizedError
from hotloop.app.security.clients import ANYONE, Client
from hotloop.app.security.keys import KEY_HEADER, KeyRing
from hotloop.app.security.rates import Quota, RateLimiter, network_of
from hotloop.app.security.sessions import Sessions
from hotloop.app.settings.access import AccessSettings

_BEARER = "a token as Authorization: Bearer"


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

    def __init__(self, settings: AccessSettings) -> None:
        self.is_open = not settings.needs_authentication
        """Whether nobody has to say who they are."""
        self.keys = KeyRing(entry.key for entry in settings.api_keys)
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


def _limiter(settings: AccessSettings) -> RateLimiter | None:
    if settings.rate_limit is None:
        return None
    url = settings.rate_limit_storage
    return RateLimiter(settings.rate_limit, None if url is None else url.get_secret_value())
