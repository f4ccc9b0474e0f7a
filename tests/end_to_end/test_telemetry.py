"""`observability.tracing`: every process of a request logs and traces it, and none reveals a
secret.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.collector import Collector, ExportedSpan, running_collector
from tests.fixtures.server import LITTLE, Server, plain_environment, running_server
from tests.fixtures.waiting import wait_until

SECRET = "planted-secret"
SECRETS: dict[str, object] = {
    "redis_url": f"redis://:{SECRET}@127.0.0.1:9/0",
    "pinot_url": "http://127.0.0.1:9",
    "pinot_authorization": f"Bearer {SECRET}",
}
"""Sources on a port where no server listens."""
CALLER = "0af7651916cd43dd8448eb211c80319c"
EVERYWHERE = {"api", "run_host", "worker"}
COMPARISON = {name: value for name, value in LITTLE.items() if name != "kernel"} | {
    "kernels": ["python"], "strategies": ["multiprocessing", "threading"], "rounds": 1, "workers": 2
}  # fmt: skip


@dataclass
class Observed:
    """A service, and the collector that receives its spans."""

    server: Server
    collector: Collector

    def lines(self, request_id: str | None = None) -> list[dict[str, Any]]:
        """The log, or the part of it that names this request."""
        every = [json.loads(line) for line in list(self.server.log)]
        return [line for line in every if request_id in (None, line.get("request_id"))]

    def wait_logged_everywhere(self, request_id: str) -> None:
        wait_until(
            lambda: {line["process"] for line in self.lines(request_id)} == EVERYWHERE,
            "every process has logged",
        )

    def tasks(self, request_id: str) -> set[str]:
        """The tasks that the log names for this request, but for the access log."""
        own = self.lines(request_id)
        return {one["task_id"] for one in own if one["logger"] != "hotloop.app.http.access"}

    def spans(
        self, name: str, count: int = 1, parent: ExportedSpan | None = None, **attributes: object
    ) -> list[ExportedSpan]:
        """The spans with this name, parent and attributes, once the collector has as many."""
        found: list[ExportedSpan] = []

        def have_come() -> bool:
            wanted = {f"hotloop.{key}": value for key, value in attributes.items()}.items()
            named = self.collector.named(name)
            found[:] = [
                span
                for span in named
                if wanted <= span.attributes.items()
                and (parent is None or span.parent_id == parent.span_id)
            ]
            return len(found) >= count

        wait_until(have_come, f"{name} is exported")
        assert len(found) == count
        return found


def headers(request_id: str, **others: str) -> dict[str, str]:
    caller = {"traceparent": f"00-{CALLER}-b7ad6b7169203331-01"}
    return {"X-Request-ID": request_id} | caller | others


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    settings = SECRETS | {"log_format": "json", "log_level": "debug", "run_hosts": 1}
    with running_collector() as collector:
        folder = tmp_path_factory.mktemp("data")
        with running_server(folder, traces_url=collector.url, **settings) as server:
            server.wait_ready()
            yield Observed(server, collector)


@pytest.mark.long
def test_request_is_traced_and_logged_by_every_process(observed: Observed) -> None:
    before, client = time.time_ns(), observed.server.client
    client.get("/health?x=planted", headers=headers("probe.1"))
    body = LITTLE | {"workers": 2}
    answer = client.post("/api/v1/tasks/multiprocessing", json=body, headers=headers("now.1"))
    task_id = answer.json()["task_id"]
    observed.wait_logged_everywhere("now.1")
    assert observed.tasks("now.1") == {task_id}
    (ended,) = [one for one in observed.lines("now.1") if one["message"] == "run ended"]
    assert (ended["status"], ended["items_processed"]) == ("completed", 20)
    assert ended["trace_id"] == CALLER

    (run,) = observed.spans("run", task_id=task_id)
    (request,) = observed.spans("POST /api/v1/tasks/{strategy}", request_id="now.1")
    assert request.trace_id == CALLER
    assert request.parent_id == "b7ad6b7169203331"
    assert request.attributes["http.response.status_code"] == 200
    assert (run.trace_id, run.parent_id) == (CALLER, request.span_id)
    batches = observed.spans("batch", 2, run)
    assert sorted(b.attributes["hotloop.batch"] for b in batches) == [0, 1]
    assert {b.attributes["hotloop.items"] for b in batches} == {10}
    # Workers measure the times of batches, the API process those of the run.
    for batch in batches:
        assert before < run.begun_ns <= batch.begun_ns < batch.ended_ns <= run.ended_ns
    assert not [span for span in (request, run, *batches) if span.is_error]
    assert not [span for span in observed.collector.spans if "planted" in str(span)]


@pytest.mark.long
def test_background_task_belongs_to_the_trace_and_log_of_its_request(observed: Observed) -> None:
    body = LITTLE | {"strategy": "concurrent-futures", "workers": 2}
    answer = observed.server.client.post(
        "/api/v1/tasks/background", json=body, headers=headers("later.2")
    )
    assert answer.status_code == 202
    observed.wait_logged_everywhere("later.2")
    assert observed.tasks("later.2") == {answer.json()["task_id"]}
    (run,) = observed.spans("run", task_id=answer.json()["task_id"])
    (accepted,) = observed.spans("POST /api/v1/tasks/background", request_id="later.2")
    assert (run.trace_id, run.parent_id) == (CALLER, accepted.span_id)


@pytest.mark.long
@pytest.mark.parametrize("prefer", ["", "respond-async"])
def test_comparison_is_traced_logged_and_counted(observed: Observed, prefer: str) -> None:
    def counted(name: str) -> float:
        lines = observed.server.client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    names = (
        'hotloop_comparisons_total{status="completed"}',
        "hotloop_comparison_measurements_total ",
        "hotloop_runs_total{",
    )
    before, request_id = [counted(name) for name in names], f"versus.{len(prefer)}"
    answer = observed.server.client.post(
        "/api/v1/tasks/compare", json=COMPARISON, headers=headers(request_id, Prefer=prefer)
    )
    assert answer.is_success, answer.text

    def ends() -> list[dict[str, Any]]:
        return [one for one in observed.lines(request_id) if one["message"] == "comparison ended"]

    wait_until(ends, "it ends")
    observed.wait_logged_everywhere(request_id)
    assert observed.tasks(request_id) == {answer.json()["task_id"]}
    (ended,) = ends()
    assert (ended["status"], ended["items_processed"]) == ("completed", 4)
    assert [counted(name) for name in names] == [before[0] + 1, before[1] + 4, before[2]]

    (request,) = observed.spans("POST /api/v1/tasks/compare", request_id=request_id)
    found = observed.spans("measurement", 4, request)
    cells = [f"{strategy} × python" for strategy in ("multiprocessing", "threading")]
    assert sorted((m.attributes["hotloop.cell"], m.attributes["hotloop.round"]) for m in found) == [
        (cell, number) for cell in cells for number in (0, 1)
    ]
    assert {m.trace_id for m in found} == {CALLER}
    own = {m.span_id for m in found}
    wait_until(
        lambda: own <= {b.parent_id for b in observed.collector.named("batch")},
        "the batches of every measurement are exported",
    )


@pytest.mark.long
def test_failed_run_is_an_error_in_its_trace(observed: Observed) -> None:
    body = {"items_count": 2, "db": "simulated", "db_delay_ms": 60_000, "timeout_seconds": 0.1}
    answer = observed.server.client.post(
        "/api/v1/tasks/async-batch", json=body, headers=headers("late.4")
    )
    assert answer.status_code == 504
    (request,) = observed.spans("POST /api/v1/tasks/{strategy}", request_id="late.4")
    (run,) = observed.spans("run", parent=request)
    assert run.is_error
    assert request.is_error
    assert request.attributes["http.response.status_code"] == 504


def _provoke_secrets(server: Server) -> None:
    body = {"items_count": 3, "db": "pinot", "cache": "redis", "timeout_seconds": 3}
    for strategy in ("multiprocessing", "async-batch"):
        server.run(strategy, **body)
    server.client.get(f"/{SECRET}?key={SECRET}", headers={"Authorization": SECRET})
    wait_until(lambda: any("404" in line for line in server.log), "the last request is logged")
    assert not [line for line in server.log if SECRET in line]
    assert any("run ended" in line for line in server.log)


@pytest.mark.long
def test_json_log_and_spans_contain_no_secret(observed: Observed) -> None:
    _provoke_secrets(observed.server)
    assert not [span for span in observed.collector.spans if SECRET in str(span.attributes)]


@pytest.mark.long
def test_console_log_contains_no_secret_and_a_collector_may_be_down(tmp_path: Path) -> None:
    settings = SECRETS | {"log_format": "console", "log_level": "debug", "run_hosts": 1}
    down = "http://127.0.0.1:9/v1/traces"
    with running_server(tmp_path, traces_url=down, **settings) as server:
        assert server.run("sequential", **LITTLE).json()["status"] == "completed"
        _provoke_secrets(server)


def test_sdk_is_imported_only_if_traces_are_exported() -> None:
    program = (
        "import sys, hotloop.app.serving.node, hotloop.app.serving.processes\n"
        "parts = ('opentelemetry.sdk', 'opentelemetry.exporter')\n"
        "print([name for name in sys.modules if name.startswith(parts)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=plain_environment(), capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == "[]"
