"""The service inside one's own application: run hosts, store and limits as in a service of its own,
without HTTP in between.

    hot = hotloop.Hotloop(price)
    app = FastAPI(lifespan=hot.lifespan)

    @app.get("/price")
    async def get_price(spot: float) -> float:
        return await hot.call(price, spot=spot)
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from enum import StrEnum
from typing import Any, Final, ParamSpec, TypeVar, cast

import numpy as np
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from hotloop import kernels
from hotloop.app.client.tables import Results, Values, columns_of
from hotloop.app.database.threads import in_store_thread
from hotloop.app.errors import (
    InvalidRequestError,
    ItemFailedError,
    NotReadyError,
    RunCancelledError,
    RunError,
    ServiceError,
)
from hotloop.app.execution.calls import CallAnswer
from hotloop.app.factory import create_app
from hotloop.app.http.error_handlers import answer_nobody, answer_problem
from hotloop.app.names import StrategyName, TaskStatus
from hotloop.app.schemas.calls import CallRequest, Record
from hotloop.app.schemas.item_columns import ItemColumns
from hotloop.app.schemas.options import AUTO
from hotloop.app.schemas.runs import BackgroundRequest, RunRequest, request_model
from hotloop.app.schemas.tasks import AcceptedRun, TaskProgress
from hotloop.app.serving.disconnects import DisconnectWatch, while_connected
from hotloop.app.settings.environment import load_settings
from hotloop.app.settings.settings import Settings
from hotloop.app.sources.base import ItemError
from hotloop.app.tasks.model import FINISHED
from hotloop.app.wiring import Services, open_services
from hotloop.app.wording import describe
from hotloop.kernels.functions.declaration import WorkloadFunction, converted
from hotloop.kernels.kernel import checked_inputs

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", bound=RunRequest)
W = TypeVar("W", bound=StrEnum)

Function = WorkloadFunction[..., Any]
_OWN_DEFAULTS: Final[dict[str, Any]] = {"cancel_grace_seconds": 0.5}
"""Settings that differ from those of a service of its own: a cancelled run ends within a second."""


class Hotloop:
    """Runs workloads for an application, in other processes, so that its event loop is free.

    It works between the start and the end of `lifespan`. Cancelling a method cancels its work.
    """

    def __init__(self, *workloads: Function | str, **settings: Any) -> None:
        """`workloads` are decorated functions, or targets as of `hotloop serve`. `settings` are
        those of docs/settings.md by name, in small letters and without HOTLOOP_; what is left out
        comes from the environment. Raises SettingsError and WorkloadError.
        """
        targets = [each if isinstance(each, str) else target_of(each) for each in workloads]
        self._settings = _settings(tuple(targets), settings)
        self._services: Services | None = None
        self._asgi: FastAPI | None = None

    @property
    def asgi(self) -> ASGIApp:
        """The service as an ASGI application, to mount: its API, documentation and page."""
        if self._asgi is None:
            self._asgi = create_app(self._settings, self._opened)
        return self._asgi

    def install(self, app: FastAPI) -> None:
        """Start and end with an application, inside the lifespan that it has. Requests whose client
        leaves cancel their runs, and errors of Hotloop are answered as problems (RFC 9457).
        """
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def both(app: FastAPI) -> AsyncIterator[Any]:
            async with self.lifespan(app), inner(app) as state:
                yield state

        app.router.lifespan_context = both
        app.add_middleware(DisconnectWatch)
        app.add_exception_handler(ServiceError, answer_problem)
        app.add_exception_handler(kernels.InvalidInputError, answer_problem)
        app.add_exception_handler(ClientDisconnect, answer_nobody)

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Start with the block, and end with it: no process is left. For `FastAPI(lifespan=…)`.
        Raises StoreError.
        """
        if self._services is not None:
            raise RuntimeError("this Hotloop has started already; make another one")
        async with AsyncExitStack() as stack:
            self._services = await stack.enter_async_context(open_services(self._settings))
            stack.callback(self._forget)
            if self._asgi is not None:
                await stack.enter_async_context(self._asgi.router.lifespan_context(self._asgi))
            yield

    def _forget(self) -> None:
        self._services = None

    @asynccontextmanager
    async def _opened(self, settings: Settings) -> AsyncIterator[Services]:
        yield self.services

    @property
    def services(self) -> Services:
        """The services themselves, for what has no method here. Raises RuntimeError unless it has
        started.
        """
        if self._services is None:
            raise RuntimeError(
                "Hotloop has not started; pass its lifespan to the application, or install it: "
                "FastAPI(lifespan=hot.lifespan) or hot.install(app)"
            )
        return self._services

    # --- calls: few items, computed at once -----------------------------------------------------

    async def call(self, workload: WorkloadFunction[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Compute one item, and return what the function returns. Arguments are those of the
        function, columns and parameters; scratch is left out.

        Raises ItemFailedError if the function raises, kernels.InvalidInputError, TooBusyError,
        NotReadyError and CallTimeoutError.
        """
        return await self.caller(workload)(*args, **kwargs)

    def caller(
        self, workload: WorkloadFunction[P, R], *, kernel: str = AUTO, record: str = Record.DURABLE
    ) -> Callable[P, Awaitable[R]]:
        """Return a function that does what `call` does, with another kernel or record."""
        names = [column.name for column in workload.declaration.columns_in]
        outputs = [column.name for column in workload.declaration.columns_out]

        async def compute(*args: P.args, **kwargs: P.kwargs) -> R:
            given = workload.arguments(args, kwargs)
            columns = {name: [given.pop(name)] for name in names if name in given}
            found = await self.call_many(workload, columns, given, kernel=kernel, record=record)
            if found.failed[0]:
                raise ItemFailedError(found.errors[0].reason)
            values = tuple(found.columns[name][0].item() for name in outputs)
            return cast("R", values[0] if len(values) == 1 else values)

        return compute

    async def call_many(
        self,
        workload: Function | str,
        columns: Values,
        parameters: Mapping[str, Any] | None = None,
        *,
        kernel: str = AUTO,
        record: str = Record.DURABLE,
    ) -> Results:
        """Compute a few items. Calls that come at the same time share a kernel call; what is
        predicted to take longer than 5 ms is executed as a run.

        Raises what `call` raises, and the errors of `run`.
        """
        services, declared = self.services, await self._declared(workload)
        items = _items(declared, columns)
        request = CallRequest.model_construct(
            items=items,
            parameters=declared.resolve_parameters(parameters),
            kernel=kernel,
            record=_word("record", record, Record),
        )
        if (ready := services.calls.short(declared, request)) is not None:
            return _results(await services.calls.compute(ready, request))
        answer = await while_connected(services.calls.call(declared, request))
        if isinstance(answer, AcceptedRun):
            return await self.result(answer.task_id)
        return _results(answer)

    # --- runs and tasks -------------------------------------------------------------------------

    async def run(
        self,
        workload: Function | str,
        columns: Values,
        parameters: Mapping[str, Any] | None = None,
        *,
        strategy: str = AUTO,
        **options: Any,
    ) -> Results:
        """Execute a run over the items, and return their outputs. `options` are fields of a run's
        body: `kernel`, `workers`, `batch_size`, `timeout_seconds`, … A cancelled run ends within
        a second, and so does one in a request whose client leaves, after `install`.

        Raises InvalidRequestError, kernels.InvalidInputError, TooBusyError, NotReadyError,
        StoreError and RunError.
        """
        services, declared = self.services, await self._declared(workload)
        request = _request(RunRequest, declared, columns, parameters, options)
        runs = services.runs
        run = (
            runs.run_fastest(request)
            if strategy == AUTO
            else runs.run(_word("strategy", strategy, StrategyName), request)
        )
        result = await while_connected(run)
        return await self.result(result.task_id)

    async def submit(
        self,
        workload: Function | str,
        columns: Values,
        parameters: Mapping[str, Any] | None = None,
        *,
        strategy: str = AUTO,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> str:
        """Accept a background task, which is executed even if this process dies, and return its id.
        Raises the errors of `run`, and IdempotencyConflictError.
        """
        services, declared = self.services, await self._declared(workload)
        asked = {"strategy": strategy, **options}
        request = _request(BackgroundRequest, declared, columns, parameters, asked)
        return (await services.background.accept(request, idempotency_key)).task_id

    async def result(self, task_id: str) -> Results:
        """Wait until a task has ended, and return its outputs. Raises RunError if it did not
        complete, TaskNotFoundError and StoreError.
        """
        services = self.services
        task = await services.tasks.get(task_id)
        if task.status not in FINISHED:
            async for _ in self.events(task_id):
                pass
            task = await services.tasks.get(task_id)
        if task.status is TaskStatus.CANCELLED:
            raise RunCancelledError
        if task.status is TaskStatus.FAILED:
            raise RunError(task.error_message)
        rows = await in_store_thread(services.store.all_results, task_id)
        errors = [] if task.result is None else task.result.errors
        return Results(
            columns=rows.columns,
            failed=rows.failed,
            errors=tuple(ItemError(e.item_id, e.stage, e.reason) for e in errors),
            kernel=task.kernel or "",
            task_id=task_id,
            item_ids=rows.item_ids,
        )

    async def events(self, task_id: str) -> AsyncGenerator[TaskProgress, None]:
        """Yield the state of a task now, and after each change until it has ended. Raises
        TaskNotFoundError.
        """
        async with aclosing(self.services.background.events(task_id, None)) as events:
            async for event in events:
                yield event.data
                if event.data.status in FINISHED:
                    return

    async def cancel(self, task_id: str) -> None:
        """Cancel a task, and return when it has ended. Raises TaskNotFoundError, StoreError."""
        await self.services.tasks.cancel(task_id)

    async def resume(self, task_id: str) -> None:
        """Go on with a failed or cancelled task. Raises TaskNotFoundError, TaskConflictError."""
        await self.services.background.resume(task_id)

    async def retry_failed(self, task_id: str) -> None:
        """Try the failed items of a completed task again. Raises TaskNotFoundError,
        TaskConflictError.
        """
        await self.services.background.retry_failed(task_id)

    async def _declared(self, workload: Function | str) -> kernels.Workload:
        """Return the workload as run hosts know it. Raises NotReadyError, with the reason why it
        cannot be used.
        """
        catalogue = self.services.catalogue
        name = workload if isinstance(workload, str) else workload.name
        while name not in kernels.workloads():
            if not catalogue.is_loading:
                reasons = [f"{each.target}: {each.reason}" for each in catalogue.own if each.reason]
                known = ", ".join(kernels.workloads())
                why = "; ".join(reasons) or f"pass it to Hotloop(…); there are: {known}"
                raise NotReadyError(f"the workload {name!r} is not available: {why}", 1)
            await catalogue.changed()
        return kernels.get_workload(name)


def target_of(workload: Function) -> str:
    """Return the target by which other processes find a workload: its file and name."""
    function = workload.function
    return f"{function.__code__.co_filename}:{function.__name__}"


def _settings(targets: tuple[str, ...], given: Mapping[str, Any]) -> Settings:
    """Return the settings, with the environment's workloads besides the targets."""
    asked = _OWN_DEFAULTS | dict(given)
    settings = load_settings(**asked)
    workloads = tuple(dict.fromkeys((*targets, *settings.workloads)))
    return load_settings(**(asked | {"workloads": workloads}))


def _word(field: str, given: str, words: type[W]) -> W:
    """Return the word. Raises InvalidRequestError for another one."""
    try:
        return words(given)
    except ValueError:
        text = f"{given!r} is unknown; choose from: {', '.join(words)}"
        raise InvalidRequestError(field, text) from None


def _items(workload: kernels.Workload, columns: Values) -> ItemColumns:
    """Return the items of a table. Raises InvalidRequestError, kernels.InvalidColumnError."""
    columns = columns_of(columns)
    arrays = {
        column.name: converted(column, columns[column.name]) if column.name in columns else None
        for column in workload.columns_in
    }
    given = {**columns, **{name: array for name, array in arrays.items() if array is not None}}
    checked = checked_inputs(workload.columns_in, given)
    count = len(next(iter(checked.values())))
    return ItemColumns(np.arange(count, dtype=np.int64), checked)


def _request(
    model: type[T],
    workload: kernels.Workload,
    columns: Values,
    parameters: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> T:
    """Return the request of a run. Raises InvalidRequestError for an option."""
    asked = {"db": "none", "cache": "none", **options}
    resolved = workload.resolve_parameters(parameters)
    items = _items(workload, columns)
    try:
        request = request_model(model, workload.name)(
            workload=workload.name, parameters=resolved, **asked
        )
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        field = ".".join(map(str, fault["loc"]))
        raise InvalidRequestError(field, describe(fault)) from None
    return request.model_copy(update={"items": items})


def _results(answer: CallAnswer) -> Results:
    return Results(
        answer.columns, answer.failed, tuple(answer.errors), answer.kernel, answer.task_id
    )
