"""Requests of a client: repeated while the service is away or busy, their problems as errors."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx

from hotloop.app.client.events import EventReader, ServerSentEvent
from hotloop.app.version import VERSION

KEY_HEADER: Final = "X-API-Key"

FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 30.0
"""Longest pause before a request is repeated. The first is FIRST_PAUSE_SECONDS, each doubles, and
none is shorter than the service asks for by Retry-After."""

_BUSY: Final = frozenset({429, 502, 503})
"""Statuses after which the same request may succeed."""

_PROBLEM: Final = "application/problem+json"


class ClientError(Exception):
    """Base of the errors of a client; `str(error)` says what went wrong."""


class ProblemError(ClientError):
    """The service has refused a request, or failed; its answer is a problem (RFC 9457)."""

    def __init__(self, problem: Mapping[str, Any], status: int) -> None:
        self.status = status
        """The status of the answer."""
        self.kind = str(problem.get("type", "")).rpartition(":")[2]
        """The kind of the problem, such as `invalid-request`: the last part of its `type`."""
        self.title = str(problem.get("title", ""))
        self.detail = str(problem.get("detail", ""))
        self.errors: tuple[Mapping[str, Any], ...] = tuple(problem.get("errors") or ())
        """The faults of the request: `field` and `message` of each."""
        self.task_id: str | None = problem.get("task_id")
        self._problem = dict(problem)
        super().__init__(f"{self.title}: {self.detail}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._problem, self.status)


class UnreachableError(ClientError):
    """No answer came from the service, after all repetitions."""


Content = bytes | Callable[[], AsyncIterator[bytes]] | None
"""The body of a request, or a function that makes it, as it may have to be sent again."""


class Sender:
    """Sends requests to a service at `url`, each up to 1 + `retries` times."""

    def __init__(
        self, url: str, key: str | None, token: str | None, timeout: float, retries: int
    ) -> None:
        headers = {"User-Agent": f"hotloop-client/{VERSION}"}
        if key is not None:
            headers[KEY_HEADER] = key
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._timeout = httpx.Timeout(timeout, connect=10.0, pool=None)
        self._patient = httpx.Timeout(connect=10.0, read=None, write=timeout, pool=None)
        self._http = httpx.AsyncClient(base_url=url, headers=headers, timeout=self._timeout)
        self._retries = retries

    async def close(self) -> None:
        await self._http.aclose()

    async def send(
        self,
        method: str,
        path: str,
        content: Content = None,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
        waits: bool = False,
    ) -> httpx.Response:
        """Send a request, and return its answer, which is no problem. With `waits`, the answer may
        take any time. Raises ProblemError and UnreachableError.
        """
        pause = FIRST_PAUSE_SECONDS
        for left in range(self._retries, -1, -1):
            try:
                answer = await self._http.request(
                    method,
                    path,
                    content=content() if callable(content) else content,
                    headers=dict(headers or {}),
                    params=None if query is None else dict(query),
                    timeout=self._patient if waits else self._timeout,
                )
            except httpx.TransportError as error:
                if not left:
                    raise self._unreachable(error) from error
                wait = pause
            else:
                if answer.is_success:
                    return answer
                if not left or answer.status_code not in _BUSY:
                    raise problem_of(answer)
                wait = max(pause, _asked_pause(answer))
            await asyncio.sleep(min(wait, LONGEST_PAUSE_SECONDS) * random.uniform(1.0, 1.2))
            pause *= 2
        raise AssertionError("the last try returns or raises")

    async def post_json(
        self, path: str, body: Any, headers: Mapping[str, str] | None = None, **options: Any
    ) -> httpx.Response:
        """Send a body as JSON. Raises the errors of `send`; ValueError for a float that is not
        finite.
        """
        content = json.dumps(body, allow_nan=False).encode()
        told = {"Content-Type": "application/json", **(headers or {})}
        return await self.send("POST", path, content, headers=told, **options)

    async def events(self, path: str) -> AsyncGenerator[ServerSentEvent, None]:
        """Yield the events of a stream; connect again where it broke, also at its end. Raises the
        errors of `send`, once as many connections in a row as there are tries brought no event.
        """
        last_id, pause, left = "", FIRST_PAUSE_SECONDS, self._retries
        while True:
            began = time.monotonic()
            try:
                async with self._stream(path, last_id) as answer:
                    reader = EventReader()
                    async for line in answer.aiter_lines():
                        if (event := reader.feed(line)) is not None:
                            last_id = event.id or last_id
                            pause, left = FIRST_PAUSE_SECONDS, self._retries
                            yield event
            except httpx.TransportError as error:
                if not left:
                    raise self._unreachable(error) from error
            except ProblemError as problem:
                if not left or problem.status not in _BUSY:
                    raise
            left -= 1 if time.monotonic() - began < LONGEST_PAUSE_SECONDS else 0
            await asyncio.sleep(pause * random.uniform(1.0, 1.2))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    @asynccontextmanager
    async def _stream(self, path: str, last_id: str) -> AsyncIterator[httpx.Response]:
        headers = {"Accept": "text/event-stream"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        async with self._http.stream("GET", path, headers=headers) as answer:
            if not answer.is_success:
                await answer.aread()
                raise problem_of(answer)
            yield answer

    def _unreachable(self, error: httpx.TransportError) -> UnreachableError:
        reason = str(error) or type(error).__name__
        return UnreachableError(f"no answer from {self._http.base_url}: {reason}")


def _asked_pause(answer: httpx.Response) -> float:
    """Return the seconds after which the service says that a request may be repeated."""
    try:
        return float(answer.headers.get("retry-after", "0"))
    except ValueError:
        return 0.0


def problem_of(answer: httpx.Response) -> ProblemError:
    """Return the error of an answer that is not a success."""
    problem: Any = None
    if answer.headers.get("content-type", "").partition(";")[0] == _PROBLEM:
        try:
            problem = answer.json()
        except ValueError:
            problem = None
    if not isinstance(problem, dict):
        problem = {
            "title": f"HTTP {answer.status_code} {answer.reason_phrase}",
            "detail": f"{answer.url.path} does not answer as Hotloop does; is the URL right?",
        }
    return ProblemError(problem, answer.status_code)
