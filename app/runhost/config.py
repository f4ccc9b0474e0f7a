"""What a run host is told at its start, as one JSON argument. Nothing secret: `ps` shows it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

from hotloop.app.logs.setup import LogFormat, LogLevel, LogOptions

SWITCH_SECONDS: Final = 0.001
"""How long a thread that computes keeps the GIL while others ask for it. CPython's 5 ms are long
for batches that take less: each of them would wait that long for the event loop."""


@dataclass(frozen=True, slots=True)
class RunHostConfig:
    """Limits of one run host."""

    max_worker_threads: int
    max_worker_processes: int
    usable_cpus: int
    """For `cpu_utilization`."""
    pool_idle_seconds: float
    """Worker pools end when no run used them for this long."""
    instruction_set: str | None = None
    """What kernels use that have the choice; None is the best that the machine has."""
    niceness: int = 5
    """Added to the run host's, so that the API answers first when all CPUs are busy."""
    log_format: str = "console"
    log_level: str = "info"

    @property
    def log_options(self) -> LogOptions:
        """How the run host and its workers write their log."""
        return LogOptions(LogFormat(self.log_format), LogLevel(self.log_level))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> RunHostConfig:
        return cls(**json.loads(text))
