"""The origin of work: the request and the task that a process works for.

Context variables do not leave their process, so an Origin is sent with a plan, a command or a task,
and the process that receives it binds it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Final

TRACE_PARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context, version 00: trace, span, flags."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The request, task and trace that work belongs to: small, picklable, without secrets."""

    request_id: str | None = None
    task_id: str | None = None
    traceparent: str | None = None
    """W3C Trace Context of the span that the work belongs to."""

    @property
    def trace_id(self) -> str | None:
        return None if self.traceparent is None else self.traceparent.split("-")[1]


NOWHERE: Final = Origin()
"""Origin of work that no request asked for."""

_bound: ContextVar[Origin] = ContextVar("hotloop_origin", default=NOWHERE)


def current() -> Origin:
    """The origin of the work in hand; NOWHERE if none is bound."""
    return _bound.get()


def bind(origin: Origin) -> None:
    """Bind an origin until the end of this asyncio task."""
    _bound.set(origin)


def bind_task(task_id: str) -> None:
    """Bind the origin with another task, until the end of this asyncio task."""
    _bound.set(replace(_bound.get(), task_id=task_id))


@contextmanager
def bound(origin: Origin) -> Iterator[None]:
    """Bind an origin in a context, which must not contain a yield of an asynchronous generator."""
    token = _bound.set(origin)
    try:
        yield
    finally:
        _bound.reset(token)


def origin_to_json(origin: Origin) -> dict[str, str]:
    """The part of an origin that is stored with a task, as any process may execute it later."""
    kept = {"request_id": origin.request_id, "traceparent": origin.traceparent}
    return {name: value for name, value in kept.items() if value is not None}


def origin_from_json(kept: Mapping[str, object], task_id: str) -> Origin:
    """The origin of a task's work; stored values of a wrong form are left out."""
    request_id, traceparent = kept.get("request_id"), kept.get("traceparent")
    is_parent = isinstance(traceparent, str) and TRACE_PARENT.fullmatch(traceparent)
    return Origin(
        request_id=request_id if isinstance(request_id, str) else None,
        task_id=task_id,
        traceparent=str(traceparent) if is_parent else None,
    )
