"""The configuration of a run host, passed as one JSON argument without secrets: `ps` shows it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

from hotloop.app.logs.setup import LogFormat, LogLevel, LogOptions
from hotloop.app.strategies.cluster.protocol import ClusterConfig

SWITCH_SECONDS: Final = 0.001
"""Time that a computing thread keeps the GIL while another thread asks for it. CPython's 5 ms are
too long for shorter batches: each would wait that long for the event loop."""


@dataclass(frozen=True, slots=True)
class RunHostConfig:
    """Limits of one run host."""

    max_worker_threads: int
    max_worker_processes: int
    usable_cpus: int
    """The CPUs that `cpu_utilization` refers to."""
    pool_idle_seconds: float
    """Time without a run after which worker pools end."""
    instruction_set: str | None = None
    """The instruction set of kernels that have a choice; None takes the machine's best."""
    for_calls: bool = False
    """Compute small calls, and nothing else."""
    niceness: int = 5
    """Increase of the run host's niceness, so that the API answers first when CPUs are busy."""
    clusters: tuple[ClusterConfig, ...] = ()
    log_format: str = "console"
    log_level: str = "info"

    @property
    def log_options(self) -> LogOptions:
        """The options for the log of the run host and its workers."""
        return LogOptions(LogFormat(self.log_format), LogLevel(self.log_level))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> RunHostConfig:
        values = json.loads(text)
        clusters = tuple(map(ClusterConfig.from_dict, values.pop("clusters")))
        return cls(**values, clusters=clusters)
