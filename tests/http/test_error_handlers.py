"""The table of problems, and what each error looks like to a client."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from hotloop.app import errors
from hotloop.app.factory import create_app
from hotloop.app.http.error_handlers import ERROR_KINDS, HTTP_KINDS, kind_of, problem_response
from hotloop.app.schemas.base import Problem
from hotloop.app.settings.settings import Settings
from hotloop.kernels.errors import InvalidColumnError
from tests.fixtures.client import open_client
from tests.fixtures.fake_services import TASK_ID, FakeServices


def subclasses(cls: type[Exception]) -> set[type[Exception]]:
    return {cls}.union(*(subclasses(child) for child in cls.__subclasses__()))


def request(path: str = "/api/v1/tasks/hybrid") -> Request:
    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b""}
    return Request(scope | {"server": ("test", 80), "scheme": "http"})


def answer(error: Exception, path: str = "/x") -> tuple[int, dict[str, Any], dict[str, str]]:
    response = problem_response(request(path), error)
    body = json.loads(bytes(response.body))
    Problem.model_validate(body)
    return response.status_code, body, dict(response.headers)


def run_error(error: errors.RunError) -> errors.RunError:
    error.task_id = TASK_ID
    return error


OCCURRENCES: tuple[tuple[Exception, int, str], ...] = (
    (errors.InvalidRequestError("kernel", "numba: no LLVM"), 422, "invalid-request"),
    (errors.BadRowError(3, "value", "must be a number"), 422, "bad-row"),
    (errors.EstimateTooLongError(400.5, 300.0, "Use less."), 422, "estimate-too-long"),
    (errors.MemoryBudgetError("workers", 9 << 30, 1 << 30), 422, "memory-budget"),
    (InvalidColumnError("value", "column 'value' is wrong"), 422, "invalid-request"),
    (errors.IdempotencyConflictError(TASK_ID), 422, "idempotency-conflict"),
    (errors.PayloadTooLargeError(10, "HOTLOOP_MAX_BODY_BYTES"), 413, "payload-too-large"),
    (errors.BodyTooSlowError(60), 408, "body-too-slow"),
    (errors.UnauthorizedError("send a key"), 401, "unauthorized"),
    (errors.ForbiddenError("not from there"), 403, "forbidden"),
    (errors.MissingScopeError("alice", "run"), 403, "missing-scope"),
    (errors.TaskNotFoundError("task_x"), 404, "task-not-found"),
    (errors.CallTimeoutError(5.0), 504, "call-timeout"),
    (errors.ItemFailedError("ValueError: no such price"), 500, "item-failed"),
    (errors.TaskConflictError(TASK_ID, "it is running"), 409, "task-conflict"),
    (errors.TooManyBeginningsError("task_x", 0, 20), 409, "too-many-beginnings"),
    (errors.UnreadableTaskError("its workers must be an integer"), 500, "unreadable-task"),
    (errors.TooBusyError("16 runs wait", 7), 503, "too-busy"),
    (errors.KeyInUseError("task_1"), 503, "key-in-use"),
    (errors.RateLimitedError("too often", 7), 429, "rate-limited"),
    (errors.ClientLimitError("too much", 30), 429, "client-limit"),
    (errors.ClientStorageError(9, 2, 10), 507, "client-storage"),
    (errors.NotReadyError("starting", 1), 503, "not-ready"),
    (errors.StoreError("the disk is full"), 503, "store-unavailable"),
    (errors.DamagedFileError("a file is damaged"), 503, "damaged-file"),
    (errors.StoreUnavailableError("no connection", 3), 503, "store-unreachable"),
    (run_error(errors.RunError("it failed")), 500, "run-failed"),
    (run_error(errors.RunTimeoutError(2.0)), 504, "run-timeout"),
    (run_error(errors.RunCancelledError()), 409, "run-cancelled"),
    (run_error(errors.ErrorRateExceededError(5, 10, 0.1)), 502, "error-rate-exceeded"),
    (run_error(errors.WorkloadUnusableError("put", "it has changed")), 500, "workload-unusable"),
    (run_error(errors.OutOfMemoryError("put", 1 << 29)), 500, "out-of-memory"),
    (run_error(errors.WorkerCrashedError(3, 4, "signal SIGKILL")), 500, "worker-crashed"),
    (run_error(errors.ClusterLostError("dask", "it is gone")), 503, "cluster-lost"),
    (run_error(errors.ClusterUnusableError("a worker has other code")), 500, "cluster-unusable"),
    (run_error(errors.RunHostDiedError(-9)), 500, "run-host-died"),
    (run_error(errors.OutputsDifferError("a × b", "checksums differ")), 500, "outputs-differ"),
    (run_error(errors.NothingMeasuredError("3 × no time")), 503, "nothing-measured"),
    (errors.ServiceError("it broke"), 500, "service-error"),
    (HTTPException(400), 400, "bad-request"),
    (HTTPException(404), 404, "not-found"),
    (HTTPException(406, "offered: x"), 406, "not-acceptable"),
    (HTTPException(415, "Content-Type must be x"), 415, "unsupported-media-type"),
    (HTTPException(418), 418, "http-418"),
    (ValueError("/etc/secret"), 500, "internal-error"),
)


@pytest.mark.parametrize(
    ("error", "status", "name"), OCCURRENCES, ids=lambda value: type(value).__name__
)
def test_each_error_has_its_status_and_type(error: Exception, status: int, name: str) -> None:
    got, body, headers = answer(error)
    assert got == body["status"] == status
    assert body["type"] == f"urn:hotloop:problem:{name}"
    assert body["title"]
    assert body["detail"]
    assert body["instance"] == "/x"
    assert headers["content-type"] == "application/problem+json"


def test_every_service_error_is_in_the_table_and_in_this_test() -> None:
    known = subclasses(errors.ServiceError)
    assert known <= set(ERROR_KINDS)
    assert known <= {type(error) for error, _, _ in OCCURRENCES}


def test_kinds_of_one_name_are_one_kind() -> None:
    kinds = [*ERROR_KINDS.values(), *HTTP_KINDS.values()]
    assert len({kind.name for kind in kinds}) == len(set(kinds))


def test_subclass_without_an_entry_has_that_of_its_base() -> None:
    class OddBusyError(errors.TooBusyError):
        pass

    assert kind_of(OddBusyError("odd", 1)).name == "too-busy"


def test_invalid_request_names_the_field() -> None:
    _, body, _ = answer(errors.InvalidRequestError("kernel", "numba: no LLVM"))
    assert body["detail"] == "kernel: numba: no LLVM"
    assert body["errors"] == [{"field": "kernel", "message": "numba: no LLVM"}]


def test_bad_row_names_line_and_column() -> None:
    _, body, _ = answer(errors.BadRowError(3, "value", "must be a number"))
    assert body["errors"] == [
        {
            "field": "line 3, column value",
            "message": "must be a number",
            "line": 3,
            "column": "value",
        }
    ]


def test_estimate_error_names_seconds() -> None:
    _, body, _ = answer(errors.EstimateTooLongError(400.5, 300.0, "Ask for fewer items."))
    assert (body["estimate_seconds"], body["limit_seconds"]) == (400.5, 300.0)
    assert body["detail"].endswith("Ask for fewer items.")


def test_memory_error_names_bytes() -> None:
    _, body, _ = answer(errors.MemoryBudgetError("workers", 9 << 30, 1 << 30))
    assert (body["needed_bytes"], body["limit_bytes"]) == (9 << 30, 1 << 30)
    assert "9,216 MiB of memory, over the 1,024 MiB" in body["detail"]
    (fault,) = body["errors"]
    assert fault["field"] == "workers"
    assert "HOTLOOP_MEMORY_BUDGET_BYTES" in fault["message"]


def test_idempotency_conflict_names_the_header_and_the_task_that_has_the_key() -> None:
    _, body, _ = answer(errors.IdempotencyConflictError(TASK_ID))
    (fault,) = body["errors"]
    assert fault["field"] == "Idempotency-Key"
    assert "use a new key" in fault["message"]
    assert body["task_id"] == TASK_ID
    assert body["links"]["status"] == f"/api/v1/tasks/status/{TASK_ID}"


def test_store_that_cannot_be_used_does_not_say_when_to_try_again() -> None:
    _, body, headers = answer(errors.StoreError("the disk is full"))
    assert "retry-after" not in headers
    assert "retry_after_seconds" not in body


@pytest.mark.parametrize(
    "cls", [errors.TooBusyError, errors.NotReadyError, errors.StoreUnavailableError]
)
def test_busy_service_says_when_to_try_again(
    cls: Callable[[str, int], errors.ServiceError],
) -> None:
    _, body, headers = answer(cls("16 runs wait", 7))
    assert headers["retry-after"] == "7"
    assert body["retry_after_seconds"] == 7


def test_failed_run_links_to_its_results() -> None:
    _, body, _ = answer(run_error(errors.RunHostDiedError(-9)))
    assert body["task_id"] == TASK_ID
    assert body["links"] == {
        "status": f"/api/v1/tasks/status/{TASK_ID}",
        "results": f"/api/v1/tasks/results/{TASK_ID}",
    }


def test_failed_run_without_a_task_has_no_links() -> None:
    _, body, _ = answer(errors.RunTimeoutError(1.0))
    assert "links" not in body
    assert "task_id" not in body


def test_too_large_body_closes_the_connection() -> None:
    _, _, headers = answer(errors.PayloadTooLargeError(10, "HOTLOOP_MAX_BODY_BYTES"))
    assert headers["connection"] == "close"


def test_headers_of_an_http_exception_are_kept() -> None:
    _, _, headers = answer(HTTPException(418, headers={"X-Kept": "yes"}))
    assert headers["x-kept"] == "yes"


def test_many_faults_are_cut_and_counted() -> None:
    faults = [{"type": "missing", "loc": ("body", i), "input": None} for i in range(50)]
    _, body, _ = answer(RequestValidationError(faults))
    assert len(body["errors"]) == 20
    assert body["detail"] == "0: is required (and 49 more)"


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidRequestError("\ud800" * 500, "\udfff" * 5_000),
        errors.BadRowError(1, "\ud800" * 500, "\0" * 5_000),
        errors.StoreError("\ud800" * 5_000),
        HTTPException(404, "\ud800" * 5_000),
        RequestValidationError(
            [{"type": "extra_forbidden", "loc": ("query", "\ud800" * 5_000), "input": b"\xff"}]
        ),
    ],
    ids=lambda error: type(error).__name__,
)
def test_hostile_text_is_cut_and_encodable(error: Exception) -> None:
    _, body, _ = answer(error, "/\ud800" * 5_000)
    assert len(json.dumps(body)) < 20_000
    assert body["instance"].isascii()


def test_unexpected_error_is_logged_under_its_id_and_not_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    services = FakeServices(error=ValueError("/etc/secret"))
    app = create_app(Settings(), services.open)
    with open_client(app) as client, caplog.at_level(logging.ERROR):
        response = client.delete("/api/v1/tasks/results")
    body = response.json()
    assert response.status_code == 500
    assert "secret" not in response.text
    (record,) = [
        record for record in caplog.records if record.name == "hotloop.app.http.error_handlers"
    ]
    assert body["error_id"] in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is services.error


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("POST", "/api/v1/tasks/sequential", {"json": {"workload": "mine"}}),
        ("GET", "/api/v1/tasks/recommendations", {"params": {"workload": "mine"}}),
    ],
)
def test_workload_that_may_still_be_found_is_to_be_asked_for_again(
    method: str, path: str, sent: dict[str, Any]
) -> None:
    services = FakeServices()
    with open_client(create_app(Settings(), services.open)) as client:
        assert client.request(method, path, **sent).status_code == 422
        services.is_loading = True
        answer = client.request(method, path, **sent)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert "still being loaded" in answer.json()["detail"]
        other = client.post("/api/v1/tasks/sequential", json={"workers": 0})
        assert other.status_code == 422
