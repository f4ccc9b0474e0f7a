"""Streams that are opened at once, and the requests between them."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from starlette.types import Message, Receive, Scope, Send

from hotloop.app.http.guards.turns import OpeningTurns

EVENTS = "/api/v1/tasks/events"


async def receive() -> Message:
    return {"type": "http.disconnect"}


async def send(message: Message) -> None:
    pass


class Begun:
    """An application that notes which requests it was given, and answers none."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.paths.append(scope["path"])
        await asyncio.get_running_loop().create_future()


def ask(app: OpeningTurns, path: str) -> asyncio.Task[None]:
    async def call() -> None:
        await app({"type": "http", "path": path}, receive, send)

    return asyncio.create_task(call())


def test_streams_begin_one_by_one_and_other_requests_at_once() -> None:
    async def scenario() -> None:
        begun = Begun()
        app = OpeningTurns(begun, EVENTS)
        tasks = [ask(app, f"/below{EVENTS}/{number}") for number in range(100)]
        await asyncio.sleep(0)
        tasks.append(ask(app, "/health"))
        counts = []
        while len(begun.paths) < len(tasks):
            await asyncio.sleep(0)
            counts.append(len(begun.paths))
        assert begun.paths.index("/health") < 5
        assert max(b - a for a, b in pairwise(counts)) <= 2
        assert [path for path in begun.paths if path != "/health"] == [
            f"/below{EVENTS}/{number}" for number in range(100)
        ]
        for task in tasks:
            task.cancel()

    asyncio.run(scenario())


def test_request_that_leaves_the_line_holds_up_nobody() -> None:
    async def scenario() -> None:
        begun = Begun()
        app = OpeningTurns(begun, EVENTS)
        tasks = [ask(app, f"{EVENTS}/{number}") for number in range(10)]
        await asyncio.sleep(0)
        for task in tasks[2:9]:
            task.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert begun.paths == [f"{EVENTS}/{number}" for number in (0, 1, 9)]
        later = ask(app, f"{EVENTS}/later")
        await asyncio.sleep(0)
        assert begun.paths[-1] == f"{EVENTS}/later"
        for task in (*tasks, later):
            task.cancel()

    asyncio.run(scenario())
