"""A client: who asks, and what it may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hotloop.app.errors import MissingScopeError


class Scope(StrEnum):
    """What a client may do; each includes those before it."""

    READ = "read"
    """See its own tasks, and what the service offers."""
    RUN = "run"
    """Ask for runs, cancel, resume and remove its own tasks."""
    ADMIN = "admin"
    """The same for the tasks of all."""


_ORDER: Final = tuple(Scope)


@dataclass(frozen=True, slots=True)
class Client:
    """`id` is what the store keeps with a client's tasks, None where nobody has to say who they
    are; `name` is for people.
    """

    name: str
    id: str | None
    scope: Scope
    """The highest that it has."""

    def may(self, scope: Scope) -> bool:
        return _ORDER.index(self.scope) >= _ORDER.index(scope)

    def require(self, scope: Scope) -> None:
        """Raises MissingScopeError."""
        if not self.may(scope):
            raise MissingScopeError(self.name, scope)

    @property
    def sees_all(self) -> bool:
        """Whether the tasks of all are its own."""
        return self.may(Scope.ADMIN)


ANYONE: Final = Client("anyone", None, Scope.ADMIN)
"""Every client of a service without authentication, which is on loopback only."""


def highest(scopes: frozenset[Scope]) -> Scope | None:
    return max(scopes, key=_ORDER.index, default=None)
