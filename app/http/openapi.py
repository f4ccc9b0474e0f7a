"""The OpenAPI description, completed with what FastAPI cannot derive."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from hotloop.app.schemas.comparison import CompareRequest
from hotloop.app.schemas.problems import Problem
from hotloop.app.schemas.runs import BackgroundRequest, RunRequest, request_models
from hotloop.app.schemas.tasks import TaskProgress

DESCRIPTION: Final = """\
CPU-heavy work behind FastAPI: any strategy, any kernel, measured, off the event loop.

Start with `POST /api/v1/tasks/hybrid` and the body `{"items_count": 100, "db_delay_ms": 10}`.

* A **workload** is what is computed for an item, a **kernel** implements it, a **strategy**
  executes the items batch by batch.
* Times are UTC; a field ending in `_seconds` is in seconds, in `_ms` in milliseconds, in `_bytes`
  in bytes.
* Every error is a problem (`application/problem+json`) that says what to do instead.
"""

TAGS: Final[list[dict[str, Any]]] = [
    {"name": "runs", "description": "Run now and answer with the result."},
    {"name": "background", "description": "Tasks that are accepted now and executed later."},
    {"name": "comparisons", "description": "Strategies × kernels, measured side by side."},
    {"name": "recommendations", "description": "The fastest ways to run something, predicted."},
    {"name": "tasks", "description": "Strategies, kernels, and the state of a task."},
    {"name": "results", "description": "Tasks that are kept, and every item's result."},
    {"name": "service", "description": "What the service is, and how it is."},
]


def complete_openapi(app: FastAPI) -> None:
    """Have `app.openapi()` add the models that routes refer to by name. Its first call takes some
    tenths of a second: a server makes it before it serves.
    """
    derive = app.openapi

    @cache
    def complete() -> dict[str, Any]:
        return _completed(derive())

    app.openapi = complete  # type: ignore[method-assign]  # as FastAPI's own guide has it


def _completed(description: dict[str, Any]) -> dict[str, Any]:
    _, schema = models_json_schema(
        [
            (Problem, "serialization"),
            *(
                (model, "validation")
                for base in (RunRequest, BackgroundRequest, CompareRequest)
                for model in request_models(base).values()
            ),
            (TaskProgress, "serialization"),
        ],
        ref_template="#/components/schemas/{model}",
    )
    for content in _contents(description):
        if "itemSchema" in content:
            del content["schema"]  # which FastAPI gives as text; it would be that of all items
    components = description.setdefault("components", {}).setdefault("schemas", {})
    for name, model in schema["$defs"].items():
        components.setdefault(name, model)
    return description


def _contents(description: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Of all answers, each media type's."""
    for path in description["paths"].values():
        for operation in path.values():
            for answer in operation["responses"].values():
                yield from answer.get("content", {}).values()
