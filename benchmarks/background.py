"""The cost of a background task compared to the same synchronous run: to accept, to start, to wait
for.
"""

from __future__ import annotations

import http.client
import json
import random
import statistics
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import psutil

from benchmarks.service import finished, service
from hotloop.app.comparison.intervals import ratios
from tests.fixtures.server import Server
from tests.fixtures.waiting import wait_until

COUNT: Final = 50_000
ROUNDS: Final = 31
UNWATCHED_SECONDS: Final = 1.0
"""A task of COUNT items has ended by then: to ask how far it is takes the CPUs that it needs, and a
synchronous run is not asked either."""
SUBMITTED: Final = 100
SHORT: Final = 300
IDLE_SECONDS: Final = 30.0

RUN: Final[dict[str, Any]] = {
    "items_count": COUNT,
    "batch_size": 2_500,
    "workers": 2,
    "kernel": "cython",
    "db": "none",
    "cache": "none",
}
SMALL: Final = RUN | {"items_count": 100}
LONG: Final = RUN | {"items_count": 10_000_000, "strategy": "threading"}


def ended(server: Server, task_id: str, interval: float = 0.1) -> dict[str, Any]:
    """The task, once it has completed, looked at so often (seconds); RuntimeError when it ended
    otherwise.
    """
    task: dict[str, Any] = {}

    def has_ended() -> bool:
        task.update(server.client.get(f"/api/v1/tasks/status/{task_id}").json())
        return task["end_time"] is not None

    wait_until(has_ended, f"{task_id} ends", bound=600, interval=interval)
    if task["status"] != "completed":
        raise RuntimeError(f"{task_id} is {task['status']}: {task['error_message']}")
    return task


def section() -> Iterator[str]:
    """The lines of the report."""
    with service() as (server, _):
        durations = _durations(server)
        starts = _starts(server)
        short = _short_per_second(server)
    with service(run_hosts=2) as (server, _):
        beside = _accepting(server)
    with service() as (server, _):
        idle = _idle(server)
    cost = ratios(durations["background"], durations["synchronous"])
    yield f"""## Background tasks

The same {COUNT:,} items run as a synchronous run and as a background task, in {ROUNDS} interleaved
rounds, stored in SQLite: batches of 2,500, default work, `threading` × `cython`, 2 workers.

| | |
| --- | ---: |
| synchronous run, seconds (median) | {statistics.median(durations["synchronous"]):.3f} |
| background task, seconds from its start to its end (median) | \
{statistics.median(durations["background"]):.3f} |
| background ÷ synchronous | {cost.text(3)} |
| accepting a task while another runs, ms, p50 / p99 of {SUBMITTED} | \
{statistics.median(beside):.1f} / {sorted(beside)[-2]:.1f} |
| from the acceptance of a task to its start, ms, median / most of {len(starts)} | \
{statistics.median(starts):.0f} / {max(starts):.0f} |
| short tasks that one process completes a second, of {SHORT} queued at once | {short:.0f} |
| CPU of an idle service, % of a core over {IDLE_SECONDS:.0f} s | {idle:.2f} |
"""


def _durations(server: Server) -> dict[str, list[float]]:
    """Seconds from start to end, set-up of pools left out, which are warm."""
    seconds: dict[str, list[float]] = {"synchronous": [], "background": []}
    for number in range(-1, ROUNDS):  # the first only warms up
        for name in random.sample(sorted(seconds), 2):
            if name == "synchronous":
                result = finished(server, "threading", **RUN)
            else:
                task_id = server.submit(**RUN | {"strategy": "threading"})
                time.sleep(UNWATCHED_SECONDS)
                result = ended(server, task_id)["result"]
            if number >= 0:
                seconds[name].append(_between(result["start_time"], result["end_time"]))
    return seconds


def _between(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def _starts(server: Server) -> list[float]:
    """Milliseconds from accepting to beginning, one task at a time."""
    waited = []
    for _ in range(20):
        time.sleep(random.random())  # not in step with anything that looks now and then
        task = ended(server, server.submit(**SMALL | {"strategy": "threading"}))
        waited.append(1_000 * _between(task["created_at"], task["start_time"]))
    return waited


def _short_per_second(server: Server) -> float:
    """Tasks of a millisecond each, from the first request to the last end."""
    body = SMALL | {"items_count": 10, "strategy": "sequential"}
    started = time.perf_counter()
    last = [server.submit(**body) for _ in range(SHORT)][-1]
    ended(server, last)  # they begin in the order of their acceptance
    return SHORT / (time.perf_counter() - started)


def _accepting(server: Server) -> list[float]:
    """Milliseconds from request to 202, while a task is computed; by a client that itself takes
    next to nothing, as it shares the CPUs.
    """
    running = server.submit(**LONG)
    server.wait_progress(running)
    address = server.client.base_url
    connection = http.client.HTTPConnection(address.host, address.port, timeout=10)
    body, headers = json.dumps(SMALL), {"Content-Type": "application/json"}
    waited = []
    for _ in range(SUBMITTED):
        started = time.perf_counter()
        connection.request("POST", "/api/v1/tasks/background", body, headers)
        answer = connection.getresponse()
        answer.read()
        waited.append(1_000 * (time.perf_counter() - started))
        if answer.status != 202:
            raise RuntimeError(f"a task was answered with {answer.status}")
        time.sleep(0.02)
    connection.close()
    server.client.delete(f"/api/v1/tasks/{running}").raise_for_status()
    return waited


def _idle(server: Server) -> float:
    """Per cent of a core that the service and its run hosts take."""
    server.wait_ready()
    time.sleep(5)
    service_process = psutil.Process(server.process.pid)
    processes = [service_process, *service_process.children(recursive=True)]
    before = _cpu_seconds(processes)
    time.sleep(IDLE_SECONDS)
    return 100 * (_cpu_seconds(processes) - before) / IDLE_SECONDS


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)
