"""What a process that runs kernels tells the check: findings as lines of JSON, and a note that
outlives a crash of what it is about to do.
"""

from __future__ import annotations

import json
import mmap
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

__all__ = ["Note", "Reporter"]

_SIZE: Final = 4096
_LIMIT: Final = struct.Struct("=d")
_HEAD: Final = struct.Struct("=ddi")
_TEXT: Final = _LIMIT.size + _HEAD.size
"""Where the words begin."""

_LONGEST: Final = 15
"""How many times its limit of processor time a call may take, on a machine that is busy."""

_IDLE: Final = 0.01
"""Share of a processor below which a call is one that waits."""


class Note:
    """A small file that two processes map: since when the writer has been doing what, how much
    processor time it had used before, and how much more it may use.
    """

    def __init__(self, path: Path, *, is_new: bool) -> None:
        if is_new:
            path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _SIZE)

    @contextmanager
    def doing(self, words: str, limit: float) -> Iterator[None]:
        """Say what the block does, and that it must end within `limit` seconds of processor time,
        and of waiting within some more.
        """
        text = words.encode()[: _SIZE - _TEXT]
        self._map[_TEXT : _TEXT + len(text)] = text
        _HEAD.pack_into(self._map, _LIMIT.size, time.monotonic(), time.process_time(), len(text))
        # The limit comes last, and goes first: what is read beside it is complete.
        _LIMIT.pack_into(self._map, 0, limit)
        try:
            yield
        finally:
            _LIMIT.pack_into(self._map, 0, 0.0)

    def read(self) -> str:
        """Return what is being done; empty if nothing."""
        if not _LIMIT.unpack_from(self._map, 0)[0]:
            return ""
        length = _HEAD.unpack_from(self._map, _LIMIT.size)[2]
        return self._map[_TEXT : _TEXT + length].decode(errors="replace")

    def overdue(self, cpu_seconds: float, waiting_seconds: float) -> float | None:
        """Return since when, on the monotonic clock, the writer has been doing what should long be
        over; None if all is well. It has used so much processor time in all, and it may wait for
        `waiting_seconds`.
        """
        limit: float = _LIMIT.unpack_from(self._map, 0)[0]
        since, before = self._times()
        if not limit or (limit, since) != self._state():
            return None
        elapsed = time.monotonic() - since
        used = cpu_seconds - before
        # What waits uses next to nothing; what computes on a busy machine gets its share.
        waits = elapsed > waiting_seconds and used < _IDLE * elapsed
        return since if used > limit or waits or elapsed > _LONGEST * limit else None

    def _times(self) -> tuple[float, float]:
        since, before, _ = _HEAD.unpack_from(self._map, _LIMIT.size)
        return since, before

    def _state(self) -> tuple[float, float]:
        limit: float = _LIMIT.unpack_from(self._map, 0)[0]
        since: float = _HEAD.unpack_from(self._map, _LIMIT.size)[0]
        return limit, since


class Reporter:
    """Sends messages through a pipe."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def send(self, kind: str, **values: Any) -> None:
        """Send one message; only the main thread does."""
        line = json.dumps({"kind": kind, **values}, allow_nan=False) + "\n"
        self._stream.write(line.encode())
        self._stream.flush()
