"""Media types of requests and answers."""

from __future__ import annotations

from collections.abc import Sequence
from email.message import Message

from fastapi import Request
from starlette.exceptions import HTTPException

ARROW = "application/vnd.apache.arrow.stream"
CSV = "text/csv"
HTML = "text/html"
JSON = "application/json"
NDJSON = "application/x-ndjson"


def require_content_type(request: Request, supported: Sequence[str], hint: str) -> str:
    """The request's media type, without its parameters.

    Raises a 415 that ends in `hint` when it is none of `supported`, or is not in UTF-8; and one
    for a body that is compressed, which nothing here would unpack (RFC 9110, section 8.4).
    """
    coding = request.headers.get("content-encoding", "identity").strip()
    if coding.lower() != "identity":
        text = f"Content-Encoding must not be {coding[:60]}: bodies are taken as they are"
        raise HTTPException(415, text, {"Accept-Encoding": "identity"})
    header = request.headers.get("content-type", "")
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
    """The offered type that an Accept header likes best, the earlier one of equals.

    None when it accepts none of them; without a header, the first.
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
    # The most specific range that covers the type decides, as RFC 9110 has it.
    kind = media_type.partition("/")[0]
    for covering in (media_type, f"{kind}/*", "*/*"):
        for media_range, quality in ranges:
            if media_range == covering:
                return quality
    return 0.0
