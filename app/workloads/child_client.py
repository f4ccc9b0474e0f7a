"""The API process's client of a child process: its start, its messages, its limits, its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from typing import Any, Final

from hotloop.app.runhost.client import import_path
from hotloop.app.workloads.places import place_of
from hotloop.app.workloads.sandbox import EXIT_LOST

LONGEST_MESSAGE: Final = 4 << 20
"""Bytes of the longest message: a declaration has some kilobytes."""

START_SECONDS: Final = 60.0
"""Time until the first message: a busy machine takes seconds to start a process."""

END_SECONDS: Final = 10.0
"""Time that a child may take to end once it has been told to; then its group is killed."""

_INNERMOST_FIRST: Final = "(most recent call first):\n"
_FRAME: Final = re.compile(r'^  File "(?P<file>[^"]+)", line (?P<line>\d+)', re.MULTILINE)


class ChildDiedError(Exception):
    """The child ended before it had done its work; `reason` says in words why and where."""

    def __init__(self, reason: str, said: str) -> None:
        self.reason = reason
        self.said = said
        """The end of what the user's code has printed, a traceback perhaps."""
        super().__init__(reason, said)

    def __str__(self) -> str:
        return self.reason


class Child:
    """A child process, which `start` makes; leave no way to `close` out."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        transport: asyncio.BaseTransport,
        leash_fd: int,
    ) -> None:
        self._process = process
        self._reader = reader
        self._transport = transport
        self._leash_fd: int | None = leash_fd

    @classmethod
    async def start(
        cls, mode: str, order: Mapping[str, Any], environment: Mapping[str, str], memory_bytes: int
    ) -> Child:
        """Start a child that may use so much memory. Raises OSError."""
        messages, theirs = os.pipe()
        their_leash, leash = os.pipe()
        options = {"messages_fd": theirs, "leash_fd": their_leash, "memory_bytes": memory_bytes}
        text = json.dumps({"mode": mode, "options": options, **order})
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "hotloop.app.workloads.child",
                text,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs, their_leash),
                env={**environment, "PYTHONPATH": import_path(environment)},
            )
        except BaseException:
            os.close(messages)
            os.close(leash)
            raise
        finally:
            os.close(theirs)
            os.close(their_leash)
        reader = asyncio.StreamReader(limit=LONGEST_MESSAGE)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(messages, "rb", 0)
        )
        return cls(process, reader, transport, leash)

    async def message(self, seconds: float) -> dict[str, Any] | None:
        """Return the next message; None if the child has done its work and ended.

        Raises TimeoutError if it sends none for so many seconds, ChildDiedError if it ends early.
        """
        async with asyncio.timeout(seconds):
            found = await self._next()
        if "ended" not in found:
            return found
        if found["ended"] == 0:
            return None
        raise ChildDiedError(end_in_words(found["ended"]) + place_in(found["said"]), found["said"])

    async def overdue(self, seconds: float) -> ChildDiedError:
        """End a child that did not end within its time; return why, and where it was."""
        said = await self._ask_where()
        place = place_in(said)
        was = f"; it was{place}" if place else ""
        return ChildDiedError(f"it did not end within {seconds:g} s{was}", said)

    async def _next(self) -> dict[str, Any]:
        """Return the next message, with `ended` if it is the last one."""
        while True:
            try:
                line = await self._reader.readline()
            except ValueError:
                return {"ended": EXIT_LOST, "said": ""}  # longer than any message
            if not line:
                return {"ended": -signal.SIGKILL, "said": ""}
            with contextlib.suppress(ValueError):
                found = json.loads(line)
                if isinstance(found, dict):
                    return found

    async def _ask_where(self) -> str:
        """End the worker, and return what it printed; at its end a traceback, if it could."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                while "ended" not in (found := await self._next()):
                    pass
                return str(found["said"])
        return ""

    async def close(self) -> None:
        """End the child and all that it has started; return when they are gone."""
        if self._leash_fd is not None:
            os.close(self._leash_fd)
            self._leash_fd = None
        ending = asyncio.ensure_future(self._end())
        try:
            await asyncio.shield(ending)
        finally:
            self._transport.close()

    async def _end(self) -> None:
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()


def end_in_words(code: int) -> str:
    """Return the end of a worker in words; `code` is as in subprocess.Popen.returncode."""
    if code == EXIT_LOST:
        return "it closed the descriptors of its process"
    if code >= 0:
        return f"it ended its process with status {code}"
    with contextlib.suppress(ValueError):
        return f"it crashed its process with {signal.Signals(-code).name}"
    return f"it crashed its process with signal {-code}"


def place_in(said: str) -> str:
    """Return ` at FILE:LINE`, the innermost place in the user's code of the last traceback that
    faulthandler has written; empty without one.
    """
    _, current, after = said.rpartition("Current thread ")
    _, found, trace = (after if current else said).rpartition(_INNERMOST_FIRST)
    frames = _FRAME.finditer(trace.partition("\n\n")[0] if found else "")
    return place_of((frame["file"], frame["line"]) for frame in frames)
