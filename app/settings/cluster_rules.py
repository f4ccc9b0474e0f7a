"""Rules for the addresses of clusters, and for the TLS that they need."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from hotloop.app.names import LOCAL_CLUSTER, StrategyName
from hotloop.app.settings.rules import PREFIX, is_loopback, refuse

_LAST_PORT: Final = 65_535


def ray_address(value: str | None) -> str | None:
    form = r"(ray://)?[^/:@\s]+:[0-9]{1,5}"
    return _cluster_address(value, "ray", form, "host:6379 or ray://host:10001")


def dask_address(value: str | None) -> str | None:
    form = r"(tcp|tls)://[^/:@\s]+:[0-9]{1,5}"
    return _cluster_address(value, "distributed", form, "tls://host:8786 or tcp://host:8786")


def _cluster_address(value: str | None, module: str, form: str, examples: str) -> str | None:
    if value is not None:
        if value != LOCAL_CLUSTER and not re.fullmatch(form, value):
            raise refuse(f"must be like {examples}, or {LOCAL_CLUSTER}")
        port = cluster_port(value)
        if port is not None and not 1 <= port <= _LAST_PORT:
            raise refuse(f"must have a port from 1 to {_LAST_PORT:,}")
        if importlib.util.find_spec(module) is None:
            extra = "dask" if module == "distributed" else module
            raise refuse(f"needs the extra {extra}; run: pip install 'hotloop[{extra}]'")
    return value


def cluster_host(address: str) -> str:
    """Return the host of a cluster's address; this machine's for a local cluster."""
    return "127.0.0.1" if address == LOCAL_CLUSTER else _split_address(address)[0]


def cluster_port(address: str) -> int | None:
    """Return the port of a cluster's address; None for a local cluster."""
    return None if address == LOCAL_CLUSTER else _split_address(address)[1]


def _split_address(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition("/")[2].rpartition(":")
    return host, int(port)


def check_clusters(
    addresses: Mapping[StrategyName, str], tls_files: Sequence[Path | None], is_plaintext: bool
) -> None:
    """Raise the error that `refuse` makes for a cluster on another machine without TLS, unless
    `is_plaintext` allows it, and for a part of the three files only.
    """
    has_tls = all(tls_files)
    if any(tls_files) and not has_tls:
        names = ", ".join(f"{PREFIX}CLUSTER_TLS_{name}" for name in ("CERT", "KEY", "CA"))
        raise refuse(f"{names} need each other; set all three or none")
    for engine, address in addresses.items():
        variable = f"{PREFIX}{engine.upper()}_ADDRESS"
        is_plain = not has_tls or address.startswith("tcp://")
        if is_plain and not is_loopback(cluster_host(address)) and not is_plaintext:
            raise refuse(
                f"{variable} is on another machine, so the connection needs TLS: set "
                f"{PREFIX}CLUSTER_TLS_CERT, _KEY and _CA (and tls:// for Dask), or "
                f"{PREFIX}CLUSTER_PLAINTEXT=true in a network that nobody else can reach"
            )
        if address.startswith("tls://") and not has_tls:
            raise refuse(
                f"{variable} begins with tls://, so {PREFIX}CLUSTER_TLS_CERT, _KEY and _CA must be "
                "set"
            )
