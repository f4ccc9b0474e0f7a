"""A client of the service's API, the same for one far away and for one in this process."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from hotloop.app.cli.exits import CommandError, ProblemError, UnreachableError
from hotloop.app.client.events import ServerSentEvent, parse_events
from hotloop.app.version import VERSION

_TASKS: Final = "/api/v1/tasks"
RECONNECTS: Final = 8
"""Attempts to reconnect a broken stream of events before the command gives up."""

_FIRST_PAUSE_SECONDS: Final = 0.25
_READY_SECONDS: Final = 120.0
_PROBLEM: Final = "application/problem+json"

Model = TypeVar("Model", bound=BaseModel)


class ServiceClient:
    """Sends requests. All methods raise ProblemError for an answer that is a problem, and
    UnreachableError if there is no answer.
    """

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        content: Iterable[bytes] | None = None,
    ) -> Any:
        """Send a request and return the JSON of the answer. `path` is below /api/v1/tasks."""
        with _told(self._http):
            answer = self._http.request(
                method, _TASKS + path, json=body, params=query, headers=headers, content=content
            )
        _raise_problem(answer)
        return _json(answer)

    def download(self, task_id: str, query: dict[str, Any]) -> Iterator[bytes]:
        """Download every item's result, in pieces."""
        with (
            _told(self._http),
            self._http.stream("GET", f"{_TASKS}/results/{task_id}", params=query) as answer,
        ):
            if answer.is_error:
                answer.read()
                _raise_problem(answer)
            yield from answer.iter_bytes()

    def progress(self, task_id: str) -> Iterator[dict[str, Any]]:
        """Yield a task's progress, and every change of it, until the task has ended. Reconnect
        where a stream broke; give up after RECONNECTS breaks without an event between them.
        """
        last_id, breaks = None, 0
        while True:
            try:
                for event in self._events(task_id, last_id):
                    last_id, breaks = event.id or last_id, 0
                    view = json.loads(event.data)
                    yield view
                    if view["end_time"] is not None and view["status"] not in _UNFINISHED:
                        return
                if last_id is not None and self._has_ended(task_id):
                    return
            except UnreachableError as error:
                reason = str(error)
            else:
                reason = "the stream of events ended before the task did"
            breaks += 1
            if breaks > RECONNECTS:
                raise UnreachableError(
                    f"{reason}. The task goes on without this command; "
                    f"`hotloop tasks follow {task_id}` watches it again."
                )
            time.sleep(_FIRST_PAUSE_SECONDS * 2 ** min(breaks - 1, 4))

    def wait_ready(self) -> None:
        """Wait until the service accepts runs. Raises UnreachableError if that takes too long."""
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            with _told(self._http):
                answer = self._http.get("/health/ready")
            if answer.is_success:
                return
            if time.monotonic() > deadline:
                checks = _json(answer).get("checks", {}).values()
                missing = "; ".join(check["detail"] for check in checks if not check["ready"])
                raise UnreachableError(f"not ready after {_READY_SECONDS:g} s: {missing}")
            time.sleep(0.05)

    def _events(self, task_id: str, last_id: str | None) -> Iterator[ServerSentEvent]:
        headers = {} if last_id is None else {"Last-Event-ID": last_id}
        path = f"{_TASKS}/events/{task_id}"
        with _told(self._http), self._http.stream("GET", path, headers=headers) as answer:
            if answer.is_error:
                answer.read()
                _raise_problem(answer)
            yield from parse_events(answer.iter_lines())

    def _has_ended(self, task_id: str) -> bool:
        status = self.call("GET", f"/status/{task_id}")["status"]
        return status not in _UNFINISHED


_UNFINISHED: Final = ("pending", "running")


@contextmanager
def _told(http: httpx.Client) -> Iterator[None]:
    """Turn transport errors into errors that tell the user what to do."""
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise CommandError(f"--url must be like http://localhost:8001: {error}") from error
    except httpx.TransportError as error:
        reason = str(error) or type(error).__name__
        raise UnreachableError(
            f"no answer from {http.base_url}: {reason}. Is the service there? `hotloop serve` "
            "starts one; without --url the command needs none."
        ) from error


def _raise_problem(answer: httpx.Response) -> None:
    if answer.is_success:
        return
    problem: Any = None
    if answer.headers.get("content-type", "").partition(";")[0] == _PROBLEM:
        problem = _json(answer)
    if not isinstance(problem, dict):
        problem = {
            "type": "about:blank",
            "title": f"HTTP {answer.status_code} {answer.reason_phrase}",
            "detail": f"{answer.url} does not answer as Hotloop does; is --url right?",
            "status": answer.status_code,
        }
    raise ProblemError(problem, answer.status_code)


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError as error:
        raise UnreachableError(
            f"{answer.url} answers with something other than JSON; is --url right?"
        ) from error


def read(model: type[Model], answer: Any) -> Model:
    """Validate an answer, and accept unknown fields, which a newer service may send. Raises
    CommandError for an answer of another version.
    """
    try:
        return model.model_validate(answer, extra="allow")
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise CommandError(
            f"the service's answer is not one of Hotloop {VERSION} ({where}: {fault['msg']}); "
            "use a command of the service's version, or --json"
        ) from error
