"""Comparisons: `POST /api/v1/tasks/compare`."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError

from hotloop.app import errors
from hotloop.app.http.access import ClientDep
from hotloop.app.http.dependencies import StateDep
from hotloop.app.http.error_handlers import problem_responses
from hotloop.app.http.routes.accepted import ACCEPTED_AS_PREFERRED, SUBMIT_ERRORS, accepted
from hotloop.app.http.routes.base_url import base_url_of
from hotloop.app.http.routes.disconnect import run_while_connected
from hotloop.app.http.routes.header_values import IdempotencyKeyDep
from hotloop.app.http.routes.paths import TASKS
from hotloop.app.http.routes.prefer import VARY_HEADER, PrefersAsyncDep
from hotloop.app.http.routes.run_body import COMPARE_BODY_SCHEMA, read_compare_request
from hotloop.app.schemas.comparison import CompareQuery, CompareRequest, Comparison
from hotloop.app.wording import RULE

router = APIRouter(prefix=TASKS, tags=["comparisons"])

_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The comparison has completed.", "headers": VARY_HEADER},
    202: ACCEPTED_AS_PREFERRED,
}


async def get_compare_request(
    query: Annotated[CompareQuery, Query()],
    body: Annotated[CompareRequest, Depends(read_compare_request)],
) -> CompareRequest:
    """The body with the fields of the query in it. Raises RequestValidationError for a field that
    is in both.
    """
    given = query.model_dump(exclude_none=True)
    for name in given:
        if name in body.model_fields_set:
            raise _refused(name, "is in the body, too; leave it out of one of the two")
    if "items_count" in given and body.items is not None:
        raise _refused("items_count", "cannot be given together with items; leave it out")
    return body.model_copy(update=given)


def _refused(name: str, text: str) -> RequestValidationError:
    return RequestValidationError(
        [{"type": RULE, "loc": ("query", name), "msg": text, "input": None}]
    )


@router.post(
    "/compare",
    response_model=Comparison,
    operation_id="compare",
    summary="Compare strategies × kernels",
    openapi_extra=COMPARE_BODY_SCHEMA,
    responses={
        **_ANSWERS,
        **problem_responses(
            415,
            errors.EstimateTooLongError,
            *SUBMIT_ERRORS,
            errors.RunCancelledError,
            errors.OutputsDifferError,
            errors.NothingMeasuredError,
            errors.RunHostDiedError,
        ),
    },
)
async def compare(
    idempotency_key: IdempotencyKeyDep,
    prefers_async: PrefersAsyncDep,
    asked: Annotated[CompareRequest, Depends(get_compare_request)],
    client: ClientDep,
    state: StateDep,
    request: Request,
    response: Response,
) -> Comparison | Response:
    """Measure every strategy on every kernel, several times in shuffled order, and say which is the
    fastest, if that can be told.

    The body may be left out. A cell that is too slow for the budget is measured on fewer items and
    marked as projected. A client that goes away cancels its comparison. With
    `Prefer: respond-async` it becomes a background task, whose status shows what was measured so
    far.
    """
    base_url = base_url_of(request, state.settings)
    comparisons = state.services.comparisons
    if prefers_async:
        task = await comparisons.submit(asked, base_url, idempotency_key, client.id)
        return accepted(task, as_preferred=True)
    response.headers["Vary"] = "Prefer"
    return await run_while_connected(request, comparisons.compare(asked, base_url, client.id))
