"""The service that is measured, and runs on it that must succeed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.fixtures.server import Server, running_server


@contextmanager
def service(**settings: object) -> Iterator[tuple[Server, Path]]:
    """A service and its data folder. It has one run host, so that every run finds the pools of the
    one before.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fields = {"run_hosts": 1, "sync_limit_seconds": 3_600} | settings
        with running_server(folder, **fields) as server:
            server.client.timeout = httpx.Timeout(3_600)
            yield server, folder


def finished(server: Server, strategy: str, **body: Any) -> dict[str, Any]:
    """The result of a run; RuntimeError when it or any of its items failed."""
    response = server.run(strategy, **body)
    response.raise_for_status()
    result: dict[str, Any] = response.json()
    if result["status"] != "completed" or result["failed_items"]:
        raise RuntimeError(
            f"{strategy} ended {result['status']}, {result['failed_items']} items failed: "
            f"{result['error_message']} {result['errors'][:1]}"
        )
    return result
