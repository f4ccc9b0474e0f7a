"""The client of a service for programs with an event loop. It has the methods that
`hotloop.Hotloop` has inside an application.

    async with hotloop.AsyncClient("http://localhost:8001") as client:
        price = await client.call(american_put, spot=100.0)

Requests are repeated while the service is away or busy. A task that is submitted has an idempotency
key, so that it is accepted once, however often the request is repeated.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Mapping,
)
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, Self, TypeVar, cast

import numpy as np

from hotloop.app.client.progress import Show, showing
from hotloop.app.client.sending import Sender
from hotloop.app.client.tables import (
    Results,
    Values,
    columns_of,
    in_pieces,
    length_of,
    read_arrow,
    rows_of,
)
from hotloop.app.errors import (
    InvalidRequestError,
    ItemFailedError,
    RunCancelledError,
    RunError,
)
from hotloop.app.sources.base import ItemError
from hotloop.kernels.functions.declaration import WorkloadFunction

P = ParamSpec("P")
R = TypeVar("R")

Function = WorkloadFunction[..., Any]
Parameters = Mapping[str, Any]

TIMEOUT_SECONDS: Final = 60.0
"""Time that a request which should be answered at once may take."""

RETRIES: Final = 5

MOST_INLINE: Final = 20_000
"""Items of a run that are sent in one body; more are sent as a stream of rows."""

_PIECE_ROWS: Final = 2_000
_ENDED: Final = frozenset({"completed", "failed", "cancelled"})
_TASKS: Final = "/api/v1/tasks"
_ARROW: Final = "application/vnd.apache.arrow.stream"
_NDJSON: Final = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a task at one moment."""

    task_id: str
    status: str
    items_processed: int
    """Items in work count by the share of their steps that is done."""
    total_items: int
    progress: float
    """0 … 1."""
    estimated_remaining_seconds: float | None
    error_message: str | None

    @property
    def has_ended(self) -> bool:
        return self.status in _ENDED


class AsyncClient:
    """A client for programs with an event loop. Use it as an asynchronous context manager, or call
    `close`.

    All methods raise ProblemError if the service refuses a request or fails, UnreachableError if it
    does not answer, and InvalidRequestError for items that are no table.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8001",
        *,
        key: str | None = None,
        token: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        retries: int = RETRIES,
    ) -> None:
        """`key` is an API key, by default that of HOTLOOP_API_KEY; `token` is a JSON Web Token.
        `timeout` is in seconds; requests whose answer is the end of a run have none.
        """
        key = os.environ.get("HOTLOOP_API_KEY") if key is None and token is None else key
        self._sender = Sender(url, key, token, timeout, retries)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. Tasks that were submitted go on."""
        await self._sender.close()

    # --- calls: few items, computed at once -----------------------------------------------------

    async def call(self, workload: WorkloadFunction[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Compute one item, and return what the function returns; a float that is not finite comes
        back as NaN. Arguments are those of the function, columns and parameters; scratch is left
        out. Raises ItemFailedError if the function raises.
        """
        declared = workload.declaration
        names = [column.name for column in declared.columns_in]
        given = workload.arguments(args, kwargs)
        columns = {name: [given.pop(name)] for name in names if name in given}
        found = await self.call_many(workload, columns, given)
        if found.failed[0]:
            raise ItemFailedError(found.errors[0].reason)
        values = tuple(found.columns[column.name][0].item() for column in declared.columns_out)
        return cast("R", values[0] if len(values) == 1 else values)

    async def call_many(
        self,
        workload: Function | str,
        columns: Values,
        parameters: Parameters | None = None,
        *,
        kernel: str = "auto",
        record: str = "durable",
    ) -> Results:
        """Compute a few items. What is predicted to take longer than 5 ms is executed as a run, and
        its results are waited for.
        """
        items = columns_of(columns)
        length_of(items)
        body = {
            "items": list(rows_of(items)),
            "parameters": dict(parameters or {}),
            "kernel": kernel,
            "record": record,
        }
        path = f"/api/v1/workloads/{_name_of(workload)}"
        answer = await self._sender.post_json(path, body, waits=True)
        found = answer.json()
        if answer.status_code == 202:
            return await self.result(found["task_id"])
        return _called(found)

    # --- runs and tasks -------------------------------------------------------------------------

    async def run(
        self,
        workload: Function | str,
        columns: Values,
        parameters: Parameters | None = None,
        *,
        strategy: str = "auto",
        progress: Show = False,
        **options: Any,
    ) -> Results:
        """Execute a run over the items as a background task, and return their outputs. `options`
        are fields of a run's body. A call that is cancelled cancels the task.

        `progress` is True for a bar (tqdm if it is installed, else rich), or a function of
        Progress.
        """
        asked = {"strategy": strategy, **options}
        task_id = await self.submit(workload, columns, parameters, **asked)
        try:
            return await self.result(task_id, progress=progress)
        except asyncio.CancelledError:
            await asyncio.shield(self.cancel(task_id))
            raise

    async def submit(
        self,
        workload: Function | str,
        columns: Values,
        parameters: Parameters | None = None,
        *,
        strategy: str = "auto",
        idempotency_key: str | None = None,
        **options: Any,
    ) -> str:
        """Have a background task accepted, and return its id. `options` are fields of a background
        task's body: `kernel`, `workers`, `priority`, `webhook`, … A key of one's own makes several
        calls of this method one task.
        """
        items = columns_of(columns)
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        asked: dict[str, Any] = {"workload": _name_of(workload), **options}
        if parameters:
            asked["parameters"] = dict(parameters)
        if length_of(items) <= MOST_INLINE:
            body = {**asked, "strategy": strategy, "items": list(rows_of(items, with_ids=True))}
            answer = await self._sender.post_json(f"{_TASKS}/background", body, headers)
            return str(answer.json()["task_id"])
        query = _upload_query(asked, strategy)
        headers |= {"Content-Type": _NDJSON, "Prefer": "respond-async"}

        async def rows() -> AsyncIterator[bytes]:
            for piece in in_pieces(rows_of(items, with_ids=True), _PIECE_ROWS):
                yield "".join(f"{json.dumps(row)}\n" for row in piece).encode()

        path = f"{_TASKS}/upload"
        answer = await self._sender.send(
            "POST", path, rows, headers=headers, query=query, waits=True
        )
        return str(answer.json()["task_id"])

    async def result(self, task_id: str, *, progress: Show = False) -> Results:
        """Wait until a task has ended, and return its outputs. Raises RunError if it failed, and
        RunCancelledError. `progress` is as for `run`.
        """
        task = await self.task(task_id)
        if task["status"] not in _ENDED:
            with showing(progress) as show:
                async with aclosing(self.events(task_id)) as events:
                    async for state in events:
                        show(state)
            task = await self.task(task_id)
        if task["status"] == "cancelled":
            raise RunCancelledError
        if task["status"] == "failed":
            raise RunError(task["error_message"])
        path, headers = f"{_TASKS}/results/{task_id}", {"Accept": _ARROW}
        answer = await self._sender.send("GET", path, headers=headers, waits=True)
        ids, columns, failed = read_arrow(answer.content)
        told = (task["result"] or {}).get("errors", ())
        return Results(
            columns=columns,
            failed=failed,
            errors=tuple(ItemError(e["item_id"], e["stage"], e["reason"]) for e in told),
            kernel=task["kernel"] or "",
            task_id=task_id,
            item_ids=ids,
        )

    async def events(self, task_id: str) -> AsyncGenerator[Progress, None]:
        """Yield the state of a task now, and after each change until it has ended."""
        async with aclosing(self._sender.events(f"{_TASKS}/events/{task_id}")) as events:
            async for event in events:
                view = json.loads(event.data)
                state = Progress(**{name: view[name] for name in Progress.__dataclass_fields__})
                yield state
                if state.has_ended:
                    return

    async def task(self, task_id: str) -> dict[str, Any]:
        """Return a task as the service shows it, with the measurements of its result."""
        answer = await self._sender.send("GET", f"{_TASKS}/status/{task_id}")
        return cast("dict[str, Any]", answer.json())

    async def cancel(self, task_id: str) -> None:
        """Cancel a task, and return when it has ended."""
        await self._sender.send("DELETE", f"{_TASKS}/{task_id}")

    async def resume(self, task_id: str) -> None:
        """Go on with a failed or cancelled task."""
        await self._sender.send("POST", f"{_TASKS}/{task_id}/resume")

    async def retry_failed(self, task_id: str) -> None:
        """Try the failed items of a completed task again."""
        await self._sender.send("POST", f"{_TASKS}/{task_id}/retry-failed")


def _name_of(workload: Function | str) -> str:
    return workload if isinstance(workload, str) else workload.name


def _called(found: Mapping[str, Any]) -> Results:
    """Return the results in the answer of a call."""
    rows = found["results"]
    failed = np.zeros(len(rows), dtype=np.bool_)
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    errors = tuple(ItemError(e["item_id"], e["stage"], e["reason"]) for e in found["errors"])
    if found["failed_items"]:
        failed[:] = [all(value is None for value in row.values()) for row in rows]
        if np.count_nonzero(failed) > found["failed_items"]:  # some have only NaN
            told = {error.item_id for error in errors}
            failed[:] = [place in told for place in range(len(rows))]
    return Results(columns, failed, errors, found["kernel"], found["task_id"])


def _column(values: list[Any]) -> Any:
    """Return a column of JSON values; null, a float that is not finite, becomes NaN."""
    if any(value is None for value in values):
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return np.array(values)


def _upload_query(asked: dict[str, Any], strategy: str) -> dict[str, Any]:
    """Return the query of an upload. Raises InvalidRequestError for what an upload cannot have."""
    for name in ("priority", "webhook"):
        if name in asked:
            text = f"it cannot be given with more than {MOST_INLINE:,} items; leave it out"
            raise InvalidRequestError(name, text)
    parameters = asked.pop("parameters", {})
    query = {**asked, **parameters}
    if strategy != "auto":
        query["strategy"] = strategy
    return {n: str(v).lower() if isinstance(v, bool) else v for n, v in query.items()}
