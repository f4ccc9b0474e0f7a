"""Answers to errors, as problems (RFC 9457): one table from error class to status, kind, title."""

from __future__ import annotations

import http
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import compile_path

from hotloop.app import errors
from hotloop.app.http.answers import path_of, task_links
from hotloop.app.names import StrategyName, is_task_id
from hotloop.app.schemas.base import FieldProblem, Problem, ProblemLinks
from hotloop.app.wording import RULE, describe, plain
from hotloop.kernels.errors import InvalidInputError

MEDIA_TYPE: Final = "application/problem+json"

CHALLENGE: Final = 'ApiKey realm="hotloop", header="X-API-Key", Bearer realm="hotloop"'

_MAX_FAULTS: Final = 20
_MAX_DETAIL: Final = 1_000
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """The members that all occurrences of a problem share."""

    status: int
    name: str
    title: str

    @property
    def type(self) -> str:
        # A name, not an address: it is valid wherever the service is mounted.
        return f"urn:hotloop:problem:{self.name}"


_INVALID: Final = ProblemKind(422, "invalid-request", "The request is not valid")

ERROR_KINDS: Final[Mapping[type[Exception], ProblemKind]] = {
    RequestValidationError: _INVALID,
    InvalidInputError: _INVALID,
    errors.InvalidRequestError: _INVALID,
    errors.BadRowError: ProblemKind(422, "bad-row", "A row of the upload cannot be used"),
    errors.EstimateTooLongError: ProblemKind(
        422, "estimate-too-long", "The run is too long for a synchronous one"
    ),
    errors.MemoryBudgetError: ProblemKind(
        422, "memory-budget", "The run would need more memory than it may"
    ),
    errors.IdempotencyConflictError: ProblemKind(
        422, "idempotency-conflict", "The idempotency key belongs to another request"
    ),
    errors.PayloadTooLargeError: ProblemKind(413, "payload-too-large", "The body is too large"),
    errors.BodyTooSlowError: ProblemKind(408, "body-too-slow", "The body came too slowly"),
    errors.UnauthorizedError: ProblemKind(401, "unauthorized", "The service must know who asks"),
    errors.ForbiddenError: ProblemKind(403, "forbidden", "The request is not allowed"),
    errors.MissingScopeError: ProblemKind(403, "missing-scope", "The client may not do this"),
    errors.TaskNotFoundError: ProblemKind(404, "task-not-found", "There is no such task"),
    errors.TaskConflictError: ProblemKind(
        409, "task-conflict", "The state of the task does not allow this"
    ),
    errors.TooManyBeginningsError: ProblemKind(
        409, "too-many-beginnings", "The task began too often without progress"
    ),
    errors.TooBusyError: ProblemKind(503, "too-busy", "There is no place for another run now"),
    errors.KeyInUseError: ProblemKind(
        503, "key-in-use", "The first request with this key is still coming in"
    ),
    errors.RateLimitedError: ProblemKind(429, "rate-limited", "The client asks too often"),
    errors.ClientLimitError: ProblemKind(
        429, "client-limit", "The client has as much work waiting as it may have"
    ),
    errors.ClientStorageError: ProblemKind(
        507, "client-storage", "The client stores as much as it may"
    ),
    errors.NotReadyError: ProblemKind(503, "not-ready", "The service is not ready yet"),
    errors.StoreError: ProblemKind(503, "store-unavailable", "The task store cannot be used"),
    errors.DamagedFileError: ProblemKind(
        503, "damaged-file", "A file in the data folder is not as it was written"
    ),
    errors.StoreUnavailableError: ProblemKind(
        503, "store-unreachable", "The task store cannot be reached now"
    ),
    errors.RunError: ProblemKind(500, "run-failed", "The run failed"),
    errors.RunTimeoutError: ProblemKind(504, "run-timeout", "The run took too long"),
    errors.CallTimeoutError: ProblemKind(504, "call-timeout", "The call took too long"),
    errors.ItemFailedError: ProblemKind(500, "item-failed", "The item failed"),
    errors.RunCancelledError: ProblemKind(409, "run-cancelled", "The run was cancelled"),
    # Items fail at a database or cache behind the service, or in a user's function: the request is
    # valid and may succeed later.
    errors.ErrorRateExceededError: ProblemKind(502, "error-rate-exceeded", "Too many items failed"),
    errors.WorkloadUnusableError: ProblemKind(
        500, "workload-unusable", "The code of the workload cannot be run"
    ),
    errors.OutOfMemoryError: ProblemKind(
        500, "out-of-memory", "The workload needs more memory than it may take"
    ),
    errors.WorkerCrashedError: ProblemKind(500, "worker-crashed", "A worker process died"),
    errors.ClusterLostError: ProblemKind(503, "cluster-lost", "The cluster is lost"),
    errors.ClusterUnusableError: ProblemKind(
        500, "cluster-unusable", "The cluster's workers cannot execute the run"
    ),
    errors.RunHostDiedError: ProblemKind(500, "run-host-died", "The process of the run died"),
    errors.UnreadableTaskError: ProblemKind(
        500, "unreadable-task", "The stored task cannot be read"
    ),
    errors.OutputsDifferError: ProblemKind(
        500, "outputs-differ", "Outputs that must be equal are not"
    ),
    errors.NothingMeasuredError: ProblemKind(
        503, "nothing-measured", "No cell of the comparison could be measured"
    ),
    errors.ServiceError: ProblemKind(500, "service-error", "The service failed"),
    Exception: ProblemKind(500, "internal-error", "The service has a fault"),
}
"""The kind of each error; an error without an entry has its nearest base class's."""

HTTP_KINDS: Final[Mapping[int, ProblemKind]] = {
    400: ProblemKind(400, "bad-request", "The request cannot be read"),
    408: ProblemKind(408, "request-too-slow", "The request did not arrive in time"),
    431: ProblemKind(431, "headers-too-large", "The request line or headers are too large"),
    404: ProblemKind(404, "not-found", "There is nothing here"),
    405: ProblemKind(405, "method-not-allowed", "This method is not allowed here"),
    406: ProblemKind(406, "not-acceptable", "None of the accepted media types is offered"),
    415: ProblemKind(
        415, "unsupported-media-type", "The body's media type or coding is not supported"
    ),
}
"""Problems of HTTP itself, raised as HTTPException."""


def kind_of(error: Exception) -> ProblemKind:
    """Return the kind of an error, from the tables; an HTTPException with another status gets a
    generic kind.
    """
    if isinstance(error, HTTPException):
        status = error.status_code
        phrase = http.HTTPStatus(status).phrase
        return HTTP_KINDS.get(status) or ProblemKind(status, f"http-{status}", phrase)
    return next(ERROR_KINDS[cls] for cls in type(error).__mro__ if cls in ERROR_KINDS)


def problem_response(request: Request, error: Exception, error_id: str | None = None) -> Response:
    """Return the answer to an error, with its headers. `error_id` names the entry in the log."""
    if _names_unknown_workload(error) and _is_loading(request):
        text = "own workloads are still being loaded; ask again, or GET /api/v1/tasks/kernels"
        error = errors.NotReadyError(text, 1)
    kind = kind_of(error)
    problem = Problem(
        type=kind.type,
        title=kind.title,
        status=kind.status,
        instance=quote(request.url.path[:200], errors="replace"),
        error_id=error_id,
        **_members(request, error),
    )
    headers = dict(getattr(error, "headers", None) or {})
    if isinstance(error, errors.TooBusyError | errors.StoreUnavailableError):
        headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, errors.UnauthorizedError):
        headers["WWW-Authenticate"] = CHALLENGE
    if isinstance(
        error, errors.PayloadTooLargeError | errors.BodyTooSlowError | errors.ClientStorageError
    ):
        # The rest of the body is not read, so the connection cannot carry another request.
        headers["Connection"] = "close"
    if kind.status == 405 and "Allow" in headers:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    return Response(
        problem.model_dump_json(exclude_none=True),
        status_code=kind.status,
        headers=headers,
        media_type=MEDIA_TYPE,
    )


def _names_unknown_workload(error: Exception) -> bool:
    if isinstance(error, RequestValidationError):
        return any(fault["loc"][-1:] == ("workload",) for fault in error.errors())
    return isinstance(error, errors.InvalidRequestError) and error.field == "workload"


def _is_loading(request: Request) -> bool:
    shared = getattr(request.app.state, "shared", None)
    return shared is not None and shared.services.kernels.is_loading


def _without_consequences(faults: Sequence[Any]) -> list[Any]:
    """Drop pydantic's spurious `too_short` for a list whose entries were already rejected."""
    within = {fault["loc"][:-1] for fault in faults}
    return [fault for fault in faults if fault["type"] != "too_short" or fault["loc"] not in within]


def _members(request: Request, error: Exception) -> dict[str, Any]:
    """Return `detail`, and the members that only some problems have."""
    if isinstance(error, RequestValidationError):
        faults = _without_consequences(error.errors())
        return _faulty([_validation_fault(fault) for fault in faults[:_MAX_FAULTS]], len(faults))
    if isinstance(error, HTTPException):
        return {"detail": _http_detail(request, error)}
    if not isinstance(error, errors.ServiceError | InvalidInputError):
        return {"detail": errors.internal_text(error)}
    members: dict[str, Any] = {"detail": plain(error, _MAX_DETAIL)}
    if isinstance(error, errors.InvalidRequestError):
        place = (error.line, error.column) if isinstance(error, errors.BadRowError) else ()
        members |= _faulty([_fault(error.field, error.text, *place)])
    match error:
        case errors.EstimateTooLongError():
            members["estimate_seconds"] = error.estimate_seconds
            members["limit_seconds"] = error.limit_seconds
        case errors.MemoryBudgetError():
            members["needed_bytes"] = error.needed_bytes
            members["limit_bytes"] = error.limit_bytes
        case InvalidInputError():
            members["errors"] = [_fault(error.field, error.message)]
        case errors.ClientStorageError():
            members["needed_bytes"] = error.stored_bytes + error.asked_bytes
            members["limit_bytes"] = error.limit_bytes
        case errors.TooBusyError() | errors.StoreUnavailableError():
            members["retry_after_seconds"] = error.retry_after_seconds
        case errors.IdempotencyConflictError() | errors.TaskConflictError() | errors.RunError():
            members |= _task(request, error.task_id)
    return members


def _faulty(faults: list[FieldProblem], total: int = 1) -> dict[str, Any]:
    first = faults[0]
    more = f" (and {total - 1:,} more)" if total > 1 else ""
    detail = plain(f"{first.field}: {first.message}{more}", _MAX_DETAIL)
    return {"detail": detail, "errors": faults}


def _fault(
    field: str, text: str, line: int | None = None, column: str | None = None
) -> FieldProblem:
    return FieldProblem(
        field=plain(field),
        message=plain(text, _MAX_DETAIL),
        line=line,
        column=None if column is None else plain(column),
    )


def _validation_fault(error: Mapping[str, Any]) -> FieldProblem:
    # The first part is the place of the field: body, query or path.
    place, *way = error["loc"]
    if error["type"] == RULE and "field" in error.get("ctx", {}):
        way.append(error["ctx"]["field"])
    return _fault(".".join(map(str, way)) or place, describe(error))


def _task(request: Request, task_id: str | None) -> dict[str, Any]:
    if task_id is None:
        return {}
    links = task_links(request, task_id)
    return {
        "task_id": task_id,
        "links": ProblemLinks(status=links.status, results=links.results),
    }


def _http_detail(request: Request, error: HTTPException) -> str:
    if error.detail != http.HTTPStatus(error.status_code).phrase:
        return plain(error.detail, _MAX_DETAIL)
    if error.status_code == 404:
        return "nothing is at this path; list the paths with GET /"
    if error.status_code == 405:
        allowed = ", ".join(_allowed_methods(request))
        return f"{plain(request.method)} is not allowed here; use {allowed}"
    return plain(error.detail)


def _allowed_methods(request: Request) -> list[str]:
    """Return all methods of the path; Starlette's router names the methods of one route only.

    A route that matches only with a strategy or task id that cannot exist does not count: it would
    answer 404 to any method.
    """
    path = path_of(request.scope)
    served = {
        method
        for context in iter_route_contexts(request.app.routes)
        if (found := compile_path(str(context.path))[0].match(path))
        and all(_can_be(name, value) for name, value in found.groupdict().items())
        for method in getattr(context.original_route, "methods", None) or ()
    }
    allowed = [method for method in _METHODS if method in served]
    # A path that answers GET answers HEAD, see `hotloop.app.http.guards.answers`.
    return ["GET", "HEAD", *allowed[1:]] if allowed[:1] == ["GET"] else allowed


def _can_be(parameter: str, value: str) -> bool:
    if parameter == "strategy":
        return value in set(StrategyName)
    return parameter != "task_id" or is_task_id(value)


async def answer_problem(request: Request, error: Exception) -> Response:
    """Answer an error that ERROR_KINDS has."""
    return problem_response(request, error)


async def _answer_unexpected(request: Request, error: Exception) -> Response:
    error_id = uuid.uuid4().hex
    logger.error(
        "error %s at %s %s", error_id, request.method, plain(request.url.path), exc_info=error
    )
    return problem_response(request, error, error_id)


async def answer_nobody(request: Request, error: Exception) -> Response:
    # The client is gone. The status, as nginx has it, shows in the access log only.
    return Response(status_code=499)


def install_error_handlers(app: FastAPI) -> None:
    """Have `app` answer every error of its routes with a problem."""
    for error in ERROR_KINDS:
        handler = _answer_unexpected if error is Exception else answer_problem
        app.add_exception_handler(error, handler)
    app.add_exception_handler(HTTPException, answer_problem)
    app.add_exception_handler(ClientDisconnect, answer_nobody)
