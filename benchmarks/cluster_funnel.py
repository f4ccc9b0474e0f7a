"""A discrete-event simulation of parcels on their way through a cluster, and of their results on
their way into the store.

    nodes: run host ──> workers ──> scheduler ──> driver ──> run host ──> node ──> store
             └── another parcel when the results of one are on their way to the store

Driver, run host and node are one process each, of one thread that counts, for every run; workers,
scheduler and store are shared by all. What a process has to do for a parcel is counted at once, on
its way back: where a queue grows does not depend on that.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from benchmarks.cluster_scene import ITEM_BYTES, SHARED, STAGES, Scene
from hotloop.app.runhost.execution import FULL_BYTES, SEND_INTERVAL_SECONDS

WARM_UP: Final = 0.25
"""Share of the parcels that end before anything is counted."""

Then = Callable[[], None]


class Level:
    """A number over time, and its mean."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.value = 0
        self.restart()

    def restart(self) -> None:
        """Forget what was before."""
        self._area, self._since = 0.0, self._clock.now
        self._last = self._since

    def add(self, number: int) -> None:
        self._area += self.value * (self._clock.now - self._last)
        self._last = self._clock.now
        self.value += number

    def mean(self) -> float:
        self.add(0)
        return self._area / (self._clock.now - self._since)


class Clock:
    """The events to come, and the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Then]] = []
        self._numbers = count()

    def after(self, seconds: float, then: Then) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), then))

    def step(self) -> None:
        self.now, _, then = heapq.heappop(self._events)
        then()


class Station:
    """Servers with one queue: first come, first served."""

    def __init__(self, clock: Clock, servers: int) -> None:
        self._clock = clock
        self._free = servers
        self._queue: deque[tuple[float, Then]] = deque()
        self.busy = Level(clock)
        """Servers that serve; one that was not released yet does not."""

    def enter(self, seconds: float, then: Then) -> None:
        """Serve when a server is free; call `then`, which releases the server at any time."""
        self._queue.append((seconds, then))
        self._serve()

    def release(self) -> None:
        self._free += 1
        self._serve()

    def _serve(self) -> None:
        if not self._free or not self._queue:
            return
        self._free -= 1
        self.busy.add(1)
        seconds, then = self._queue.popleft()

        def end() -> None:
            self.busy.add(-1)
            then()

        self._clock.after(seconds, end)


@dataclass(slots=True)
class Outcome:
    """Counts and times of a simulation, its warm-up left out."""

    batches_per_second: float
    utilisation: dict[str, float]
    """The mean share of each stage's servers that serve."""
    in_flight: float
    """The mean number of parcels between their sending and their storing."""
    parcels_per_second: float
    seconds_in_flight: float
    """The mean time of a parcel from its sending to its storing."""

    @property
    def limit(self) -> str:
        """The stage that is busiest."""
        return max(self.utilisation, key=lambda stage: self.utilisation[stage])


@dataclass(slots=True)
class _Node:
    """A run: its driver, run host and node, and results that wait for the next message."""

    driver: Station
    host: Station
    node: Station
    held: list[float] = field(default_factory=list)
    """The times of sending of parcels whose results wait in the run host."""
    is_sending: bool = False
    is_due: bool = True
    is_blocked: bool = False


class Funnel:
    """A scene at work; `run` is called once."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._clock = clock = Clock()
        self._random = random.Random(scene.seed)
        self._size = scene.parcel
        self._items = self._size * scene.batch_items
        self._seconds = {stage: scene.demand(stage) for stage in STAGES}
        self._message_bytes = 0 if scene.direct else self._items * ITEM_BYTES
        self._shared = {stage: Station(clock, scene.servers(stage)) for stage in SHARED}
        self._nodes = [
            _Node(Station(clock, 1), Station(clock, 1), Station(clock, 1))
            for _ in range(scene.runs)
        ]
        self._in_flight = Level(clock)
        self._stored, self._sojourn = 0, 0.0

    def run(self, parcels: int) -> Outcome:
        """Simulate until this many parcels are stored."""
        for _ in range(self._scene.window):
            for node in self._nodes:
                self._send(node)
        while self._stored < WARM_UP * parcels:
            self._clock.step()
        levels = {stage: [station.busy] for stage, station in self._shared.items()}
        levels["driver"] = [node.driver.busy for node in self._nodes]
        levels["run host"] = [node.host.busy for node in self._nodes]
        levels["node"] = [node.node.busy for node in self._nodes]
        for level in (self._in_flight, *(each for found in levels.values() for each in found)):
            level.restart()
        before, started, self._sojourn = self._stored, self._clock.now, 0.0
        while self._stored < parcels:
            self._clock.step()
        done, seconds = self._stored - before, self._clock.now - started
        return Outcome(
            batches_per_second=done * self._size / seconds,
            utilisation={
                stage: sum(level.mean() for level in levels[stage]) / self._scene.servers(stage)
                for stage in STAGES
            },
            in_flight=self._in_flight.mean(),
            parcels_per_second=done / seconds,
            seconds_in_flight=self._sojourn / done,
        )

    def _send(self, node: _Node) -> None:
        self._in_flight.add(1)
        sent, workers = self._clock.now, self._shared["worker"]
        self._clock.after(
            self._scene.latency,
            lambda: workers.enter(self._computing(), lambda: self._computed(node, sent)),
        )

    def _computing(self) -> float:
        mean, spread = self._seconds["worker"], self._scene.spread
        return self._random.gammavariate(spread**-2, mean * spread**2) if spread else mean

    def _computed(self, node: _Node, sent: float) -> None:
        if not self._scene.direct:
            self._tell(node, sent)
            return
        store = self._shared["store"]
        seconds = self._scene.costs["store"].parcel + self._seconds["store"]

        def written() -> None:
            store.release()
            self._tell(node, sent)

        store.enter(seconds, written)

    def _tell(self, node: _Node, sent: float) -> None:
        """The worker waits for its next parcel until the scheduler knows that it is free."""
        scheduler, workers = self._shared["scheduler"], self._shared["worker"]

        def known() -> None:
            scheduler.release()
            self._clock.after(2 * self._scene.latency, workers.release)
            self._clock.after(
                self._scene.latency,
                lambda: node.driver.enter(self._seconds["driver"], driven),
            )

        def driven() -> None:
            node.driver.release()
            node.host.enter(self._seconds["run host"], lambda: self._put(node, sent))

        scheduler.enter(self._seconds["scheduler"], known)

    def _put(self, node: _Node, sent: float) -> None:
        """Keep results for the next message; a run host whose message is full waits."""
        node.held.append(sent)
        self._send(node)
        if len(node.held) * self._message_bytes >= FULL_BYTES and node.is_sending:
            node.is_blocked = True
        else:
            node.host.release()
        self._send_results(node)

    def _send_results(self, node: _Node) -> None:
        is_full = len(node.held) * self._message_bytes >= FULL_BYTES
        if node.is_sending or not node.held or not (node.is_due or is_full):
            return
        message, node.held, node.is_sending, node.is_due = node.held, [], True, False
        store, parcels = self._shared["store"], len(message)
        writing = self._scene.costs["store"].parcel
        if not self._scene.direct:
            writing += parcels * self._seconds["store"]

        def stored() -> None:
            store.release()
            node.node.release()
            node.is_sending = False
            self._stored += parcels
            self._in_flight.add(-parcels)
            self._sojourn += sum(self._clock.now - sent for sent in message)
            if node.is_blocked:
                node.is_blocked = False
                node.host.release()
            self._clock.after(SEND_INTERVAL_SECONDS, due)
            self._send_results(node)

        def due() -> None:
            node.is_due = True
            self._send_results(node)

        node.node.enter(parcels * self._seconds["node"], lambda: store.enter(writing, stored))
