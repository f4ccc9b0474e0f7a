"""The clusters that the service may use, and whether they can be reached now."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from hotloop.app.errors import ClusterLostError
from hotloop.app.names import StrategyName
from hotloop.app.schemas.service import ClusterHealth
from hotloop.app.settings.cluster_rules import cluster_host, cluster_port

LOOK_SECONDS: Final = 2.0
"""Time between two looks at a cluster, and in which it accepts a connection."""


@dataclass(slots=True)
class _State:
    address: str
    is_up: bool = True
    reason: str | None = None
    changed_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def set(self, is_up: bool, reason: str | None) -> None:
        if is_up != self.is_up:
            self.changed_at = datetime.now(UTC)
        self.is_up, self.reason = is_up, reason


class ClusterMonitor:
    """Looks regularly whether the port of each cluster is open. Nothing of an engine is imported:
    whether it really answers is seen by the runs that use it, which report a loss.
    """

    def __init__(self, addresses: Mapping[StrategyName, str]) -> None:
        self._states = {name: _State(address) for name, address in addresses.items()}
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look once, and then regularly until `close`."""
        await self._look()
        if self._states:
            self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait((self._watching,))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look()

    async def _look(self) -> None:
        await asyncio.gather(*map(_look, self._states.values()))

    def is_up(self, name: StrategyName) -> bool:
        """Return True if the strategy's cluster could be reached at the last look, or if the
        strategy needs none.
        """
        return name not in self._states or self._states[name].is_up

    def up(self) -> set[StrategyName]:
        """Return the strategies whose clusters could be reached at the last look."""
        return {name for name, state in self._states.items() if state.is_up}

    def check(self, name: StrategyName) -> None:
        """Raise ClusterLostError if the strategy's cluster cannot be reached."""
        if not self.is_up(name):
            raise ClusterLostError(name, self._states[name].reason or "it cannot be reached")

    async def is_back(self, error: ClusterLostError) -> bool:
        """Look at the cluster that a run has lost; return True if its port is open."""
        state = self._states.get(StrategyName(error.engine))
        if state is not None:
            await _look(state)
        return state is not None and state.is_up

    def views(self) -> list[ClusterHealth]:
        """Return the state of each cluster."""
        return [
            ClusterHealth(
                name=name,
                state="up" if state.is_up else "down",
                reason=state.reason,
                since=state.changed_at,
            )
            for name, state in self._states.items()
        ]


async def _look(state: _State) -> None:
    port = cluster_port(state.address)
    if port is None:
        return
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            _, writer = await asyncio.open_connection(cluster_host(state.address), port)
    except TimeoutError:
        state.set(False, f"its port did not accept a connection within {LOOK_SECONDS:g} s")
    except OSError as error:
        state.set(False, f"its port cannot be reached ({error.strerror or type(error).__name__})")
    else:
        state.set(True, None)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
