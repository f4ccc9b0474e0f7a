"""Reading request headers: keys, event ids, preferences and media types."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from email.message import Message
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Request
from starlette.exceptions import HTTPException

from hotloop.app.errors import InvalidRequestError
from hotloop.app.http.answers import RESPOND_ASYNC
from hotloop.app.wording import echo

_MAX_LENGTH: Final = 255
_VISIBLE: Final = re.compile(rf"[!-~]{{1,{_MAX_LENGTH}}}")

VISIBLE_ASCII: Final[dict[str, Any]] = {
    "minLength": 1,
    "maxLength": _MAX_LENGTH,
    "pattern": "^[!-~]+$",
}
"""OpenAPI schema of a header that is one word of visible ASCII characters."""

_BLANK: Final = " \t"


def visible_ascii(name: str, lines: list[str]) -> str | None:
    """Return the value of the header `name` from its lines; None without the header.

    Raises InvalidRequestError for more than one line, and for a value other than 1 to 255 visible
    ASCII characters.
    """
    if not lines:
        return None
    if len(lines) > 1:
        raise InvalidRequestError(name, f"is given {len(lines):,} times; give it once")
    if _VISIBLE.fullmatch(lines[0]) is None:
        raise InvalidRequestError(
            name,
            f"must be 1 to {_MAX_LENGTH} visible ASCII characters without blanks "
            f"(got {len(lines[0]):,}: {echo(lines[0])})",
        )
    return lines[0]


# The parameters describe the headers for OpenAPI. The values are read from the request, because
# FastAPI does not say whether a header was given twice.


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
    """Return the idempotency key. Raises InvalidRequestError."""
    return visible_ascii("Idempotency-Key", request.headers.getlist("Idempotency-Key"))


async def get_last_event_id(
    request: Request,
    last_event_id: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            description=(
                "The `id` of the last event that the client received: the stream continues after "
                "it. Browsers send it by themselves when they reconnect."
            ),
            json_schema_extra=VISIBLE_ASCII,
            examples=["12"],
        ),
    ] = None,
) -> str | None:
    """Return the event id. Raises InvalidRequestError. An empty header counts as none, as in
    browsers."""
    lines = request.headers.getlist("Last-Event-ID")
    return None if lines == [""] else visible_ascii("Last-Event-ID", lines)


def prefers_async(lines: Iterable[str]) -> bool:
    """Return True if these lines of the header Prefer (RFC 7240) ask for `respond-async`.

    Other preferences, parameters and malformed parts are ignored: an unknown preference is never an
    error.
    """
    for line in lines:
        for preference in _split(line, ","):
            name, _, value = next(_split(preference, ";")).partition("=")
            if name.strip(_BLANK).lower() == RESPOND_ASYNC:
                # It takes no value, and an empty one counts as none. The first of several counts.
                return value.strip(_BLANK) in ("", '""')
    return False


def _split(text: str, separator: str) -> Iterator[str]:
    """Yield the parts of `text`, at least one. A separator in a quoted string does not count."""
    start = 0
    quoted = escaped = False
    for position, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            yield text[start:position]
            start = position + 1
    yield text[start:]


async def get_prefers_async(
    prefer: Annotated[
        list[str] | None,
        Header(
            alias="Prefer",
            description=(
                "`respond-async` (RFC 7240) makes the run a background task: 202 at once. Other "
                "preferences, `wait` as well, are ignored."
            ),
            examples=[[RESPOND_ASYNC]],
        ),
    ] = None,
) -> bool:
    return prefers_async(prefer or ())


IdempotencyKeyDep = Annotated[str | None, Depends(get_idempotency_key)]
LastEventIdDep = Annotated[str | None, Depends(get_last_event_id)]
PrefersAsyncDep = Annotated[bool, Depends(get_prefers_async)]


def require_content_type(request: Request, supported: Sequence[str], hint: str) -> str:
    """Return the request's media type, without its parameters.

    Raises a 415 that ends in `hint` for a type that is not `supported` and for a charset other
    than UTF-8, and a 415 for a compressed body (RFC 9110, section 8.4).
    """
    coding = request.headers.get("content-encoding", "identity").strip()
    if coding.lower() != "identity":
        text = f"Content-Encoding must not be {coding[:60]}; send the body uncompressed"
        raise HTTPException(415, text, {"Accept-Encoding": "identity"})
    header = request.headers.get("content-type", "")
    if header in supported:
        return header
    message = Message()
    message["content-type"] = header
    media_type = message.get_content_type()
    charset = message.get_content_charset("utf-8")
    choices = " or ".join(supported)
    if not header or media_type not in supported:
        got = f"not {header[:60]}" if header else "and is missing"
        raise HTTPException(415, f"Content-Type must be {choices}, {got}; {hint}")
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise HTTPException(415, f"the body must be in UTF-8, not {charset[:60]}; {hint}")
    return media_type


def best_media_type(accept: str | None, offered: Sequence[str]) -> str | None:
    """Return the offered type that an Accept header prefers; the earlier of equal ones, the first
    without a header, None if the header accepts none.
    """
    if accept is None or not accept.strip():
        return offered[0]
    ranges = [_parse_range(part) for part in accept.split(",")]
    quality = {media_type: _quality(media_type, ranges) for media_type in offered}
    best = max(offered, key=lambda media_type: quality[media_type])
    return best if quality[best] > 0 else None


def _parse_range(text: str) -> tuple[str, float]:
    media_range, *parameters = (part.strip().lower() for part in text.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return media_range, float(value)
            except ValueError:
                return media_range, 0.0
    return media_range, 1.0


def _quality(media_type: str, ranges: Sequence[tuple[str, float]]) -> float:
    # The most specific range that covers the type decides (RFC 9110).
    kind = media_type.partition("/")[0]
    for covering in (media_type, f"{kind}/*", "*/*"):
        for media_range, quality in ranges:
            if media_range == covering:
                return quality
    return 0.0
