"""Who asks, as a dependency of routes."""

from __future__ import annotations

from typing import Annotated, Final, cast

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader

from app.errors import UnauthorizedError
from app.security.clients import Client, Scope
from app.security.gate import Credentials, Gate
from app.security.keys import KEY_HEADER

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Those that change nothing, as HTTP has it."""

ANSWER_HEADERS: Final = "answer_headers"
"""In a request's state: headers that its answer gets."""

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
    """Who asks, and may use this method, and not too often. Raises UnauthorizedError,
    MissingScopeError, RateLimitedError.

    Part of every route but the few that the application names open.
    """
    try:
        client = gate.admit(Credentials(key))
    except UnauthorizedError:
        await _count(request, gate, None)
        raise
    await _count(request, gate, client)
    client.require(Scope.READ if request.method in SAFE_METHODS else Scope.RUN)
    return client


async def _count(request: Request, gate: Gate, client: Client | None) -> None:
    """Raises RateLimitedError. The answer tells what is left, whichever it is."""
    address = request.client.host if request.client is not None else ""
    quota = await gate.count(client, address)
    if quota is not None:
        request.scope["state"][ANSWER_HEADERS] = quota.headers
        quota.check()


ClientDep = Annotated[Client, Depends(get_client)]
