"""What became of users' own workloads, as `hotloop serve` prints it."""

from __future__ import annotations

import json
from contextlib import suppress
from shlex import quote
from typing import Any, Final

from hotloop import kernels
from hotloop.app.schemas.declared import example_row
from hotloop.app.wording import plain
from hotloop.app.workloads.catalogue import Catalogue
from hotloop.app.workloads.targets import OwnWorkload, WorkloadState

_LONGEST: Final = 300
"""Characters of a body that is written out; an item with a vector may have thousands."""


async def announce(catalogue: Catalogue, address: str) -> None:
    """Print what became of each own workload as soon as it is known, with a command that runs it.
    Return when all is told.
    """
    told: set[OwnWorkload] = set()
    while True:
        for each in catalogue.own:
            if each not in told and each.state is not WorkloadState.LOADING:
                told.add(each)
                _print(_outcome(each, address))
        if not catalogue.is_loading:
            return
        await catalogue.changed()


def _outcome(own: OwnWorkload, address: str) -> str:
    """Return the lines about a workload, or about a target that has none."""
    if own.state is WorkloadState.FAILED:
        return f"{own.workload or own.target}  cannot be used: {own.reason}"
    assert own.workload is not None
    names = ", ".join(kernels.known_kernels(own.workload))
    return f"{own.workload}  {own.target}  {names}\n  {run_command(own.workload, address)}"


def run_command(workload: str, address: str) -> str:
    """Return a command for a shell that runs a workload for one item, or for some made up ones."""
    body: dict[str, Any] = {"workload": workload}
    body |= {"items": [example_row(kernels.get_workload(workload))]}
    if len(json.dumps(body)) > _LONGEST:
        body = {"workload": workload, "items_count": 10}
    socket = ""
    if address.startswith("unix:"):
        socket, address = f" --unix-socket {quote(address.removeprefix('unix:'))}", "http://hotloop"
    return (
        f"curl -s{socket} {address}/api/v1/tasks/sequential "
        f"-H 'Content-Type: application/json' -d {quote(json.dumps(body))}"
    )


def _print(text: str) -> None:
    with suppress(OSError):  # whoever read it has left
        print("\n".join(map(plain, text.splitlines())), flush=True)
