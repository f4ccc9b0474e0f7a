"""The reference in ReDoc's form: `GET /redoc`, from files of this service alone."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_redoc_html
from fastapi.responses import HTMLResponse

router = APIRouter(prefix="/redoc", include_in_schema=False)

_LOGO: Final = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
_NO_IMAGE: Final = b"data:,"
"""ReDoc leaves out its logo when the image cannot be shown."""

_KEPT_A_DAY: Final = {"Cache-Control": "max-age=86400"}


@router.get("")
async def get_reference(request: Request) -> HTMLResponse:
    """The page."""
    root = request.scope.get("root_path", "")
    return get_redoc_html(
        openapi_url=f"{root}/openapi.json",
        title="Hotloop - ReDoc",
        redoc_js_url=f"{root}/redoc/redoc.standalone.js",
        redoc_favicon_url=f"{root}/dashboard/icon.svg",
        with_google_fonts=False,
    )


@router.get("/redoc.standalone.js")
def get_bundle() -> Response:
    """ReDoc's script, without the logo that it would load from a server on the internet."""
    return Response(_bundle(), headers=_KEPT_A_DAY, media_type="text/javascript")


@cache
def _bundle() -> bytes:
    bundle = files("fastapi_offline") / "static" / "redoc.standalone.js"
    return bundle.read_bytes().replace(_LOGO, _NO_IMAGE)
