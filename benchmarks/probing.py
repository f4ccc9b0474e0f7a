"""A load that arrives at a fixed rate, whatever the server does: a stall is seen in full."""

from __future__ import annotations

import http.client
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

RATE_PER_SECOND: Final = 50


@dataclass(frozen=True, slots=True)
class Latencies:
    """Milliseconds from the moment a request was due to its answer."""

    count: int
    p50: float
    p99: float
    max: float


class HealthProbe:
    """Asks GET /health 50 times a second, in a thread, for as long as the block lasts."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._seconds: list[float] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._connection.close()

    def _ask(self) -> None:
        due = time.perf_counter()
        while not self._stopping.wait(max(0.0, due - time.perf_counter())):
            self._connection.request("GET", "/health")
            response = self._connection.getresponse()
            response.read()
            if response.status != 200:
                raise RuntimeError(f"/health answered {response.status}")
            self._seconds.append(time.perf_counter() - due)
            due += 1 / RATE_PER_SECOND

    def latencies(self) -> Latencies:
        ordered = sorted(1_000 * seconds for seconds in self._seconds)
        if not ordered:
            raise RuntimeError("the block was too short for a single probe")
        return Latencies(
            len(ordered),
            ordered[len(ordered) // 2],
            ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))],
            ordered[-1],
        )
