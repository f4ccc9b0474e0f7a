"""Pages for browsers: the dashboard and the interactive documentation.

They load files of this service only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from hotloop.app.http.answers import HTML

router = APIRouter(include_in_schema=False)

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
        # Browsers keep the file, but ask by its ETag each time, so that they see a new version.
        "Cache-Control": "no-cache",
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
            "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
)
"""Headers of the dashboard's files: browsers run only their code and contact only this server."""

STATIC_FILES: Final = "/static-offline-docs"
"""The path below which FastAPIOffline serves the files of the documentation."""

_ICON: Final = "/dashboard/icon.svg"
_LOGO: Final = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
_NO_IMAGE: Final = b"data:,"
"""An empty image. ReDoc leaves out a logo that cannot be shown."""

_FOLLOW_THEME: Final = b"""<script>{
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.onchange = follow;
follow();
}</script>
"""
"""A script that chooses Swagger UI's dark theme for readers who prefer a dark one."""

_KEPT_A_DAY: Final = {"Cache-Control": "max-age=86400"}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    etag: str


def _read(path: Path) -> _File:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    return _File(content, _MEDIA_TYPES[path.suffix], f'"{digest}"')


# Read when the service starts, so that no request waits for the disk.
_FILES: Final = MappingProxyType(
    {path.name: _read(path) for path in sorted(FOLDER.iterdir()) if path.suffix in _MEDIA_TYPES}
)


@router.get("/dashboard")
async def get_dashboard(request: Request) -> Response:
    """Return the dashboard."""
    return _answer(request, _FILES[_PAGE])


@router.get("/dashboard/{name}")
async def get_dashboard_file(request: Request, name: str) -> Response:
    """Return a file that the dashboard loads; 404 for any other name."""
    if name not in _FILES or name == _PAGE:
        raise HTTPException(404)
    return _answer(request, _FILES[name])


def _answer(request: Request, file: _File) -> Response:
    headers = {**HEADERS, "ETag": file.etag}
    tags = ",".join(request.headers.getlist("If-None-Match")).split(",")
    known = {tag.strip().removeprefix("W/") for tag in tags}
    if file.etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)


@router.get("/docs")
async def get_docs(request: Request) -> HTMLResponse:
    """Return Swagger UI, the page on which requests can be tried out."""
    root = request.scope.get("root_path", "")
    page = get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title="Hotloop API",
        swagger_js_url=f"{root}{STATIC_FILES}/swagger-ui-bundle.js",
        swagger_css_url=f"{root}{STATIC_FILES}/swagger-ui.css",
        swagger_favicon_url=f"{root}{_ICON}",
        # Keeps the page from asking a server on the internet to check the description.
        swagger_ui_parameters={"validatorUrl": None},
    )
    return HTMLResponse(bytes(page.body).replace(b"</head>", _FOLLOW_THEME + b"</head>"))


@router.get("/redoc")
async def get_reference(request: Request) -> HTMLResponse:
    """Return ReDoc, the reference page."""
    root = request.scope.get("root_path", "")
    return get_redoc_html(
        openapi_url=f"{root}/openapi.json",
        title="Hotloop reference",
        redoc_js_url=f"{root}/redoc/redoc.standalone.js",
        redoc_favicon_url=f"{root}{_ICON}",
        with_google_fonts=False,
    )


@router.get("/redoc/redoc.standalone.js")
def get_bundle() -> Response:
    """Return ReDoc's script, changed so that it loads no logo from a server on the internet."""
    return Response(_bundle(), headers=_KEPT_A_DAY, media_type="text/javascript")


@cache
def _bundle() -> bytes:
    bundle = files("fastapi_offline") / "static" / "redoc.standalone.js"
    return bundle.read_bytes().replace(_LOGO, _NO_IMAGE)
