"""Who asks, as a dependency of routes."""

from __future__ import annotations

from typing import Annotated, Final, cast

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader

from app.security.clients import Client, Scope
from app.security.gate import Credentials, Gate
from app.security.keys import KEY_HEADER

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Those that change nothing, as HTTP has it."""

_KEY: Final = APIKeyHeader(
    name=KEY_HEADER,
    scheme_name="key",
    description=(
        "A key of `HOTLOOP_API_KEYS`: `read` for GET, `run` for everything on one's own tasks, "
        "`admin` for the tasks of all. A service without keys asks for none."
    ),
    auto_error=False,
)


async def get_gate(request: Request) -> Gate:
    return cast(Gate, request.app.state.gate)


async def get_client(
    request: Request,
    gate: Annotated[Gate, Depends(get_gate)],
    key: Annotated[str | None, Security(_KEY)],
) -> Client:
    """Who asks, and may use this method. Raises UnauthorizedError, MissingScopeError.

    Part of every route but the few that the application names open.
    """
    client = gate.admit(Credentials(key))
    client.require(Scope.READ if request.method in SAFE_METHODS else Scope.RUN)
    return client


ClientDep = Annotated[Client, Depends(get_client)]
