"""A soak from the start of a service of its own to its end, and everything that was wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import httpx
import psutil

from tests.fixtures.processes import is_gone, tree
from tests.fixtures.server import Server, running_server
from tests.fixtures.waiting import wait_until
from tests.soak.arrivals import arrivals
from tests.soak.asking import TASKS, Answer, Asker
from tests.soak.deaths import Deaths, Victim
from tests.soak.readings import QUANTITIES, SHORTEST_SECONDS, Flatness, Reading, judge, reading

PATIENCE_SECONDS: Final = 60.0
"""The allowed backlog at the end of the load: first for requests, then for tasks."""
REQUEST_SECONDS: Final = 60.0
KEPT_FILES: Final = frozenset({"hotloop.sqlite3", "hotloop.sqlite3-reserve"})
"""Files that stay in the data folder at the end."""
PAGE: Final = 500


@dataclass
class Outcome:
    """The results of a soak; a good one has no `faults`."""

    seed: int
    seconds: float
    answers: Sequence[Answer] = ()
    killed: Counter[Victim] = field(default_factory=Counter)
    accepted: int = 0
    completed: int = 0
    """Accepted background tasks that completed with the right checksum."""
    died: int = 0
    """Synchronous tasks that ended with a killed run host."""
    abandoned: int = 0
    readings: Sequence[Reading] = ()
    flatness: Sequence[Flatness] = ()
    """Empty if the soak was too short to judge growth."""
    faults: list[str] = field(default_factory=list)


def soak(folder: Path, seconds: float, seed: int, **settings: object) -> Outcome:
    """`settings` are those of the service. `folder` is empty, and is where all its files go."""
    outcome = Outcome(seed, seconds)
    data, temporary = folder / "data", folder / "tmp"
    data.mkdir()
    temporary.mkdir()
    server: Server | None = None
    try:
        with (
            patch.dict(os.environ, TMPDIR=str(temporary)),
            running_server(data, **({"run_hosts": 2} | settings)) as server,
        ):
            server.wait_ready()
            with reading(server, [data, temporary]) as readings:
                asker, deaths = asyncio.run(_load(server, seconds, seed))
            # Not those of the time after, in which the load runs out: they would hide growth.
            outcome.readings = [one for one in readings.all if one.at_seconds <= seconds]
            _take_over(outcome, asker, deaths)
            outcome.faults += _ends(server, asker)
            outcome.completed = len(asker.completed)
            outcome.faults += _left_running(server, temporary)
            code = server.stop(signal.SIGTERM)
            if code != 0:
                outcome.faults.append(f"the service ended with {code}")
    except AssertionError as error:
        outcome.faults.append(str(error))
    finally:
        outcome.faults += orphans(temporary, ())
        for process in _marked(temporary):
            with suppress(psutil.NoSuchProcess):
                process.kill()
    if server is not None and "Traceback" in (log := "".join(server.log)):
        outcome.faults.append(f"the log has a traceback: {log[log.index('Traceback') :][:2_000]}")
    outcome.faults += left_files(data, temporary)
    outcome.faults += growth_faults(outcome)
    return outcome


async def _load(server: Server, seconds: float, seed: int) -> tuple[Asker, Deaths]:
    deaths = Deaths(server, seed, seconds)
    # A few connections are kept open, as by a client with a pool; the others are new each time.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=4)
    async with httpx.AsyncClient(
        base_url=server.url, timeout=REQUEST_SECONDS, limits=limits
    ) as client:
        asker = Asker(client, seed)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds + PATIENCE_SECONDS), asyncio.TaskGroup() as group:
                group.create_task(asker.ask_all(arrivals(seed, seconds)))
                group.create_task(deaths.strike_all())
    server.client.close()
    return asker, deaths


def _take_over(outcome: Outcome, asker: Asker, deaths: Deaths) -> None:
    outcome.answers, outcome.killed = asker.answers, deaths.killed
    outcome.accepted, outcome.died = len(asker.accepted), len(asker.died)
    outcome.abandoned = asker.abandoned
    outcome.faults += asker.faults
    outcome.faults += [f"never answered: {arrival}" for arrival in sorted(asker.waiting)]
    if outcome.died > outcome.killed[Victim.HOST]:
        outcome.faults.append(f"{outcome.died} runs lost their run host; fewer were killed")
    outcome.faults += [f"no {v} could be killed" for v in Victim if not outcome.killed[v]]
    served = {answer.kind for answer in asker.answers if answer.status < 300}
    asked = {answer.kind for answer in asker.answers}
    outcome.faults += [f"not one {kind} was served" for kind in sorted(asked - served)]
    if not outcome.abandoned:
        outcome.faults.append("no stream of events was abandoned before its end")


def _ends(server: Server, asker: Asker) -> list[str]:
    """Check that all accepted tasks end with the right result, and that all synchronous ones have
    ended.
    """
    faults: list[str] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    with httpx.Client(base_url=server.url, timeout=REQUEST_SECONDS) as client:
        for task_id in sorted(asker.accepted):
            while task_id not in asker.completed:
                view = client.get(f"{TASKS}/status/{task_id}").json()
                try:
                    asker.judge_status(view)
                except (AssertionError, LookupError, TypeError) as error:
                    faults.append(f"accepted, and not right: {task_id}: {error!r}")
                    break
                if task_id not in asker.completed and time.monotonic() > deadline:
                    faults.append(f"accepted, and has not ended: {view}")
                    break
                time.sleep(0.0 if task_id in asker.completed else 0.1)
        listed = _listed(client)
    known = {task["task_id"]: task["status"] for task in listed}
    for task_id, status in known.items():
        wanted = "failed" if task_id in asker.died else "completed"
        if status != wanted:
            faults.append(f"{task_id} is {status}, and should be {wanted}")
    missing = (asker.accepted.keys() | asker.died) - known.keys()
    return faults + [f"accepted, and not listed: {task_id}" for task_id in sorted(missing)]


def _listed(client: httpx.Client) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = []
    while True:
        query = {"limit": PAGE, "offset": len(tasks)}
        page = client.get(f"{TASKS}/results", params=query).raise_for_status().json()["items"]
        tasks += page
        if len(page) < PAGE:
            return tasks


def _left_running(server: Server, temporary: Path) -> list[str]:
    """Find connections without a client and processes without a parent while the service runs."""
    api = psutil.Process(server.process.pid)

    def faults() -> list[str]:
        left = connections(api, server.port)
        return [f"a connection is left without a client: {one}" for one in left] + orphans(
            temporary, {api, *tree(api.pid)}
        )

    with suppress(AssertionError):
        wait_until(lambda: not faults(), "nothing is left")
    return faults()


def connections(process: psutil.Process, port: int) -> list[Any]:
    """Connections that the process has accepted on the port and not closed."""
    return [
        one
        for one in process.net_connections()
        if one.status != psutil.CONN_LISTEN and one.laddr[1] == port
    ]


def orphans(temporary: Path, known: Collection[psutil.Process]) -> list[str]:
    """Unknown processes on the machine that use this folder for temporary files, whatever their
    parent.
    """
    return [f"an orphan is left: {p}" for p in _marked(temporary) if p not in known]


def _marked(temporary: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("TMPDIR") == str(temporary) and not is_gone(process):
                found.append(process)
    return found


def left_files(data: Path, temporary: Path) -> list[str]:
    """Files that should not be there after the end."""
    paths = [path for path in data.rglob("*") if path.is_file() and path.name not in KEPT_FILES]
    paths += temporary.rglob("*")
    return [f"a file is left: {path}" for path in sorted(paths)]


def growth_faults(outcome: Outcome) -> list[str]:
    """Judge the growth of all quantities, and set `flatness`."""
    if outcome.seconds < SHORTEST_SECONDS or not outcome.readings:
        return [] if outcome.readings else ["nothing could be read"]
    outcome.flatness = [judge(outcome.readings, quantity) for quantity in QUANTITIES]
    faults = [f"grows: {flat}" for flat in outcome.flatness if not flat.is_flat]
    if len({reading.host_pid for reading in outcome.readings}) > 1:
        faults.append("the run host that nobody killed has ended")
    return faults
