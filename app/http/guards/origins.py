"""Requests that a browser was tricked into sending are refused.

A page on the internet can have a browser send requests to services on the same machine or network:
under a name of its own that it has resolve to that address (DNS rebinding), or as forms, for which
no permission is asked.
"""

from __future__ import annotations

from collections.abc import Collection

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from hotloop.app.errors import ForbiddenError
from hotloop.app.http.access import SAFE_METHODS
from hotloop.app.http.error_handlers import problem_response
from hotloop.app.settings.rules import host_of, is_loopback
from hotloop.app.settings.settings import Settings
from hotloop.app.wording import echo


class OriginGuard:
    """Answers 403 to a Host that is not ours, and to foreign pages that would change something."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._any_host = settings.needs_authentication and not settings.allowed_hosts
        self._hosts = frozenset(settings.allowed_hosts)
        self._origins = frozenset(settings.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            error = self._fault(scope["method"], Headers(scope=scope), scope["scheme"])
            if error is not None:
                await problem_response(Request(scope), error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _fault(self, method: str, headers: Headers, scheme: str) -> ForbiddenError | None:
        # Whoever sends no Host is no browser.
        for host in headers.getlist("host"):
            if not self._is_our_host(host_of(host)):
                return ForbiddenError(
                    f"the service is not asked by the name {echo(host_of(host))}; HOTLOOP_ALLOWED_"
                    "HOSTS lists the names besides localhost"
                )
        if method not in SAFE_METHODS and is_foreign(headers, scheme, self._origins):
            return ForbiddenError(
                f"pages of {echo(headers.get('origin', 'another site'))} may change nothing here; "
                "HOTLOOP_CORS_ORIGINS lists those that may"
            )
        return None

    def _is_our_host(self, host: str) -> bool:
        if self._any_host or is_loopback(host):
            return True
        parents = (f"*.{host.split('.', cut)[-1]}" for cut in range(1, host.count(".") + 1))
        return host in self._hosts or any(parent in self._hosts for parent in parents)


def is_foreign(headers: Headers, scheme: str, allowed: Collection[str]) -> bool:
    """Whether a page of another origin, and not one of those allowed, had the browser send this."""
    origin = headers.get("origin")
    if origin is not None and origin.lower() in allowed:
        return False
    site = headers.get("sec-fetch-site")
    if site is not None:
        # Browsers set it and pages cannot; right behind a proxy that changes the Host, too.
        return site not in ("same-origin", "none")
    return origin is not None and origin.lower() != f"{scheme}://{headers.get('host', '')}".lower()
