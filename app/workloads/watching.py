"""Watching files for changes, by looking: it works on every system, and on network drives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

WATCH_SECONDS: Final = 0.5
"""Time between two looks at the files."""

Stamp = tuple[int, int, int] | None
"""Time of change, size and inode of a file; None if there is none."""


class FileWatch:
    """Remembers files as they are when it is made, or when they are named later."""

    def __init__(self, files: Callable[[], Iterable[str]]) -> None:
        """`files` returns the files to watch; there may be more each time. Blocks."""
        self._files = files
        self._seen = {file: _stamp(file) for file in files()}

    async def changed(self) -> None:
        """Return when a file has changed, and has then stayed the same between two looks."""
        has_changed = False
        while True:
            is_other = await asyncio.to_thread(self._look)
            if has_changed and not is_other:
                return
            has_changed |= is_other
            await asyncio.sleep(WATCH_SECONDS)

    def _look(self) -> bool:
        """Return True if a file is not as it was at the last look."""
        before = self._seen
        self._seen = {file: _stamp(file) for file in self._files()}
        return any(self._seen.get(file, stamp) != stamp for file, stamp in before.items())


def _stamp(file: str) -> Stamp:
    try:
        status = Path(file).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
