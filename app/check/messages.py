"""What a process that runs kernels tells the check: findings as lines of JSON, and a note that
outlives a crash of what it is about to do.
"""

from __future__ import annotations

import json
import math
import mmap
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

__all__ = ["Note", "Reporter", "example_of", "plain_value"]

_SIZE: Final = 4096
_HEAD: Final = struct.Struct("=dddi")
_WAITING: Final = 3
"""How many times its limit of processor time a call may take, on a machine that is busy."""

_SHOWN: Final = 8
"""Values of a vector that an example shows at each end."""


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
        text = words.encode()[: _SIZE - _HEAD.size]
        self._map[_HEAD.size : _HEAD.size + len(text)] = text
        _HEAD.pack_into(self._map, 0, time.monotonic(), time.process_time(), limit, len(text))
        try:
            yield
        finally:
            _HEAD.pack_into(self._map, 0, 0.0, 0.0, 0.0, 0)

    def read(self) -> str:
        """Return what is being done; empty if nothing."""
        length = _HEAD.unpack_from(self._map, 0)[3]
        return self._map[_HEAD.size : _HEAD.size + length].decode(errors="replace")

    def overdue(self, cpu_seconds: float) -> float | None:
        """Return for how many seconds the writer, which has used so much processor time, has been
        doing what should long be over; None if all is well.
        """
        since, before, limit, _ = _HEAD.unpack_from(self._map, 0)
        elapsed: float = time.monotonic() - since
        is_over = limit and (cpu_seconds - before > limit or elapsed > _WAITING * limit)
        return elapsed if is_over else None


class Reporter:
    """Sends messages through a pipe."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def send(self, kind: str, **values: Any) -> None:
        """Send one message; only the main thread does."""
        line = json.dumps({"kind": kind, **values}, allow_nan=False) + "\n"
        self._stream.write(line.encode())
        self._stream.flush()


def plain_value(value: Any) -> Any:
    """Return a number, text or array as JSON has it; infinities and NaN are texts, and of a long
    vector only both ends are shown.
    """
    if isinstance(value, np.ndarray | memoryview):
        flat = np.asarray(value).reshape(-1).tolist()
        if len(flat) > 2 * _SHOWN:
            return [*map(plain_value, flat[:_SHOWN]), "…", *map(plain_value, flat[-_SHOWN:])]
        return [plain_value(each) for each in flat]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def example_of(
    columns: Mapping[str, Any] | None, row: int, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the item at a position of a batch, and the parameters, for a finding."""
    item = {} if columns is None else {name: plain_value(v[row]) for name, v in columns.items()}
    return {"columns": item, "parameters": {k: plain_value(v) for k, v in parameters.items()}}
