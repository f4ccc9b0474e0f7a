"""The header Prefer (RFC 7240): does the client ask for a background task?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final

from fastapi import Depends, Header

RESPOND_ASYNC: Final = "respond-async"

VARY_HEADER: Final[dict[str, Any]] = {
    "Vary": {
        "description": "The answer depends on the header Prefer.",
        "schema": {"type": "string", "const": "Prefer"},
    }
}
"""Of answers that would have been others with another Prefer, for OpenAPI."""

_BLANK: Final = " \t"


def prefers_async(lines: Iterable[str]) -> bool:
    """Whether these lines of the header Prefer ask for `respond-async`.

    Whatever else they ask for is left aside, parameters and what is not well-formed, too: a
    preference that is not understood is never an error.
    """
    for line in lines:
        for preference in _split(line, ","):
            name, _, value = next(_split(preference, ";")).partition("=")
            if name.strip(_BLANK).lower() == RESPOND_ASYNC:
                # It has no value, an empty one is none; of several preferences the first counts.
                return value.strip(_BLANK) in ("", '""')
    return False


def _split(text: str, separator: str) -> Iterator[str]:
    """The parts of `text`, at least one; a separator in a quoted string is none."""
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


PrefersAsyncDep = Annotated[bool, Depends(get_prefers_async)]
