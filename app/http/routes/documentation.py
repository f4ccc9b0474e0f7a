"""The interactive documentation, `GET /docs` and `GET /redoc`, from files of this service alone."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

FILES: Final = "/static-offline-docs"
"""The path below which FastAPIOffline serves the files of both pages."""

_ICON: Final = "/dashboard/icon.svg"
_LOGO: Final = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
_NO_IMAGE: Final = b"data:,"
"""ReDoc leaves out its logo when the image cannot be shown."""

_FOLLOW_THEME: Final = b"""<script>{
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.onchange = follow;
follow();
}</script>
"""
"""Chooses Swagger UI's dark theme where the reader prefers one."""

_KEPT_A_DAY: Final = {"Cache-Control": "max-age=86400"}


@router.get("/docs")
async def get_docs(request: Request) -> HTMLResponse:
    """The page on which requests can be tried out."""
    root = request.scope.get("root_path", "")
    page = get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title="Hotloop API",
        swagger_js_url=f"{root}{FILES}/swagger-ui-bundle.js",
        swagger_css_url=f"{root}{FILES}/swagger-ui.css",
        swagger_favicon_url=f"{root}{_ICON}",
        # Otherwise the page asks a server on the internet to check the description.
        swagger_ui_parameters={"validatorUrl": None},
    )
    return HTMLResponse(bytes(page.body).replace(b"</head>", _FOLLOW_THEME + b"</head>"))


@router.get("/redoc")
async def get_reference(request: Request) -> HTMLResponse:
    """The page to read in."""
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
    """ReDoc's script, without the logo that it would load from a server on the internet."""
    return Response(_bundle(), headers=_KEPT_A_DAY, media_type="text/javascript")


@cache
def _bundle() -> bytes:
    bundle = files("fastapi_offline") / "static" / "redoc.standalone.js"
    return bundle.read_bytes().replace(_LOGO, _NO_IMAGE)
