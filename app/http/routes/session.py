"""Sessions of browsers: `/session`. Programs send their key with each request instead."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response

from hotloop.app import errors
from hotloop.app.errors import UnauthorizedError
from hotloop.app.http.access import GateDep, check_page, count
from hotloop.app.http.error_handlers import problem_responses
from hotloop.app.http.routes.paths import SESSION
from hotloop.app.schemas.sessions import SessionView, SignIn
from hotloop.app.security.clients import ANYONE, COOKIE, SESSION_SECONDS, Client, Session

router = APIRouter(prefix=SESSION, tags=["service"])


_NOBODY: Final = SessionView(name=None, scope=None, expires_at=None)


def _view(client: Client, session: Session | None) -> SessionView:
    expires = None if session is None else session.expires_at
    return SessionView(name=client.name, scope=client.scope.value, expires_at=expires)


@router.get(
    "",
    operation_id="get_session",
    summary="Who is signed in?",
    responses=problem_responses(),
)
async def get_session(request: Request, gate: GateDep) -> SessionView:
    """For pages: whether they have to ask for a key. Looks at the cookie alone."""
    if gate.is_open:
        return _view(ANYONE, None)
    try:
        session = gate.sessions.find(request.cookies.get(COOKIE, ""))
    except UnauthorizedError:
        return _NOBODY
    return _view(session.key.client, session)


@router.post(
    "",
    operation_id="sign_in",
    summary="Sign in",
    responses=problem_responses(
        400, errors.PayloadTooLargeError, errors.UnauthorizedError, errors.RateLimitedError
    ),
)
async def sign_in(
    asked: SignIn, request: Request, response: Response, gate: GateDep
) -> SessionView:
    """Shows a key once, for a cookie that stands for it during eight hours, as long as the key is
    let in. Scripts cannot read the cookie, and other sites' pages cannot have it sent.
    """
    if gate.is_open:
        return _view(ANYONE, None)
    await count(request, gate, None)
    session = gate.sessions.begin(gate.keys.find(asked.key))
    response.set_cookie(
        COOKIE,
        gate.sessions.token_of(session),
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return _view(session.key.client, session)


@router.delete(
    "",
    operation_id="sign_out",
    summary="Sign out",
    responses=problem_responses(errors.ForbiddenError),
)
async def sign_out(request: Request, response: Response, gate: GateDep) -> SessionView:
    """Has the browser forget the cookie. One that was copied is good until it expires."""
    if COOKIE in request.cookies:
        check_page(request)
    response.delete_cookie(
        COOKIE, httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )
    return _view(ANYONE, None) if gate.is_open else _NOBODY
