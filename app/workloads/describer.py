"""Describing targets by child processes, so that a target that hangs or crashes delays no other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from hotloop.app.workloads.child_client import (
    START_SECONDS,
    Child,
    ChildDiedError,
    end_in_words,
)
from hotloop.app.workloads.declarations import from_json
from hotloop.kernels import Workload
from hotloop.kernels.functions.loading import Target

logger = logging.getLogger(__name__)

IMPORT_SECONDS: Final = 20.0
"""Time that the import of a target may take: some large packages take ten seconds on a slow disk.
"""

PATIENT_SECONDS: Final = 2.0
"""Time after which another child goes on with the targets behind one that takes long."""


@dataclass(frozen=True, slots=True)
class Described:
    """What became of a target: its workloads, or the reason why it has none."""

    workloads: tuple[Workload, ...]
    files: frozenset[str]
    """The user's files that the outcome depends on."""
    reason: str | None = None


StartChild = Callable[[str, Mapping[str, Any]], Awaitable[Child]]
"""Function that starts a child for a mode and an order. Raises OSError."""

Told = Callable[[int, Described], Awaitable[None]]
"""Function that is called with the place of a target and its outcome, as soon as that is known."""


async def describe(targets: Sequence[tuple[int, Target]], start: StartChild, told: Told) -> None:
    """Describe targets, which come with their places, in their order. Raises an exception group if
    a child cannot be started.
    """
    async with asyncio.TaskGroup() as describing:
        describing.create_task(_drive(targets, start, told, describing))


async def _drive(
    pending: Sequence[tuple[int, Target]],
    start: StartChild,
    told: Told,
    describing: asyncio.TaskGroup,
) -> None:
    """Describe targets by one child; the ones behind a target that takes long, or that ends the
    child, are left to another child.
    """
    if not pending:
        return
    child = await start("describe", {"targets": [asdict(target) for _, target in pending]})
    current, is_done, is_alone = -1, False, False

    def go_on_after(position: int) -> None:
        describing.create_task(_drive(pending[position + 1 :], start, told, describing))

    try:
        while True:
            limit = IMPORT_SECONDS - PATIENT_SECONDS if is_alone else PATIENT_SECONDS
            try:
                message = await child.message(START_SECONDS if current < 0 else limit)
            except TimeoutError:
                if current < 0 or is_alone:
                    limit = START_SECONDS if current < 0 else IMPORT_SECONDS
                    raise await child.overdue(limit) from None
                is_alone = True
                go_on_after(current)
                continue
            if is_done and (message is None or is_alone):
                return
            if message is None:
                raise ChildDiedError(end_in_words(0), "")
            if is_begin := "begins" in message:
                current = message["begins"]
            else:
                await told(pending[current][0], _described(message))
            is_done = not is_begin
    except ChildDiedError as error:
        if error.said:
            logger.info("what an import printed last:\n%s", error.said)
        position = max(0, current)
        place, target = pending[position]
        files = frozenset(() if target.file is None else (target.file,))
        await told(place, Described((), files, error.reason))
        if not is_alone:
            go_on_after(position)
    finally:
        await child.close()


def _described(message: Mapping[str, Any]) -> Described:
    files = frozenset(message["files"])
    if "failed" in message:
        return Described((), files, message["failed"])
    try:
        return Described(tuple(map(from_json, message["described"])), files)
    except (TypeError, ValueError, KeyError) as error:
        return Described((), files, f"its declaration cannot be read: {error!r}")
