"""Measurements of an execution: made by the run host, added up over executions and shards, stored
as JSON, and shown in results and comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from hotloop.app.errors import UnreadableTaskError
from hotloop.app.records import from_fields
from hotloop.app.sources.base import ItemError, StageCounts
from hotloop.app.strategies.checksum import MODULUS, checksum_text

KEPT_ERRORS: Final = 100


@dataclass(frozen=True, slots=True)
class LagSummary:
    """Lag of the API's event loop in milliseconds."""

    p50: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Measurements:
    """Measurements of an execution, a shard over all its executions, or a task. Seconds, bytes.

    None means not measured (yet). The stored JSON and public results have the same names.
    """

    checksum: int = 0
    """Sum of the rows' hashes modulo 2**64."""
    errors: tuple[ItemError, ...] = ()
    """The first KEPT_ERRORS errors of items."""
    stages: Mapping[str, tuple[str, StageCounts]] = field(default_factory=dict)
    """Source and counts of each stage, by the stage's name."""
    io_seconds: float = 0.0
    """Seconds that workers spent in I/O stages, added up over workers."""
    duration_seconds: float | None = None
    """Seconds without the set-up."""
    setup_seconds: float | None = None
    effective_workers: int | None = None
    batch_size: int | None = None
    cpu_seconds: float | None = None
    """CPU seconds of the run host and its workers during the duration."""
    cpu_utilization: float | None = None
    """Share of the usable CPUs, 0 … 1."""
    peak_memory_bytes: int | None = None
    """Peak memory of the worker processes, plus the growth of the run host since the run began;
    pages that processes share count once."""
    event_loop_lag_ms: LagSummary | None = None

    def plus(self, later: Measurements) -> Measurements:
        """Return the sum with a later execution, or another shard. Durations and set-ups add up."""
        stages = dict(self.stages)
        for name, (source, counts) in later.stages.items():
            total = StageCounts()
            if name in stages:
                total.add(stages[name][1])
            total.add(counts)
            stages[name] = (source, total)
        return Measurements(
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
        """Return the measurements as stored."""
        lag = self.event_loop_lag_ms
        # `asdict` of the whole would copy every value, which takes ten times as long.
        return {name: getattr(self, name) for name in _NAMES} | {
            "checksum": checksum_text(self.checksum),
            "errors": [asdict(error) for error in self.errors],
            "stages": [
                {"stage": name, "source": source, **asdict(counts)}
                for name, (source, counts) in self.stages.items()
            ],
            "event_loop_lag_ms": None if lag is None else asdict(lag),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | None) -> Measurements:
        """Read measurements from `to_json`, without fields that this version does not know. Raises
        UnreadableTaskError for other JSON.
        """
        if not stored:
            return cls()
        try:
            return from_fields(cls, {**stored, **_parts(stored)})
        except (TypeError, KeyError, ValueError) as error:
            raise UnreadableTaskError("what its executions have measured") from error


_NAMES: Final = [each.name for each in fields(Measurements)]


def _parts(stored: Mapping[str, Any]) -> dict[str, Any]:
    lag = stored["event_loop_lag_ms"]
    return {
        "checksum": int(stored["checksum"], 16),
        "errors": tuple(from_fields(ItemError, error) for error in stored["errors"]),
        "stages": {
            stage["stage"]: (stage["source"], from_fields(StageCounts, stage))
            for stage in stored["stages"]
        },
        "event_loop_lag_ms": from_fields(LagSummary, lag) if lag else None,
    }


def _sum(one: float | None, other: float | None) -> float | None:
    return one if other is None else other if one is None else one + other


def _max(one: int | None, other: int | None) -> int | None:
    return one if other is None else other if one is None else max(one, other)


def _mean(one: Measurements, other: Measurements) -> float | None:
    """Weight the two utilisations by their durations."""
    if one.cpu_utilization is None or other.cpu_utilization is None:
        return other.cpu_utilization if one.cpu_utilization is None else one.cpu_utilization
    mine, others = one.duration_seconds or 0.0, other.duration_seconds or 0.0
    share = others / (mine + others) if mine + others else 1.0
    return one.cpu_utilization + share * (other.cpu_utilization - one.cpu_utilization)


def _worst(one: LagSummary | None, other: LagSummary | None) -> LagSummary | None:
    if one is None or other is None:
        return one or other
    return LagSummary(max(one.p50, other.p50), max(one.p99, other.p99), max(one.max, other.max))
