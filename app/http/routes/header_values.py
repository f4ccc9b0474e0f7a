"""Headers that carry one short word of the client's."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Request

from hotloop.app.errors import InvalidRequestError
from hotloop.app.wording import echo

_MAX_LENGTH: Final = 255
_VISIBLE: Final = re.compile(rf"[!-~]{{1,{_MAX_LENGTH}}}")

VISIBLE_ASCII: Final[dict[str, Any]] = {
    "minLength": 1,
    "maxLength": _MAX_LENGTH,
    "pattern": "^[!-~]+$",
}
"""The schema of such a word."""


def visible_ascii(name: str, lines: list[str]) -> str | None:
    """The value of the header `name`, given by its lines; None without the header.

    Raises InvalidRequestError when it is not 1 to 255 visible ASCII characters, or is given twice.
    """
    if not lines:
        return None
    if len(lines) > 1:
        raise InvalidRequestError(name, f"is given {len(lines):,} times; give it once")
    if _VISIBLE.fullmatch(lines[0]) is None:
        raise InvalidRequestError(
            name,
            f"must be 1 to {_MAX_LENGTH} visible ASCII characters, no blanks among them "
            f"(got {len(lines[0]):,}: {echo(lines[0])})",
        )
    return lines[0]


# FastAPI describes the headers; they are read from the request, which alone knows whether one was
# given twice.


async def get_idempotency_key(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description=(
                "1 to 255 visible ASCII characters of the client's choice, for a background task: "
                "the same request with the same key is accepted once, and answered with the same "
                "task. A run that is answered at once does not keep it. If a background task has "
                "the key, that task is the answer; another request under it is refused with 422."
            ),
            json_schema_extra=VISIBLE_ASCII,
            examples=["3f0c1a52-8d5e-4a53-9d43-7f6d0a6f2b11"],
        ),
    ] = None,
) -> str | None:
    """Raises InvalidRequestError."""
    return visible_ascii("Idempotency-Key", request.headers.getlist("Idempotency-Key"))


async def get_last_event_id(
    request: Request,
    last_event_id: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            description=(
                "The `id` of the last event that was received: the stream goes on after it. "
                "Browsers send it by themselves when they connect again."
            ),
            json_schema_extra=VISIBLE_ASCII,
            examples=["12"],
        ),
    ] = None,
) -> str | None:
    """Raises InvalidRequestError. An empty one is none, as for browsers."""
    lines = request.headers.getlist("Last-Event-ID")
    return None if lines == [""] else visible_ascii("Last-Event-ID", lines)


IdempotencyKeyDep = Annotated[str | None, Depends(get_idempotency_key)]
LastEventIdDep = Annotated[str | None, Depends(get_last_event_id)]
