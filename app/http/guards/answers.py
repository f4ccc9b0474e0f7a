"""Changes to answers: security headers on each, and HEAD without a body."""

from __future__ import annotations

import base64
import hashlib
from html.parser import HTMLParser
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hotloop.app.http.access import ANSWER_HEADERS
from hotloop.app.http.answers import path_of

NOTHING: Final = "default-src 'none'; frame-ancestors 'none'"
"""The policy of answers that are not pages. A browser that shows such an answer as a page loads
and runs nothing from it."""

EVERYWHERE: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": NOTHING,
}

OWN_FILES: Final = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
"""The policy of pages that do not set one themselves."""

DOCUMENTATION: Final = ("/docs", "/redoc")
"""Pages that FastAPI writes. Their scripts are allowed by hash."""


class AnswerHeaders:
    """Adds the headers that every answer has, answers to errors included. A header that the
    answer already has stays as it is.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_documentation = path_of(scope) in DOCUMENTATION
        state = scope.setdefault("state", {})
        held: Message | None = None

        async def complete(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                is_page = headers.get("content-type", "").startswith("text/html")
                _complete(headers, is_page)
                headers.update(state.get(ANSWER_HEADERS, {}))
                if is_documentation and is_page:
                    held = message  # until the body, and so its scripts, are known
                    return
            elif held is not None:
                start, held = held, None
                policy = documentation_policy(message.get("body", b""))
                MutableHeaders(raw=start["headers"])["Content-Security-Policy"] = policy
                await send(start)
            await send(message)

        await self.app(scope, receive, complete)


class HeadAsGet:
    """Answers HEAD like GET, without the body, on every route that answers GET.

    Once the headers are known, the application is told that the client has left, so that it does
    not make the body.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        answered = False

        async def received() -> Message:
            return {"type": "http.disconnect"} if answered else await receive()

        async def without_body(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self.app({**scope, "method": "GET"}, received, without_body)


def _complete(headers: MutableHeaders, is_page: bool) -> None:
    if is_page:
        headers.setdefault("Content-Security-Policy", OWN_FILES)
    for name, value in EVERYWHERE.items():
        headers.setdefault(name, value)
    if "last-modified" not in headers:  # only files have it, and they may be kept
        headers.setdefault("Cache-Control", "no-store")


def plain_headers(media_type: str, length: int) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer that is no page and not to be kept, for ASGI."""
    return [
        (b"content-type", media_type.encode()),
        (b"content-length", b"%d" % length),
        *_PLAIN,
    ]


_PLAIN: Final = [
    (name.lower().encode(), value.encode())
    for name, value in {**EVERYWHERE, "Cache-Control": "no-store"}.items()
]


def documentation_policy(page: bytes) -> str:
    """Return the policy of a page of the interactive documentation.

    The page may load its bundled files and run its own inline scripts, which are named by their
    hashes, so that an injected script does not run. Inline styles are allowed because scripts
    insert them, and a worker from a blob because ReDoc searches in one.
    """
    finder = _InlineScripts()
    finder.feed(page.decode())
    finder.close()
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in finder.scripts
    ]
    return (
        f"default-src 'none'; script-src 'self' {' '.join(hashes)}; style-src 'self' "
        "'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; connect-src 'self'; "
        "worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class _InlineScripts(HTMLParser):
    """Collects the text of each script element that has no `src`."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self._is_inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_inside = tag == "script" and "src" not in dict(attrs)
        if self._is_inside:
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self._is_inside:
            self.scripts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._is_inside = False
