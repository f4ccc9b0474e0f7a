"""The queries that describe a run, read by the declaration of the workload that they name."""

from __future__ import annotations

from typing import Annotated, TypeVar

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from hotloop.app.schemas.queries import read_query
from hotloop.app.schemas.recommendation import RecommendationQuery
from hotloop.app.schemas.runs import UploadQuery, WorkloadOptions

Asked = TypeVar("Asked", bound=WorkloadOptions)


async def read_upload_query(request: Request) -> UploadQuery:
    return _read(request, UploadQuery)


async def read_recommendation_query(request: Request) -> RecommendationQuery:
    return _read(request, RecommendationQuery)


def _read(request: Request, model: type[Asked]) -> Asked:
    """Read the query. FastAPI takes a model that is known at the start, and workloads come and go.

    Raises RequestValidationError.
    """
    try:
        return read_query(model, request.query_params.multi_items())
    except ValidationError as error:
        faults = error.errors(include_url=False)
        raise RequestValidationError(
            [dict(fault) | {"loc": ("query", *fault["loc"])} for fault in faults]
        ) from None


UploadQueryDep = Annotated[UploadQuery, Depends(read_upload_query)]
RecommendationQueryDep = Annotated[RecommendationQuery, Depends(read_recommendation_query)]
