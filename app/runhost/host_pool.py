"""The run hosts of a service: kept warm, lent out one run at a time, replaced when they die."""

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
"""Between attempts to start a run host that does not come up: doubled from the first to this."""

BUSY_RETRY_SECONDS: Final = range(5, 16)
"""One of these, by chance: those who were refused together shall not come again together."""

START_SECONDS: Final = 15.0
"""How long a caller waits for the first run host after the start of the service, instead of
being told to come back in the two seconds that it usually takes."""

PATIENT_SECONDS: Final = 10.0
"""How long a patient caller waits while there is no run host at all. That is longer than one takes
to replace; after it, another process may have one."""


@dataclass(frozen=True, slots=True)
class HostPoolOptions:
    """`count` run hosts; at most `queue_limit` runs wait for one."""

    count: int
    queue_limit: int
    cancel_grace_seconds: float
    environment: Mapping[str, str]


class RunHostPool:
    """Use `start`, then `lease` any number of times, then `close`."""

    def __init__(self, config: RunHostConfig, options: HostPoolOptions) -> None:
        self.last_ready: Ready | None = None
        """What the run host that started last reported; None before the first one is warm."""
        self.last_failure: str | None = None
        """Why a run host did not come up, as long as none has since."""
        self._config = config
        self._options = options
        self._idle: deque[RunHostClient] = deque()
        self._clients: set[RunHostClient] = set()
        self._line: FairQueue[asyncio.Future[RunHostClient]] = FairQueue()
        """Of callers for whom there was no idle one."""
        self._waiting: Counter[str | None] = Counter()
        """Callers in the line that count, by owner."""
        self._turns: dict[asyncio.Future[RunHostClient], bool] = {}
        """Callers in the line, and whether they are patient."""
        self._missing_since = time.monotonic()
        """When there was a run host last, where there is none."""
        self.changed = asyncio.Event()
        """Set when a run host came up, or ended; for one task that waits for it and clears it."""
        self.deaths = 0
        """Run hosts that came up and ended; each was replaced."""
        self.leases = 0
        """Run hosts that were ever lent."""
        self.busy_count = 0
        """Run hosts that are lent now."""
        self._settled = asyncio.Event()
        """The first run host came up, or did not."""
        self._keeping: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to start the run hosts; returns at once. `alive_count` tells how far it is."""
        self._keeping = [asyncio.create_task(self._keep()) for _ in range(self._options.count)]

    @property
    def alive_count(self) -> int:
        # A copy: the metrics ask from a thread of their own.
        return sum(client.alive for client in list(self._clients))

    @property
    def waiting_count(self) -> int:
        """Callers that wait for a run host, patient ones apart."""
        return self._waiting.total()

    def states(self) -> dict[str, int]:
        """Run hosts by state: at work, ready for it, and being started."""
        alive = self.alive_count
        busy = min(self.busy_count, alive)
        missing = max(0, self._options.count - alive)
        return {"busy": busy, "idle": alive - busy, "missing": missing}

    async def kernels(self) -> tuple[KernelReport, ...]:
        """What the run host that started last reported. Right after the start this waits.

        Raises NotReadyError when no run host comes up.
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
        """Have one run host, for ever."""
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
            self.deaths += 1
            logger.warning("run host %d ended with %d; starting another", client.pid, code)

    def _refuse(self) -> None:
        """Tell callers who wait that no run host comes up, if there is none; patient ones only when
        there has been none for long.
        """
        if self.alive_count:
            return
        is_long = time.monotonic() - self._missing_since > PATIENT_SECONDS
        for turn, patient in self._turns.items():
            if not turn.done() and (is_long or not patient):
                turn.set_exception(self._not_ready())

    @contextlib.contextmanager
    def place(self, owner: str | None = None) -> Generator[contextlib.ExitStack, None, None]:
        """A place for a `lease`, counted from now on until that has a run host, or the block ends.

        Raises TooBusyError as `lease` does: at once, before anything is done for a run that there
        is no room for.
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
        """A live run host for the caller alone; waits in a line in which owners take turns.

        Raises TooBusyError when `queue_limit` callers wait already (one that is patient waits all
        the same, and is not counted; so does, up to twice the limit, the first one of an owner of
        whom nobody waits yet), NotReadyError when there is no run host and none comes up: to a
        patient caller after PATIENT_SECONDS. Who has a `place` is counted by that.
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
        self._waiting += Counter()  # without those that are 0

    def _check_line(self, owner: str | None) -> None:
        waiting, limit = self._waiting.total(), self._options.queue_limit
        is_first = owner is not None and not self._waiting[owner]
        # Those who have a place and did not come for their run host yet.
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
                self._offer(turn.result())  # it came in the same moment
            raise
        finally:
            del self._turns[turn]

    def _offer(self, client: RunHostClient) -> None:
        """It is free: the next one's, if it lives."""
        if not client.alive:
            return
        while self._line:
            turn = self._line.get()
            if not turn.done():
                turn.set_result(client)
                return
        self._idle.append(client)

    async def close(self) -> None:
        """End all run hosts; whoever still has one sees it die."""
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
