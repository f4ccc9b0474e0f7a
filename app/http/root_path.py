"""The path below which the request in hand reached this service: of a proxy, or of an application
that the service is mounted in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_root: ContextVar[str] = ContextVar("hotloop_root_path", default="")


@contextmanager
def below(root_path: str) -> Iterator[None]:
    """Have `link_to` begin with `root_path` within the block, and in what is started there."""
    token = _root.set(root_path)
    try:
        yield
    finally:
        _root.reset(token)


def link_to(path: str) -> str:
    """A path of this service, as the client of the request in hand has to ask for it."""
    return _root.get() + path
