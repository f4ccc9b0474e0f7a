"""A comparison as a task's spec keeps it, and the request that it was made of."""

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
"""Items of a body that are repeated in the command that runs the winner."""

_OWN: Final = {"strategies", "kernels", "rounds", "exact"} | {
    *("budget_seconds", "setup_budget_seconds")
}
"""The options of a comparison beside those of a run."""

_SHOWN: Final = "shown_items"


def compare_spec(request: CompareRequest) -> dict[str, Any]:
    """As JSON; `request` is resolved. Its items are kept apart, but for a few."""
    kind = InputKind.GENERATED if request.items is None else InputKind.ITEMS
    few = request.items is not None and len(request.items) <= _SHOWN_ITEMS
    shown = list(request.items or ()) if few else None
    extra = {"items_count": request.total_items, _SHOWN: shown}
    own = request.model_dump(mode="json", include=_OWN)
    return spec_of(request, kind).to_json() | own | extra


def compare_request_of(spec: Mapping[str, Any]) -> CompareRequest:
    """The resolved request, with the number of its items instead of them. Raises
    UnreadableTaskError.
    """
    return request_of(spec, CompareRequest)


def compare_hash(request: CompareRequest) -> str:
    """The same for requests that ask for the same."""
    return hashlib.sha256(f"compare {request_hash(request)}".encode()).hexdigest()


def run_body(spec: Mapping[str, Any], kernel: str) -> dict[str, Any] | None:
    """The body of the run that a cell is, without what is the default anyway; None when its items
    are too many to repeat.
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
