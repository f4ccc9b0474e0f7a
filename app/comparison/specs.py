"""The stored spec of a comparison, and the request that can be read from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from hotloop.app.execution.specs import request_hash, request_of, spec_of
from hotloop.app.schemas.comparison import CompareRequest
from hotloop.app.schemas.runs import RunRequest, read_request
from hotloop.app.tasks.spec import InputKind

_SHOWN_ITEMS: Final = 20
"""Most items of a body that the command for running the winner repeats."""

_OWN: Final = {"strategies", "kernels", "rounds", "exact"} | {
    *("budget_seconds", "setup_budget_seconds")
}
"""Names of the options that comparisons have and runs do not."""

_SHOWN: Final = "shown_items"
_ANY_WORKERS: Final = "any_workers"
"""Key of whether the client left the number of workers open, so that a cluster uses all."""


def compare_spec(request: CompareRequest) -> dict[str, Any]:
    """Return the spec of a resolved request as JSON, with its items only if they are few."""
    kind = InputKind.GENERATED if request.items is None else InputKind.ITEMS
    few = request.items is not None and len(request.items) <= _SHOWN_ITEMS
    shown = list(request.items or ()) if few else None
    extra = {"items_count": request.total_items, _SHOWN: shown}
    extra[_ANY_WORKERS] = "workers" not in request.model_fields_set
    own = request.model_dump(mode="json", include=_OWN)
    return spec_of(request, kind).to_json() | own | extra


def compare_request_of(spec: Mapping[str, Any]) -> CompareRequest:
    """Return the resolved request, with its number of items instead of the items. Raises
    UnreadableTaskError.
    """
    request = request_of(spec, CompareRequest)
    if spec.get(_ANY_WORKERS):
        request.model_fields_set.discard("workers")
    return request


def compare_hash(request: CompareRequest) -> str:
    """Return a hash that is equal for equal requests."""
    return hashlib.sha256(f"compare {request_hash(request)}".encode()).hexdigest()


def run_body(spec: Mapping[str, Any], kernel: str) -> dict[str, Any] | None:
    """Return the body of a run like the cell, without default values; None if the items are too
    many to repeat.
    """
    from_body = spec["input"]["kind"] == InputKind.ITEMS
    if from_body and spec[_SHOWN] is None:
        return None
    items: dict[str, Any] = (
        {"items": spec[_SHOWN]} if from_body else {"items_count": spec["items_count"]}
    )
    given = {name: spec[name] for name in RunRequest.model_fields if name in spec}
    del given["items_count"]
    asked = json.dumps(given | items | {"kernel": kernel})
    request = read_request(RunRequest, asked, ignore_unknown=True)
    body = request.model_dump(mode="json", exclude_defaults=True, exclude={"parameters"})
    body |= {"kernel": kernel}
    if request.changed_parameters:
        body["parameters"] = request.changed_parameters
    for stage, source in (("db", request.db_source), ("cache", request.cache_source)):
        default = "none" if from_body else "simulated"
        if source == default:
            body.pop(stage, None)
    return items | body
