"""Sending the requests, and judging every answer."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import httpx

from tests.soak.arrivals import Arrival, Kind
from tests.soak.bodies import (
    Body,
    background_body,
    comparison_body,
    right_checksum,
    run_body,
    slow_body,
)

TASKS: Final = "/api/v1/tasks"
REFUSALS: Final = ("too-busy", "not-ready")
"""Problems with which the service may refuse what it has no place for."""
HOST_DIED: Final = "run-host-died"
NO_TASK: Final = "task_00000000_1"
"""An id that no task has."""
EVENTS_READ: Final = 2
"""Events to read before a stream is abandoned."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`seconds` from the moment the request was due to the whole answer."""

    kind: Kind
    status: int
    seconds: float


class Asker:
    """All requests and answers; `faults` describes wrong ones."""

    def __init__(self, client: httpx.AsyncClient, seed: int) -> None:
        self.answers: list[Answer] = []
        self.faults: list[str] = []
        self.accepted: dict[str, Body] = {}
        """Background tasks by id."""
        self.completed: set[str] = set()
        """Background tasks that were seen completed, with the right checksum."""
        self.died: set[str] = set()
        """Ids of synchronous tasks whose run host died."""
        self.abandoned = 0
        """Streams of events that were left before their end."""
        self.waiting: set[Arrival] = set()
        """Sent, and not answered yet."""
        self._client = client
        self._chance = random.Random(f"{seed} asking")
        self._due = 0.0
        self._ways: Final[dict[Kind, Callable[[int, float], Coroutine[Any, Any, None]]]] = {
            Kind.RUN: self._run,
            Kind.BACKGROUND: self._background,
            Kind.COMPARISON: self._comparison,
            Kind.STATUS: self._status,
            Kind.EVENTS: self._events,
            Kind.LIST: self._list,
            Kind.HEALTH: self._health,
            Kind.METRICS: self._metrics,
        }

    async def ask_all(self, arrivals: list[Arrival]) -> None:
        """Send each request at its time, whatever the earlier ones do; returns when all are
        answered.
        """
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for arrival in arrivals:
                due = begun + arrival.due_seconds
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(self._ask(arrival, due))

    async def _ask(self, arrival: Arrival, due: float) -> None:
        self.waiting.add(arrival)
        try:
            await self._ways[arrival.kind](arrival.number, due)
            self.waiting.discard(arrival)
        except (httpx.HTTPError, AssertionError, LookupError, TypeError, ValueError) as error:
            self.waiting.discard(arrival)
            self.faults.append(f"{arrival.kind} {arrival.number}: {error!r}")

    async def _run(self, number: int, due: float) -> None:
        strategy, body = run_body(number)
        answer = await self._send(Kind.RUN, due, "POST", f"{TASKS}/{strategy}", body)
        if answer is not None:
            self._judge_result(answer.json(), body)

    async def _background(self, number: int, due: float) -> None:
        await self._submit(Kind.BACKGROUND, background_body(number), due)

    async def _comparison(self, number: int, due: float) -> None:
        body = comparison_body(number)
        answer = await self._send(Kind.COMPARISON, due, "POST", f"{TASKS}/compare", body)
        if answer is None:
            return
        comparison = answer.json()
        assert comparison["status"] == "completed", comparison
        assert comparison["outputs_equal"], comparison["mismatches"]
        wanted = len(body.fields["strategies"]) * len(body.fields["kernels"])
        cells = [cell for cell in comparison["cells"] if cell["status"] == "measured"]
        assert len(cells) >= wanted, comparison
        for cell in cells:
            assert cell["checksum"] == right_checksum(cell["kernel"], body.items), cell

    async def _status(self, _number: int, due: float) -> None:
        # Nothing may be accepted yet: then any task's, which is not there.
        task_id = self._chance.choice(list(self.accepted) or [NO_TASK])
        answer = await self._send(Kind.STATUS, due, "GET", f"{TASKS}/status/{task_id}")
        if answer is not None and answer.status_code == 200:
            self.judge_status(answer.json())

    async def _events(self, _number: int, due: float) -> None:
        task_id = await self._submit(Kind.EVENTS, slow_body(), due)
        if task_id is None:
            return
        async with self._client.stream("GET", f"{TASKS}/events/{task_id}") as stream:
            assert stream.status_code == 200, stream.status_code
            seen = 0
            async for line in stream.aiter_lines():
                seen += line.startswith("event:")
                if seen == EVENTS_READ:
                    self.abandoned += 1
                    break
            assert seen, "a stream had no event"

    async def _list(self, _number: int, due: float) -> None:
        answer = await self._send(Kind.LIST, due, "GET", f"{TASKS}/results?limit=20")
        assert answer is None or isinstance(answer.json()["items"], list)

    async def _health(self, _number: int, due: float) -> None:
        answer = await self._send(Kind.HEALTH, due, "GET", "/health")
        assert answer is None or answer.json()["status"] == "alive"

    async def _metrics(self, _number: int, due: float) -> None:
        answer = await self._send(Kind.METRICS, due, "GET", "/metrics")
        assert answer is None or "hotloop_run_hosts" in answer.text

    async def _submit(self, kind: Kind, body: Body, due: float) -> str | None:
        answer = await self._send(kind, due, "POST", f"{TASKS}/background", body)
        if answer is None:
            return None
        assert answer.status_code == 202, answer.text
        task_id = str(answer.json()["task_id"])
        self.accepted[task_id] = body
        return task_id

    async def _send(
        self, kind: Kind, due: float, method: str, path: str, body: Body | None = None
    ) -> httpx.Response | None:
        """Send a request; None if it was refused or its run host died. Both are counted."""
        fields = None if body is None else body.fields
        answer = await self._client.request(method, path, json=fields)
        status = answer.status_code
        self.answers.append(Answer(kind, status, time.perf_counter() - due))
        if status < 300 or (status == 404 and path.endswith(NO_TASK)):
            return answer
        problem: dict[str, Any] = {}
        with suppress(ValueError):
            problem = answer.json()
        name = str(problem.get("type", "")).rpartition(":")[2]
        if status == 503 and name in REFUSALS:
            return None
        if status == 500 and name == HOST_DIED and problem.get("task_id"):
            self.died.add(str(problem["task_id"]))
            return None
        raise AssertionError(f"{method} {path} was answered with {status}: {answer.text[:300]}")

    def judge_status(self, view: dict[str, Any]) -> None:
        """Judge a background task; unfinished ones are judged later."""
        task_id = str(view["task_id"])
        if view["status"] in ("pending", "running") or task_id in self.completed:
            return
        assert view["status"] == "completed", view
        self._judge_result(view["result"], self.accepted[task_id])
        self.completed.add(task_id)

    def _judge_result(self, result: dict[str, Any], body: Body) -> None:
        assert result["status"] == "completed", result
        assert result["failed_items"] == 0, result
        assert result["items_processed"] == body.items, result
        assert result["checksum"] == body.checksum, result
