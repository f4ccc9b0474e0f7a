"""What a round has shown."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.chaos.kinds import Kind


@dataclass
class Outcome:
    """Counts of one round."""

    kind: Kind
    kills: int = 0
    """Processes that were killed by this test, besides those below them."""
    tasks: int = 0
    """Healthy ones that were accepted."""
    failed: int = 0
    """Healthy tasks that did not end as completed."""
    lost: int = 0
    """Tasks that did not end, or are not known any more."""
    wrong_checksums: int = 0
    wrong_chunks: int = 0
    """Tasks with items that are stored twice, or not at all."""
    finished_recomputed: int = 0
    """Batches that were stored at the kill, and computed again after it."""
    unfinished_recomputed: int = 0
    """Batches that were computed more than once, and were not stored at the kill."""
    unbounded: int = 0
    """Unhealthy tasks that did not end as failed, with the reason, after a few beginnings."""
    left_over: int = 0
    """Processes below a killed one that lived on for more than 5 seconds."""
    adoption_seconds: list[float] = field(default_factory=list)
    """From the kill until what the dead process had begun was back in the queue."""

    @property
    def is_good(self) -> bool:
        return not any(
            (
                self.failed,
                self.lost,
                self.wrong_checksums,
                self.wrong_chunks,
                self.finished_recomputed,
                self.unbounded,
                self.left_over,
            )
        )
