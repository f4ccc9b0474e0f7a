"""What the API process knows of the sources that runs use: breakers, and what was counted."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime

from hotloop.app.schemas.health import SourceHealth
from hotloop.app.sources.base import StageCounts
from hotloop.app.sources.breaker_reports import BreakerReport


@dataclass(slots=True)
class SourceState:
    """One source since the process started."""

    counts: StageCounts = field(default_factory=StageCounts)
    state: str = "closed"
    openings: int = 0
    reason: str | None = None
    changed_at: datetime | None = None


class SourceMonitor:
    """Collects what runs report; thread-safe."""

    def __init__(self, configured: tuple[str, ...]) -> None:
        """`configured` sources are known before any run has used them."""
        self._lock = threading.Lock()
        self._sources = {name: SourceState() for name in configured}
        self._last: dict[tuple[str, str], BreakerReport] = {}
        """By source and process."""

    def note(self, report: BreakerReport) -> None:
        """A breaker changed, in whatever process of a run host. One that was told before, or is
        older than what was told, says nothing.
        """
        with self._lock:
            source = self._sources.setdefault(report.source, SourceState())
            key = (report.source, report.process)
            last = self._last.get(key)
            if last is not None and report.number <= last.number:
                return
            self._last[key] = report
            source.openings += report.openings - (last.openings if last is not None else 0)
            source.state = report.state
            source.reason = report.reason
            source.changed_at = datetime.now(UTC)

    def count(self, source: str, counts: StageCounts) -> None:
        """A batch of a run used a source."""
        with self._lock:
            self._sources.setdefault(source, SourceState()).counts.add(counts)

    def states(self) -> dict[str, SourceState]:
        """By source; a copy."""
        with self._lock:
            return {
                name: SourceState(
                    StageCounts(s.counts.calls, s.counts.retries, s.counts.hits, s.counts.misses),
                    s.state,
                    s.openings,
                    s.reason,
                    s.changed_at,
                )
                for name, s in self._sources.items()
            }

    def health(self) -> dict[str, SourceHealth]:
        """Each source as the last run found it."""
        return {
            name: SourceHealth(
                breaker=source.state,
                openings=source.openings,
                changed_at=source.changed_at,
                detail=_detail(source),
            )
            for name, source in self.states().items()
        }


def _detail(source: SourceState) -> str:
    if source.state == "closed":
        if source.openings:
            return f"answers again; it failed before: {source.reason}"
        return "no trouble seen"
    return f"{source.reason}; the next call of a run tries it again"
