"""What a task is, as the store keeps it: enough to execute a background task anywhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from hotloop.app.errors import UnreadableTaskError
from hotloop.app.names import StrategyName
from hotloop.app.prediction.memory import MemoryBudget
from hotloop.app.prediction.model import estimate_seconds
from hotloop.app.prediction.plans import BY_PREFERENCE, make_plan
from hotloop.app.runhost.calibrate.constants import Calibration
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.item_columns import ItemColumns
from hotloop.app.schemas.options import StrategyChoice
from hotloop.app.schemas.runs import RunRequest, UploadQuery
from hotloop.app.settings.settings import Settings
from hotloop.app.sources.base import Items
from hotloop.app.strategies.base import Plan
from hotloop.app.tasks.needs import SPEC_VERSION, VERSION_KEY
from hotloop.app.wording import describe

_NOT_KEPT: Final = {"items", "items_count", "strategy", *("cpu_iterations", "outer_iterations")} | {
    "inner_iterations"
}


def spec_of(request: RunRequest | UploadQuery) -> dict[str, Any]:
    """What was asked, as JSON, with the defaults that depend on where the items come from; the
    items themselves are kept apart.
    """
    return request.model_dump(mode="json", exclude=_NOT_KEPT) | {
        "parameters": request.parameters.model_dump(mode="json"),
        "db": request.db_source,
        "cache": request.cache_source,
        VERSION_KEY: SPEC_VERSION,
    }


def request_of(spec: Mapping[str, Any]) -> RunRequest:
    """The request that `spec_of` was made of, without its items. Raises UnreadableTaskError."""
    return read_spec(RunRequest, spec)


R = TypeVar("R", bound=RunRequest)


def read_spec(model: type[R], spec: Mapping[str, Any]) -> R:
    """The request in a stored spec; fields that this version does not know are left out.

    Raises UnreadableTaskError.
    """
    if not spec:
        raise UnreadableTaskError("its request is empty, or no JSON")
    asked = {name: spec[name] for name in model.model_fields if name in spec}
    try:
        return model.model_validate_json(json.dumps(asked), extra="ignore")
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "request"
        raise UnreadableTaskError(f"its {field} {describe(first)}") from error


def request_hash(request: RunRequest) -> str:
    """The same for requests that ask for the same."""
    # Items apart: JSON of 100,000 rows would keep the interpreter to itself for long.
    rows = "" if request.items is None else ItemColumns.of(request.items).digest
    text = request.model_dump_json(exclude={"items"})
    return hashlib.sha256(f"{text} {rows}".encode()).hexdigest()


def plan_for(
    choice: StrategyChoice,
    request: RunRequest | UploadQuery,
    items: Items,
    reports: tuple[KernelReport, ...],
    calibration: Calibration,
    settings: Settings,
    memory: MemoryBudget,
) -> tuple[Plan, float]:
    """The plan, and the seconds that it is estimated at; `auto` is the strategy for which these
    are fewest, of those whose memory may be had. Raises what make_plan raises, and
    MemoryBudgetError.
    """
    names = BY_PREFERENCE if choice is StrategyChoice.AUTO else (StrategyName(choice),)
    plans = [make_plan(name, request, items, reports, calibration, settings) for name in names]
    fitting = [plan for plan in plans if memory.fits(plan)]
    if not fitting:
        memory.check(min(plans, key=memory.needed))
    plans = fitting
    seconds = [estimate_seconds(plan, calibration) for plan in plans]
    best = min(range(len(plans)), key=seconds.__getitem__)
    return plans[best], seconds[best]


def shard_counts(total_items: int, batch_size: int, shard_items: int | None) -> list[int]:
    """How many items each shard has: whole batches, about `shard_items`; None is one shard."""
    if shard_items is None or total_items <= shard_items:
        return [total_items]
    batches = max(1, shard_items // batch_size)
    size = batches * batch_size
    return [min(size, total_items - start) for start in range(0, total_items, size)]
