"""Micro-batches: calls of different clients that wait at the same time share a kernel call.

    calls ──> a line for each kind ──> the next batch ──> the run host ──> an answer for each call
                     ^                                        │
                     └── what comes while a batch is away goes with a later one; no timer

A kind is a kernel with its parameters. The calls have a run host of their own, so that they never
wait for runs. The first call starts it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from hotloop.app.errors import (
    CallTimeoutError,
    NotReadyError,
    RunHostDiedError,
    ServiceError,
    TooBusyError,
    internal_text,
)
from hotloop.app.runhost.client import RunHostClient
from hotloop.app.runhost.host_pool import RunHostPool
from hotloop.app.runhost.messages import CallCommand, Called
from hotloop.app.sources.base import Columns, ItemError
from hotloop.app.strategies.base import Plan

logger = logging.getLogger(__name__)

MOST_SECONDS: Final = 0.005
"""Predicted seconds of the longest call, and of a micro-batch of several."""

MOST_ITEMS: Final = 4_096
"""Items of the largest call, and of a micro-batch of several."""

MOST_WAITING: Final = 1_000
"""Calls that wait or are computed at once; further ones are refused."""

LIMIT_SECONDS: Final = 5.0
"""Seconds after which a kernel call that was predicted to take MOST_SECONDS is given up."""

FIRST_LIMIT_SECONDS: Final = 120.0
"""The same for the first call of a kind in a run host, which may import and compile the kernel."""

MOST_NUMBERS: Final = 1_000
"""Kinds whose plans a run host keeps."""

_RETRY_SECONDS: Final = 1


@dataclass(frozen=True, slots=True, eq=False)
class CallKind:
    """A kernel with its parameters: calls of one kind may share a kernel call."""

    plan: Plan
    """The plan that the run host gets; its items are those of the calls."""
    call_seconds: float
    """Predicted seconds of a kernel call without items."""
    item_seconds: float
    """Predicted seconds of each item."""

    def seconds(self, count: int) -> float:
        """Return the predicted seconds of a call with `count` items."""
        return self.call_seconds + count * self.item_seconds


@dataclass(frozen=True, slots=True)
class Computed:
    """The outcome of a call."""

    columns: Columns
    """The output columns; the rows of failed items mean nothing."""
    failed: Mapping[int, ItemError]
    """The items that failed, by position."""
    checksum: int
    seconds: float
    """Seconds of the kernel call, in which other calls may have had a part."""

    @property
    def errors(self) -> tuple[ItemError, ...]:
        """Why items failed, in the order of the items."""
        return tuple(self.failed[position] for position in sorted(self.failed))

    def is_failed(self, count: int) -> npt.NDArray[np.bool_]:
        """Return True for each of the call's `count` items that failed; shape (count,)."""
        found = np.zeros(count, dtype=np.bool_)
        found[list(self.failed)] = True
        return found


class _Call:
    """A call that waits for its answer."""

    __slots__ = ("alone", "answer", "columns", "item_ids", "kind")

    def __init__(self, kind: CallKind, item_ids: npt.NDArray[np.int64], columns: Columns) -> None:
        self.kind = kind
        self.item_ids = item_ids
        self.columns = columns
        self.answer: asyncio.Future[Computed] = asyncio.get_running_loop().create_future()
        self.alone = False
        """True once a run host has died with it: it shares no kernel call any more."""

    @property
    def count(self) -> int:
        return len(self.item_ids)

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class MicroBatches:
    """Computes calls on the run hosts of `hosts`, which this starts and closes."""

    def __init__(self, hosts: RunHostPool, computed: Callable[[], None] = lambda: None) -> None:
        """`computed` is called after each kernel call."""
        self._hosts = hosts
        self._computed = computed
        self._lines: dict[CallKind, deque[_Call]] = {}
        """The waiting calls by kind; the first kind is next."""
        self._count = 0
        """Calls that wait or are being computed."""
        self._is_closed = False
        self._more = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        self._numbers: tuple[RunHostClient, dict[CallKind, int]] | None = None
        """The run host that computed last, and its numbers of the kinds that it has computed."""

    async def compute(
        self,
        kind: CallKind,
        item_ids: npt.NDArray[np.int64],
        columns: Columns,
        *,
        patient: bool = False,
    ) -> Computed:
        """Compute the items of a call. `columns` are as the workload declares them. A `patient`
        call waits, however many others do.

        Raises TooBusyError, NotReadyError, CallTimeoutError, RunHostDiedError, OutOfMemoryError,
        WorkloadUnusableError. A call shares no such error with others: each is tried once more,
        alone.
        """
        if self._is_closed:
            raise _stopping()
        if self._count >= MOST_WAITING and not patient:
            text = f"{self._count:,} calls wait already; try again later"
            raise TooBusyError(text, _RETRY_SECONDS)
        if self._serving is None:
            self._hosts.start()
            self._serving = asyncio.create_task(self._serve())
        call = _Call(kind, item_ids, columns)
        self._lines.setdefault(kind, deque()).append(call)
        self._more.set()
        self._count += 1
        try:
            return await call.answer
        finally:
            self._count -= 1

    async def close(self) -> None:
        """Give up the calls that wait, and end the run host."""
        self._is_closed = True
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
        self._fail_all(_stopping())
        await self._hosts.close()

    def _fail_all(self, error: Exception) -> None:
        for line in self._lines.values():
            for call in line:
                call.fail(error)
        self._lines.clear()

    async def _serve(self) -> None:
        while True:
            await self._more.wait()
            try:
                async with self._hosts.lease() as client:
                    while client.alive and (calls := self._next()):
                        await self._compute(client, calls)
            except NotReadyError as error:
                self._fail_all(error)
            except Exception as fault:
                logger.exception("calls met a fault")
                self._fail_all(ServiceError(internal_text(fault)))
            if not self._lines:
                self._more.clear()

    def _next(self) -> list[_Call]:
        """Take the calls of the next micro-batch; none if none waits. Kinds take turns."""
        while self._lines:
            kind, line = next(iter(self._lines.items()))
            del self._lines[kind]
            calls: list[_Call] = []
            items = 0
            while line:
                if line[0].answer.done():  # its client has left
                    line.popleft()
                    continue
                items += line[0].count
                alone = line[0].alone or (bool(calls) and calls[0].alone)
                if calls and (alone or items > MOST_ITEMS or kind.seconds(items) > MOST_SECONDS):
                    break
                calls.append(line.popleft())
            if line:
                self._lines[kind] = line
            if calls:
                return calls
        return []

    async def _compute(self, client: RunHostClient, calls: Sequence[_Call]) -> None:
        kind, numbers = calls[0].kind, self._numbers_of(client)
        number = numbers.get(kind)
        is_known = number is not None
        if number is None:
            number = len(numbers)
        command = CallCommand(number, None if is_known else kind.plan, *_joined(calls))
        limit = LIMIT_SECONDS if is_known else FIRST_LIMIT_SECONDS
        try:
            async with asyncio.timeout(limit):
                called = await client.call(command)
        except TimeoutError:
            self._again(calls, CallTimeoutError(limit), tries=1)
        except RunHostDiedError as error:
            self._again(calls, error, tries=2)
        except BaseException:
            self._lines.setdefault(kind, deque()).extendleft(reversed(calls))
            raise
        else:
            self._computed()
            numbers[kind] = number
            if called.error is not None:
                self._again(calls, called.error, tries=1)
            else:
                _answer(calls, called)

    def _again(self, calls: Sequence[_Call], error: ServiceError, tries: int) -> None:
        """Compute each of these calls once more, by itself. A call that was alone fails: at once
        with `tries` 1, and if it was tried once more already.
        """
        if len(calls) == 1 and (calls[0].alone or tries == 1):
            calls[0].fail(error)
            return
        for call in calls:
            call.alone = True
        self._lines.setdefault(calls[0].kind, deque()).extendleft(reversed(calls))

    def _numbers_of(self, client: RunHostClient) -> dict[CallKind, int]:
        if self._numbers is None or self._numbers[0] is not client:
            self._numbers = client, {}
        numbers = self._numbers[1]
        if len(numbers) >= MOST_NUMBERS:
            numbers.clear()  # and the run host gets other plans under these numbers
        return numbers


def _stopping() -> NotReadyError:
    return NotReadyError("the service stops; ask again when it is back", 1)


def _joined(
    calls: Sequence[_Call],
) -> tuple[npt.NDArray[np.int64], Columns, tuple[int, ...]]:
    """Return the items of the calls one after another, and their numbers of items."""
    first = calls[0]
    if len(calls) == 1:
        return first.item_ids, first.columns, (first.count,)
    return (
        np.concatenate([call.item_ids for call in calls]),
        {name: np.concatenate([call.columns[name] for call in calls]) for name in first.columns},
        tuple(call.count for call in calls),
    )


def _answer(calls: Sequence[_Call], called: Called) -> None:
    start = 0
    for call, checksum in zip(calls, called.checksums, strict=True):
        end = start + call.count
        if not call.answer.done():
            columns = {name: column[start:end] for name, column in called.columns.items()}
            failed = {p - start: e for p, e in called.failed.items() if start <= p < end}
            call.answer.set_result(Computed(columns, failed, checksum, called.seconds))
        start = end
