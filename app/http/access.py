"""The client of a request, as a dependency of routes."""

from __future__ import annotations

from typing import Annotated, Final, cast

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyCookie, APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param

from hotloop.app.errors import ForbiddenError, MissingScopeError, UnauthorizedError
from hotloop.app.names import Scope
from hotloop.app.security.clients import COOKIE, KEY_HEADER, Client
from hotloop.app.security.gate import Credentials, Gate

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing, as HTTP defines them."""

ANSWER_HEADERS: Final = "answer_headers"
"""Key in a request's state: the headers to add to its answer."""

CLIENT: Final = "client"
"""Key in a request's state: the id of the client, for the log; None if no key is needed."""

ADMITTED: Final = "admitted"
"""Key in a request's state: its client, if `client_of` has been asked before."""

PAGE_HEADER: Final = "X-Requested-With"
PAGE: Final = "hotloop"
"""The service's own page sends this in PAGE_HEADER; a form of another page cannot set a header."""

_KEY: Final = APIKeyHeader(
    name=KEY_HEADER,
    scheme_name="key",
    description=(
        "A key of `HOTLOOP_API_KEYS`: `read` for GET, `run` for everything on one's own tasks, "
        "`admin` for the tasks of all clients. A service without keys needs none."
    ),
    auto_error=False,
)

_BEARER: Final = HTTPBearer(
    scheme_name="bearer",
    bearerFormat="JWT",
    description=(
        "A JSON Web Token, where the service has `HOTLOOP_JWT_KEY`: `sub` is the client, `scope` "
        "has `read`, `run` or `admin`."
    ),
    auto_error=False,
)

_SESSION: Final = APIKeyCookie(
    name=COOKIE,
    scheme_name="session",
    description=(
        "The session of a page that has signed in by `POST /session`. A request that changes "
        "something must come from the service's own origin, with the header "
        f"`{PAGE_HEADER}: {PAGE}`."
    ),
    auto_error=False,
)


async def get_gate(request: Request) -> Gate:
    return cast(Gate, request.app.state.gate)


GateDep = Annotated[Gate, Depends(get_gate)]


async def get_credentials(
    key: Annotated[str | None, Security(_KEY)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
    session: Annotated[str | None, Security(_SESSION)],
) -> Credentials:
    return Credentials(key, None if bearer is None else bearer.credentials, session)


async def get_client(
    request: Request, gate: GateDep, shown: Annotated[Credentials, Depends(get_credentials)]
) -> Client:
    """Return the client, if it may use this method and is within its rate limit. Raises
    UnauthorizedError, ForbiddenError, MissingScopeError, RateLimitedError.

    Every route depends on this, except the few that the application lists as open.
    """
    try:
        client = gate.admit(shown)
    except (UnauthorizedError, MissingScopeError):
        await count(request, gate, None)
        raise
    request.scope["state"][CLIENT] = client.id
    await count(request, gate, client)
    is_safe = request.method in SAFE_METHODS
    if shown.by_session and not gate.is_open and not is_safe:
        check_page(request)
    client.require(Scope.READ if is_safe else Scope.RUN)
    return client


async def client_of(request: Request) -> Client:
    """Do what `get_client` does, for a route that is called so often that FastAPI's solving of
    dependencies would be the largest part of an answer.
    """
    admitted: Client | None = request.scope["state"].get(ADMITTED)
    if admitted is not None:
        return admitted
    scheme, token = get_authorization_scheme_param(request.headers.get("authorization"))
    bearer = token if token and scheme.lower() == "bearer" else None
    shown = Credentials(request.headers.get(KEY_HEADER), bearer, request.cookies.get(COOKIE))
    return await get_client(request, await get_gate(request), shown)


SECURITY: Final[list[dict[str, list[str]]]] = [
    {scheme.scheme_name: []} for scheme in (_KEY, _BEARER, _SESSION)
]
"""OpenAPI of a route that uses `client_of`."""


async def count(request: Request, gate: Gate, client: Client | None) -> None:
    """Count the request, and add the rest of the quota to its answer's headers. Raises
    RateLimitedError.

    Unix-socket clients have no address and share one quota.
    """
    address = request.client.host if request.client is not None else ""
    quota = await gate.count(client, address)
    if quota is not None:
        request.scope["state"][ANSWER_HEADERS] = quota.headers
        quota.check()


def check_page(request: Request) -> None:
    """Raise ForbiddenError unless the service's own page sends the request. A browser sends the
    cookie with every request that any page of the same site makes.
    """
    headers = request.headers
    site, origin = headers.get("sec-fetch-site"), headers.get("origin", "").lower()
    own = f"{request.url.scheme}://{headers.get('host', '')}".lower()
    is_own = site == "same-origin" or (site is None and origin == own)
    if not is_own or headers.get(PAGE_HEADER, "").lower() != PAGE:
        raise ForbiddenError(
            "a session may make changes only from the service's own page, with the header "
            f"{PAGE_HEADER}: {PAGE}; have programs send a key"
        )


ClientDep = Annotated[Client, Depends(get_client)]
