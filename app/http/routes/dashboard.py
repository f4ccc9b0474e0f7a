"""The dashboard: a page and its files, which ask nothing of any other server."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from hotloop.app.http.routes.media_types import HTML

router = APIRouter(prefix="/dashboard", include_in_schema=False)

FOLDER: Final = Path(__file__).resolve().parents[2] / "web"

_PAGE: Final = "dashboard.html"
_MEDIA_TYPES: Final = {
    ".html": HTML,
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # Kept by browsers, and asked for by its ETag each time: a new version is seen at once.
        "Cache-Control": "no-cache",
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
            "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
)
"""Of the page and each of its files: no code but its own, no server but this one."""


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    etag: str


def _read(path: Path) -> _File:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    return _File(content, _MEDIA_TYPES[path.suffix], f'"{digest}"')


# Read once, when the service starts: no request waits for the disk.
_FILES: Final = MappingProxyType(
    {path.name: _read(path) for path in sorted(FOLDER.iterdir()) if path.suffix in _MEDIA_TYPES}
)


@router.get("")
async def get_dashboard(request: Request) -> Response:
    """The page."""
    return _answer(request, _FILES[_PAGE])


@router.get("/{name}")
async def get_dashboard_file(request: Request, name: str) -> Response:
    """A file of the page; 404 for what is none."""
    if name not in _FILES or name == _PAGE:
        raise HTTPException(404)
    return _answer(request, _FILES[name])


def _answer(request: Request, file: _File) -> Response:
    headers = {**HEADERS, "ETag": file.etag}
    known = {tag.strip().removeprefix("W/") for tag in _if_none_match(request).split(",")}
    if file.etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)


def _if_none_match(request: Request) -> str:
    return ",".join(request.headers.getlist("If-None-Match"))
