"""Spans as a collector receives them, from the request to the batches."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fixtures.collector import running_collector
from tests.fixtures.server import plain_environment, running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

LOOPS = {"items_count": 20, "batch_size": 10, "db": "none", "cache": "none", "kernel": "python"}
CALLER = "0af7651916cd43dd8448eb211c80319c"
TRACE_PARENT = f"00-{CALLER}-b7ad6b7169203331-01"


def test_request_run_and_batches_are_spans_of_one_trace(tmp_path: Path) -> None:
    before = time.time_ns()
    with running_collector() as collector:
        with running_server(
            tmp_path, traces_url=collector.url, run_hosts=1, log_format="json"
        ) as server:
            headers = {"traceparent": TRACE_PARENT, "X-Request-ID": "now.1"}
            server.client.get("/health?x=planted", headers=headers)
            answer = server.client.post(
                "/api/v1/tasks/multiprocessing", json=LOOPS | {"workers": 2}, headers=headers
            )
            task_id = answer.json()["task_id"]
            body = LOOPS | {"strategy": "threading"}
            later = server.client.post("/api/v1/tasks/background", json=body, headers=headers)
            status = f"/api/v1/tasks/status/{later.json()['task_id']}"
            wait_until(lambda: server.client.get(status).json()["status"] == "completed", "it ends")
            lines = [json.loads(line) for line in list(server.log)]
            server.stop()  # what is left is sent then

        (request,) = collector.named("POST /api/v1/tasks/{strategy}")
        assert request.trace_id == CALLER
        assert request.parent_id == "b7ad6b7169203331"
        assert request.attributes["http.response.status_code"] == 200
        assert request.attributes["hotloop.request_id"] == "now.1"
        (run,) = [r for r in collector.named("run") if r.attributes["hotloop.task_id"] == task_id]
        assert (run.trace_id, run.parent_id) == (CALLER, request.span_id)
        batches = [b for b in collector.named("batch") if b.parent_id == run.span_id]
        assert sorted(b.attributes["hotloop.batch"] for b in batches) == [0, 1]
        assert {b.attributes["hotloop.items"] for b in batches} == {10}
        # The workers' own times, within those of the run.
        for batch in batches:
            assert before < run.begun_ns <= batch.begun_ns < batch.ended_ns <= run.ended_ns

        # Executed later, and still of the trace of the request that asked for it.
        (accepted,) = collector.named("POST /api/v1/tasks/background")
        (second,) = [r for r in collector.named("run") if r.parent_id == accepted.span_id]
        assert second.trace_id == CALLER
        assert not [s for s in collector.spans if s.is_error]
        assert not [s for s in collector.spans if "planted" in str(s)]
        runs = [one for one in lines if one["message"] == "run ended"]
        assert {one["trace_id"] for one in runs} == {CALLER}


def test_comparison_has_a_span_for_each_measurement(tmp_path: Path) -> None:
    body = LOOPS | {"kernels": ["python"], "strategies": ["sequential", "threading"], "rounds": 1}
    del body["kernel"]
    with (
        running_collector() as collector,
        running_server(tmp_path, traces_url=collector.url, run_hosts=1) as server,
    ):
        headers = {"traceparent": TRACE_PARENT}
        answer = server.client.post("/api/v1/tasks/compare", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        server.stop()
    (request,) = collector.named("POST /api/v1/tasks/compare")
    measured = collector.named("measurement")
    assert {(m.trace_id, m.parent_id) for m in measured} == {(CALLER, request.span_id)}
    found = sorted((m.attributes["hotloop.cell"], m.attributes["hotloop.round"]) for m in measured)
    cells = [f"{strategy} × python" for strategy in ("sequential", "threading")]
    assert found == [(cell, number) for cell in cells for number in (0, 1)]
    own = {m.span_id for m in measured}
    assert own == {b.parent_id for b in collector.named("batch")}


def test_run_that_fails_is_an_error_without_its_text(tmp_path: Path) -> None:
    with running_collector() as collector:
        with running_server(tmp_path, traces_url=collector.url, run_hosts=1) as server:
            body = {"items_count": 2, "db": "simulated", "db_delay_ms": 60_000}
            assert server.run("async-batch", **body, timeout_seconds=0.1).status_code == 504
            server.stop()
        (run,) = collector.named("run")
        (request,) = collector.named("POST /api/v1/tasks/{strategy}")
        assert run.is_error
        assert request.is_error
        assert request.attributes["http.response.status_code"] == 504


def test_collector_that_is_down_harms_nothing(tmp_path: Path) -> None:
    with running_server(tmp_path, traces_url="http://127.0.0.1:9/v1/traces") as server:
        assert server.run("sequential", **LOOPS).json()["status"] == "completed"


def test_nothing_of_the_sdk_is_imported_unless_asked_for() -> None:
    program = (
        "import sys, hotloop.app.serving.node, hotloop.app.serving.processes\n"
        "parts = ('opentelemetry.sdk', 'opentelemetry.exporter')\n"
        "print([name for name in sys.modules if name.startswith(parts)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=plain_environment(), capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == "[]"
