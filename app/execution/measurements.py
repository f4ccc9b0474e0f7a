"""What executions of shards measure and count: added up over attempts, then over shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from hotloop.app.comparison.record import KEY
from hotloop.app.errors import UnreadableTaskError
from hotloop.app.observability.lag import LagSummary
from hotloop.app.sources.base import ItemError, StageCounts
from hotloop.app.strategies.checksum import MODULUS, checksum_text
from hotloop.app.tasks.model import InWork, Shard, from_fields

KEPT_ERRORS: Final = 100


@dataclass(frozen=True, slots=True)
class Details:
    """Of one shard, over all its executions; or of a task. Seconds, bytes."""

    checksum: int = 0
    """Sum of the rows' hashes modulo 2**64."""
    errors: tuple[ItemError, ...] = ()
    """The first KEPT_ERRORS that came."""
    stages: Mapping[str, tuple[str, StageCounts]] = field(default_factory=dict)
    """By the stage's name: its source, and what was counted."""
    io_seconds: float = 0.0
    duration_seconds: float | None = None
    setup_seconds: float | None = None
    effective_workers: int | None = None
    batch_size: int | None = None
    cpu_seconds: float | None = None
    cpu_utilization: float | None = None
    peak_memory_bytes: int | None = None
    event_loop_lag_ms: LagSummary | None = None
    in_work: InWork | None = None
    """Stored while an execution is on, for Shard.items_passed; not added up."""

    def plus(self, later: Details) -> Details:
        """This and a later execution, or another shard. Durations and set-ups add up."""
        stages = dict(self.stages)
        for name, (source, counts) in later.stages.items():
            total = StageCounts()
            if name in stages:
                total.add(stages[name][1])
            total.add(counts)
            stages[name] = (source, total)
        return Details(
            checksum=(self.checksum + later.checksum) % MODULUS,
            errors=(self.errors + later.errors)[:KEPT_ERRORS],
            stages=stages,
            io_seconds=self.io_seconds + later.io_seconds,
            duration_seconds=_sum(self.duration_seconds, later.duration_seconds),
            setup_seconds=_sum(self.setup_seconds, later.setup_seconds),
            effective_workers=_max(self.effective_workers, later.effective_workers),
            batch_size=_max(self.batch_size, later.batch_size),
            cpu_seconds=_sum(self.cpu_seconds, later.cpu_seconds),
            cpu_utilization=_mean(self, later),
            peak_memory_bytes=_max(self.peak_memory_bytes, later.peak_memory_bytes),
            event_loop_lag_ms=_worst(self.event_loop_lag_ms, later.event_loop_lag_ms),
        )

    def to_json(self) -> dict[str, Any]:
        fields = asdict(self)
        if self.in_work is None:
            del fields["in_work"]
        return fields | {
            "checksum": checksum_text(self.checksum),
            "errors": [asdict(error) for error in self.errors],
            "stages": [
                {"stage": name, "source": source, **asdict(counts)}
                for name, (source, counts) in self.stages.items()
            ],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | None) -> Details:
        """Fields that this version does not know are left out. UnreadableTaskError for others."""
        if not stored:
            return cls()
        try:
            return from_fields(cls, {**stored, **_parts(stored)})
        except (TypeError, KeyError, ValueError) as error:
            raise UnreadableTaskError("what its executions have measured") from error


def _parts(stored: Mapping[str, Any]) -> dict[str, Any]:
    lag, in_work = stored["event_loop_lag_ms"], stored.get("in_work")
    return {
        "checksum": int(stored["checksum"], 16),
        "errors": tuple(from_fields(ItemError, error) for error in stored["errors"]),
        "stages": {
            stage["stage"]: (stage["source"], from_fields(StageCounts, stage))
            for stage in stored["stages"]
        },
        "event_loop_lag_ms": from_fields(LagSummary, lag) if lag else None,
        "in_work": from_fields(InWork, in_work) if in_work else None,
    }


def summarize(shards: Sequence[Shard]) -> dict[str, Any]:
    """A task's measurements: those of its shards together, as JSON. A comparison has its own, which
    stay with its shard. What cannot be read is left out, so that its task can be ended.
    """
    if any(KEY in (shard.details or {}) for shard in shards):
        return {}
    total = Details()
    for shard in shards:
        with suppress(UnreadableTaskError):
            total = total.plus(Details.from_json(shard.details))
    # In the order of items, whichever shard was done first.
    return replace(total, errors=tuple(sorted(total.errors, key=_by_item))).to_json()


def _by_item(error: ItemError) -> int:
    return error.item_id


def _sum(one: float | None, other: float | None) -> float | None:
    return one if other is None else other if one is None else one + other


def _max(one: int | None, other: int | None) -> int | None:
    return one if other is None else other if one is None else max(one, other)


def _mean(one: Details, other: Details) -> float | None:
    """Weighted by the durations."""
    if one.cpu_utilization is None or other.cpu_utilization is None:
        return other.cpu_utilization if one.cpu_utilization is None else one.cpu_utilization
    mine, others = one.duration_seconds or 0.0, other.duration_seconds or 0.0
    share = others / (mine + others) if mine + others else 1.0
    return one.cpu_utilization + share * (other.cpu_utilization - one.cpu_utilization)


def _worst(one: LagSummary | None, other: LagSummary | None) -> LagSummary | None:
    if one is None or other is None:
        return one or other
    return LagSummary(max(one.p50, other.p50), max(one.p99, other.p99), max(one.max, other.max))
