"""The body of a run, parsed and checked in one pass over its bytes."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from app.routes.media_types import JSON, require_content_type
from app.schemas.comparison import CompareRequest
from app.schemas.runs import BackgroundRequest, RunRequest
from app.wording import RULE

_MAX_LISTED: Final = 1_000

_HINT: Final = "with curl: -H 'Content-Type: application/json' -d '{}'"

Body = TypeVar("Body", bound=RunRequest)


def _body_schema(model: type[RunRequest], *, required: bool = True) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": required, "content": {JSON: {"schema": schema}}}}


RUN_BODY_SCHEMA: Final = _body_schema(RunRequest)
BACKGROUND_BODY_SCHEMA: Final = _body_schema(BackgroundRequest)
COMPARE_BODY_SCHEMA: Final = _body_schema(CompareRequest, required=False)
"""The `openapi_extra=` of a route that reads such a body."""


async def read_run_request(request: Request) -> RunRequest:
    return await _read(request, RunRequest)


async def read_background_request(request: Request) -> BackgroundRequest:
    return await _read(request, BackgroundRequest)


async def read_compare_request(request: Request) -> CompareRequest:
    """No body at all is `{}`: the query may say everything."""
    return await _read(request, CompareRequest) if await request.body() else CompareRequest()


async def _read(request: Request, model: type[Body]) -> Body:
    """Raises RequestValidationError, a 415, or PayloadTooLargeError from the body's bound.

    The bytes go to pydantic as they are: with FastAPI's own body parameter they would pass
    through `json.loads`, whose errors on deep nesting and long integers become 400s, and whose
    NaN is not JSON; and 100,000 rows would take twice as long.
    """
    body = await request.body()
    if not body:
        raise _refused("is empty; send {} for the defaults")
    require_content_type(request, (JSON,), _HINT)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        # A hostile body has a million unknown fields; listing them would block the loop.
        if error.error_count() > _MAX_LISTED:
            raise _refused(f"has {error.error_count():,} faults") from None
        faults = error.errors(include_url=False)
    raise RequestValidationError([fault | {"loc": ("body", *fault["loc"])} for fault in faults])


def _refused(text: str) -> RequestValidationError:
    return RequestValidationError([{"type": RULE, "loc": ("body",), "msg": text, "input": None}])


RunRequestDep = Annotated[RunRequest, Depends(read_run_request)]
BackgroundRequestDep = Annotated[BackgroundRequest, Depends(read_background_request)]
