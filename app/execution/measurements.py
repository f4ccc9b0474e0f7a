"""A task's measurements: those of its shards together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from hotloop.app.comparison.record import KEY
from hotloop.app.errors import UnreadableTaskError
from hotloop.app.runhost.measurements import Measurements
from hotloop.app.tasks.model import Shard


def summarize(shards: Sequence[Shard]) -> dict[str, Any]:
    """Add up the measurements of a task's shards, as JSON. A comparison has its own, which stay
    with its shard. What cannot be read is left out, so that its task can be ended.
    """
    if any(KEY in (shard.details or {}) for shard in shards):
        return {}
    total = Measurements()
    for shard in shards:
        with suppress(UnreadableTaskError):
            total = total.plus(Measurements.from_json(shard.details))
    # In the order of items, whichever shard was done first.
    errors = sorted(total.errors, key=lambda error: error.item_id)
    return replace(total, errors=tuple(errors)).to_json()
