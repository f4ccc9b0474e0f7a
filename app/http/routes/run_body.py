"""The body of a run, parsed and checked in one pass over its bytes."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError

from hotloop.app.http.access import ClientDep
from hotloop.app.http.routes.body_reader import BodyReader, Faults, refused
from hotloop.app.http.routes.media_types import JSON, require_content_type
from hotloop.app.schemas.comparison import CompareRequest
from hotloop.app.schemas.runs import BackgroundRequest, RunRequest, request_models
from hotloop.app.security.clients import Client

_HINT: Final = "with curl: -H 'Content-Type: application/json' -d '{}'"

Body = TypeVar("Body", bound=RunRequest)


def _body_schema(model: type[RunRequest], *, required: bool = True) -> dict[str, Any]:
    refs = {
        name: f"#/components/schemas/{made.__name__}"
        for name, made in request_models(model).items()
    }
    schema: dict[str, Any] = {"$ref": next(iter(refs.values()))}
    if len(refs) > 1:
        schema = {
            "oneOf": [{"$ref": ref} for ref in refs.values()],
            "discriminator": {"propertyName": "workload", "mapping": refs},
        }
    return {"requestBody": {"required": required, "content": {JSON: {"schema": schema}}}}


RUN_BODY_SCHEMA: Final = _body_schema(RunRequest)
BACKGROUND_BODY_SCHEMA: Final = _body_schema(BackgroundRequest)
COMPARE_BODY_SCHEMA: Final = _body_schema(CompareRequest, required=False)
"""The `openapi_extra=` of a route that reads such a body."""


async def read_run_request(request: Request, client: ClientDep) -> RunRequest:
    return await _read(request, client, RunRequest)


async def read_background_request(request: Request, client: ClientDep) -> BackgroundRequest:
    return await _read(request, client, BackgroundRequest)


async def read_compare_request(request: Request, client: ClientDep) -> CompareRequest:
    """No body at all is `{}`: the query may say everything."""
    if not await request.body():
        return CompareRequest()
    return await _read(request, client, CompareRequest)


async def _read(request: Request, client: Client, model: type[Body]) -> Body:
    """Raises RequestValidationError, a 415, NotReadyError, or PayloadTooLargeError from the body's
    bound.

    The bytes go to pydantic as they are: with FastAPI's own body parameter they would pass
    through `json.loads`, whose errors on deep nesting and long integers become 400s, and whose
    NaN is not JSON; and 100,000 rows would take twice as long.
    """
    body = await request.body()
    if not body:
        raise RequestValidationError(refused("is empty; send {} for the defaults").faults)
    require_content_type(request, (JSON,), _HINT)
    reader: BodyReader = request.app.state.bodies
    read = await reader.read(model, body, client.id)
    if isinstance(read, Faults):
        raise RequestValidationError(read.faults)
    return read


RunRequestDep = Annotated[RunRequest, Depends(read_run_request)]
BackgroundRequestDep = Annotated[BackgroundRequest, Depends(read_background_request)]
