"""What no answer may be, whatever was asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from tests.fixtures.server import ROOT, Server

_CODE: Final = re.compile(r'Traceback|File "|line \d+, in |\.py\b|site-packages')


@dataclass(frozen=True, slots=True)
class ForbiddenWords:
    """Words that only the service knows, and that no client may read."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, server: Server, *secrets: str) -> Self:
        return cls((*secrets, str(server.data_dir), str(server.data_dir.parent), str(ROOT)))


@dataclass(frozen=True, slots=True)
class AnswerFaults:
    """`server_error` and `leaks` in words."""

    server_error: tuple[str, ...]
    leaks: tuple[str, ...]


def answer_faults(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    documented: Mapping[str, Any],
    forbidden: ForbiddenWords,
) -> AnswerFaults:
    """`headers` have lower-case names; `documented` are the answers in the OpenAPI description."""
    text = body.decode(errors="replace")
    errors = []
    is_excused = status == 503 and "retry-after" in headers and "503" in documented
    if status >= 500 and not is_excused:
        errors.append(f"{status} {text[:400]}")
    everything = text + "".join(f"\n{name}: {value}" for name, value in headers.items())
    leaks = [f"{status} tells {word!r}" for word in forbidden.words if word in everything]
    if status >= 400 and (found := _CODE.search(text)):
        leaks.append(f"{status} tells {found[0]!r}: {text[:400]}")
    return AnswerFaults(tuple(errors), tuple(leaks))
