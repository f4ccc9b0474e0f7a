"""The messages between a run host and the driver that it starts, in frames of
`hotloop.app.frames`.

A parcel travels as bytes that only the run host and the workers read, so that the driver needs
neither kernels nor the memory for them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

CONNECT_SECONDS: Final = 60.0
"""Time for a cluster to answer for the first time, and without any worker."""

PING_SECONDS: Final = 1.0
"""Time between two questions of a driver whether its cluster is alive."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files in PEM format: this side's certificate, its key, and the authority of both sides."""

    cert: str
    key: str
    ca: str


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """A cluster to connect to."""

    engine: str
    """`ray` or `dask`."""
    address: str
    """LOCAL_CLUSTER, or where the engine says that its scheduler or head listens."""
    cpus: int
    """Workers of a cluster that is started here."""
    tls: TlsFiles | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClusterConfig:
        """Read what `asdict` has made."""
        tls = values["tls"]
        return cls(**{**values, "tls": None if tls is None else TlsFiles(**tls)})


# --- run host to driver ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prepare:
    """Prepare every worker for a plan: the pickled plan, without items."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Compute:
    """Compute a parcel on some worker."""

    parcel: int
    """A number that no other parcel of this driver has."""
    payload: bytes


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop all parcels of a run; kill workers that do not stop by themselves."""

    run: str
    parcels: tuple[int, ...]


# --- driver to run host ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Alive:
    """The cluster answers, and has so many workers. The first one says that the driver is ready."""

    workers: int


@dataclass(frozen=True, slots=True)
class Lost:
    """The cluster cannot be reached, or does not answer any more; the driver ends."""

    text: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """The answers of the workers by their names: what `entry.prepare` returns, or the failure."""

    answers: Mapping[str, bytes | str]


class Fate(StrEnum):
    """The reason for which a parcel has no result."""

    LOST = "lost"
    """Its worker is gone; another one may compute it."""
    REFUSED = "refused"
    """No worker can compute it: hotloop is missing there, or the engine cannot send it."""


@dataclass(frozen=True, slots=True)
class Computed:
    """The outcome of a parcel: the pickled `parcels.Outcome`, or its fate and the reason."""

    parcel: int
    payload: bytes | None
    fate: Fate | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Stopped:
    """Nothing of the run is executing any more."""

    run: str
