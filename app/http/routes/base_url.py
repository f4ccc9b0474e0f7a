"""The address of this service as a client sees it, for commands in answers."""

from __future__ import annotations

import re
from typing import Final

from fastapi import Request

from hotloop.app.http.root_path import link_to
from hotloop.app.settings.settings import Settings

_ADDRESS: Final = re.compile(
    r"https?://([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?"
)


def base_url_of(request: Request, settings: Settings) -> str:
    """Where the client reached us; where we listen, if it says something strange."""
    address = str(request.url.replace(path="", query="", fragment=""))
    if _ADDRESS.fullmatch(address):
        return address + link_to("")
    return f"http://{settings.host}:{settings.port}"
