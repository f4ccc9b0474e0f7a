"""The run hosts of a service: kept warm, leased for one run at a time, replaced when they die."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Generator, Mapping
from dataclasses import dataclass
from typing import Final

from hotloop.app.errors import NotReadyError, RunHostDiedError, TooBusyError, internal_text
from hotloop.app.runhost.client import RunHostClient
from hotloop.app.runhost.config import RunHostConfig
from hotloop.app.runhost.fair_queue import FairQueue
from hotloop.app.runhost.messages import KernelReport, Ready

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0
"""Longest pause between attempts to start a run host; it doubles with each attempt."""

BUSY_RETRY_SECONDS: Final = range(5, 16)
"""Values of Retry-After; a random one is chosen, so that clients that were refused together do not
retry together."""

START_SECONDS: Final = 15.0
"""Time that a caller waits for the first run host after the start of the service, which usually
takes two seconds, before it is refused."""

PATIENT_SECONDS: Final = 10.0
"""Time that a patient caller waits while this process has no run host at all. Replacing one takes
less; after it, another process may have one."""


@dataclass(frozen=True, slots=True)
class HostPoolOptions:
    """Options of a RunHostPool: it has `count` run hosts, and at most `queue_limit` runs wait."""

    count: int
    queue_limit: int
    cancel_grace_seconds: float
    environment: Mapping[str, str]


class RunHostPool:
    """Leases run hosts: `start` it, `lease` any number of times, and `close` it."""

    def __init__(self, config: RunHostConfig, options: HostPoolOptions) -> None:
        self.last_ready: Ready | None = None
        """The report of the run host that started last; None before the first one is warm."""
        self.last_failure: str | None = None
        """The reason why a run host did not start; None once one has started since."""
        self._config = config
        self._options = options
        self._idle: deque[RunHostClient] = deque()
        self._clients: set[RunHostClient] = set()
        self._line: FairQueue[asyncio.Future[RunHostClient]] = FairQueue()
        """Callers that found no idle run host."""
        self._waiting: Counter[str | None] = Counter()
        """The number of callers in the line by owner, without patient ones."""
        self._retired: set[RunHostClient] = set()
        """Run hosts that end as soon as they are free."""
        self._turns: dict[asyncio.Future[RunHostClient], bool] = {}
        """Callers in the line, and whether they are patient."""
        self._missing_since = time.monotonic()
        """The time since which there has been no run host, if there is none now."""
        self.changed = asyncio.Event()
        """Set when a run host has started or ended; one task waits for it and clears it."""
        self.deaths = 0
        """Number of run hosts that started and ended; each was replaced."""
        self.leases = 0
        """Number of leases so far."""
        self.busy_count = 0
        """Number of run hosts that are leased now."""
        self._settled = asyncio.Event()
        """Set when the first run host has started, or failed to."""
        self._keeping: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to start the run hosts, and return at once; `alive_count` grows as they start."""
        self._keeping = [asyncio.create_task(self._keep()) for _ in range(self._options.count)]

    @property
    def alive_count(self) -> int:
        # A copy, because metrics read this from their own thread.
        return sum(client.alive for client in list(self._clients))

    @property
    def waiting_count(self) -> int:
        """Number of callers that wait for a run host, without patient ones."""
        return self._waiting.total()

    def states(self) -> dict[str, int]:
        """Count the run hosts by state: `busy`, `idle`, or `missing` while they start."""
        alive = self.alive_count
        busy = min(self.busy_count, alive)
        missing = max(0, self._options.count - alive)
        return {"busy": busy, "idle": alive - busy, "missing": missing}

    @property
    def is_idle(self) -> bool:
        """True if a run host is warm, none is leased, and nobody waits for one."""
        return not self.busy_count and not self._turns and self.alive_count > 0

    async def kernels(self) -> tuple[KernelReport, ...]:
        """Return the kernels reported by the run host that started last; wait for the first.

        Raises NotReadyError if no run host starts.
        """
        if self.last_ready is None and self.last_failure is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._settled.wait(), START_SECONDS)
        if self.last_ready is None:
            raise self._not_ready()
        return self.last_ready.kernels

    def _not_ready(self) -> NotReadyError:
        reason = f" ({self.last_failure})" if self.last_failure else ""
        return NotReadyError(f"no run host is ready{reason}; GET /health/ready tells when", 1)

    async def _keep(self) -> None:
        """Keep a run host alive: start it, and start another when it has ended."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                client = await RunHostClient.start(
                    self._config, self._options.environment, self._options.cancel_grace_seconds
                )
            except Exception as error:
                known = isinstance(error, OSError | RunHostDiedError)
                self.last_failure = str(error) if known else internal_text(error)
                self._settled.set()
                logger.error(
                    "a run host did not start, again in %g s: %s",
                    pause,
                    self.last_failure,
                    exc_info=None if known else error,
                )
                self._refuse()
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                continue
            pause = FIRST_PAUSE_SECONDS
            self.last_ready, self.last_failure = client.ready, None
            self._settled.set()
            self._clients.add(client)
            self.changed.set()
            self._offer(client)
            try:
                code = await asyncio.shield(client.exited)
            finally:
                await client.kill()
                self._clients.discard(client)
                self.changed.set()
                if self.alive_count == 0:
                    self._missing_since = time.monotonic()
            if client in self._retired:
                self._retired.remove(client)
                continue
            self.deaths += 1
            logger.warning("run host %d ended with %d; starting another", client.pid, code)

    def retire(self) -> None:
        """Replace all run hosts that have started, as they may have imported code that has changed:
        idle ones now, leased ones when they come back.
        """
        self._retired |= self._clients
        while self._idle:
            self._idle.popleft().end()

    def _refuse(self) -> None:
        """Refuse waiting callers if there is no run host; refuse patient callers only after
        PATIENT_SECONDS without one.
        """
        if self.alive_count:
            return
        is_long = time.monotonic() - self._missing_since > PATIENT_SECONDS
        for turn, patient in self._turns.items():
            if not turn.done() and (is_long or not patient):
                turn.set_exception(self._not_ready())

    @contextlib.contextmanager
    def place(self, owner: str | None = None) -> Generator[contextlib.ExitStack, None, None]:
        """Reserve a place for a `lease`. It counts until that lease has a run host, or the block
        ends.

        Raises TooBusyError as `lease` does, but before any work is done for a run without a place.
        """
        self._check_line(owner)
        self._waiting[owner] += 1
        with contextlib.ExitStack() as place:
            place.callback(self._leave_line, owner)
            yield place

    @contextlib.asynccontextmanager
    async def lease(
        self,
        *,
        patient: bool = False,
        owner: str | None = None,
        place: contextlib.ExitStack | None = None,
    ) -> AsyncGenerator[RunHostClient, None]:
        """Lease a live run host to this caller alone. Callers wait in a line in which owners take
        turns.

        Raises TooBusyError if `queue_limit` callers wait already. A patient caller waits anyway,
        and does not count; the first caller of an owner may wait up to twice the limit. A caller
        with a `place` counts by its place. Raises NotReadyError if there is no run host and none
        starts; for a patient caller only after PATIENT_SECONDS.
        """
        client = await self._take(patient, place is not None, owner)
        if place is not None:
            place.close()
        self.leases += 1
        self.busy_count += 1
        try:
            yield client
        finally:
            self.busy_count -= 1
            self._offer(client)

    async def _take(self, patient: bool, has_place: bool, owner: str | None) -> RunHostClient:
        if not patient:
            await self.kernels()
            if self.alive_count == 0 and self.last_failure is not None:
                raise self._not_ready()
        while self._idle:
            client = self._idle.popleft()
            if client.alive:
                return client
        counts = not (patient or has_place)
        if counts:
            self._check_line(owner)
            self._waiting[owner] += 1
        try:
            while True:
                client = await self._wait(owner, patient)
                if client.alive:
                    return client
        finally:
            if counts:
                self._leave_line(owner)

    def _leave_line(self, owner: str | None) -> None:
        self._waiting[owner] -= 1
        self._waiting += Counter()  # drops owners with 0

    def _check_line(self, owner: str | None) -> None:
        waiting, limit = self._waiting.total(), self._options.queue_limit
        is_first = owner is not None and not self._waiting[owner]
        # Idle run hosts, for callers that have a place and have not asked for theirs yet.
        free = sum(client.alive for client in self._idle)
        if waiting >= free + (2 * limit if is_first else limit):
            raise TooBusyError(
                f"all {self._options.count} run hosts are busy and {waiting} runs wait for "
                "one already; try again later",
                random.choice(BUSY_RETRY_SECONDS),
            )

    async def _wait(self, owner: str | None, patient: bool) -> RunHostClient:
        turn: asyncio.Future[RunHostClient] = asyncio.get_running_loop().create_future()
        self._line.put(owner, turn)
        self._turns[turn] = patient
        try:
            return await turn
        except (asyncio.CancelledError, NotReadyError):
            self._line.remove(owner, turn)
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._offer(turn.result())  # it got a run host at the same moment
            raise
        finally:
            del self._turns[turn]

    def _offer(self, client: RunHostClient) -> None:
        """Give a free run host to the next caller, if the run host is alive."""
        if client in self._retired:
            client.end()
            return
        if not client.alive:
            return
        while self._line:
            turn = self._line.get()
            if not turn.done():
                turn.set_result(client)
                return
        self._idle.append(client)

    async def close(self) -> None:
        """End all run hosts, even leased ones, whose callers see them die."""
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
