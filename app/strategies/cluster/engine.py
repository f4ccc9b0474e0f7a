"""The protocol of engines, which drivers use, and their errors."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from hotloop.app.strategies.cluster.protocol import Fate


class LostError(Exception):
    """The cluster is gone, or does not answer."""


class ParcelError(Exception):
    """A parcel without a result: its fate, and the reason."""

    def __init__(self, fate: Fate, text: str) -> None:
        super().__init__(fate, text)
        self.fate = fate
        self.text = text


async def check_port(address: str) -> None:
    """Raise LostError if nothing listens at `[scheme://]host:port`, which a client of an engine
    would try to reach for a long time.
    """
    host, _, port = address.rpartition("/")[2].rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError as error:
        raise LostError(f"its port cannot be reached ({error.strerror or error})") from error
    writer.close()


class Engine(Protocol):
    """A client of a cluster. All methods raise LostError once the cluster is gone."""

    async def open(self) -> int:
        """Connect, and return the number of workers, at least 1."""
        ...

    async def ping(self) -> int:
        """Ask the cluster whether it is alive, and return the number of workers."""
        ...

    async def prepare(self, payload: bytes) -> Mapping[str, bytes | str]:
        """Call `entry.prepare` on every worker; return the answers by worker, errors as text."""
        ...

    async def compute(self, parcel: int, payload: bytes) -> bytes:
        """Call `entry.compute` on some worker. Raises ParcelError."""
        ...

    async def stop(self, run: str, parcels: tuple[int, ...]) -> None:
        """Stop the parcels of a run; kill workers that go on computing them."""
        ...

    async def close(self) -> None:
        """Disconnect; end a cluster that `open` has started."""
        ...
