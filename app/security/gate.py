"""Who is let in, and as whom."""

from __future__ import annotations

from dataclasses import dataclass

from app.access_settings import AccessSettings
from app.errors import UnauthorizedError
from app.security.clients import ANYONE, Client
from app.security.keys import KEY_HEADER, KeyRing


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

    def admit(self, shown: Credentials) -> Client:
        """Raises UnauthorizedError."""
        if self.is_open:
            return ANYONE
        if shown.key is not None:
            return self.keys.find(shown.key).client
        raise UnauthorizedError(f"send a key in the header {KEY_HEADER}")
