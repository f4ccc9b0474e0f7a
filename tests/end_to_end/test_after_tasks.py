"""`execution/webhooks.py`, `execution/small_tasks.py`: what follows a task, in a real service.

Webhooks, failed items tried again, priorities, and small tasks through a kill.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from hotloop import kernels
from hotloop.app.strategies.checksum import checksum_text, rows_checksum
from tests.end_to_end.test_calls import columns_of
from tests.fixtures.own_modules import write
from tests.fixtures.server import FAST, Server, running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long
"""tests/test_client_page.py, which is not long, goes the ordinary ways."""

SECRET: Final = "0123456789abcdef0123456789abcdef"
HOOKS: Final = {"webhook_hosts": '["127.0.0.1"]', "webhook_secret": SECRET}

FICKLE: Final = """
import os
import hotloop

@hotloop.workload(columns={"value": hotloop.Float(0.0, 100.0)}, outputs={"half": hotloop.Float()})
def fickle(value: float) -> float:
    if value > 50.0 and os.path.exists(FLAG):
        raise ValueError("not now")
    return value / 2.0
"""


@dataclass
class Receiver:
    """A server that notes what is posted to it, and answers as told, then 204."""

    url: str
    calls: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def told(self) -> list[dict[str, Any]]:
        """The bodies, whose signatures are checked."""
        for headers, body in self.calls:
            signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
            digest = hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()
            assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
        return [json.loads(body) for _, body in self.calls]


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.calls.append((dict(self.headers.items()), body))
            self.send_response(receiver.answers.pop(0) if receiver.answers else 204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Write nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_address[1]}/done?token=secret"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def accept(server: Server, **body: Any) -> dict[str, Any]:
    answer = server.client.post("/api/v1/tasks/background", json=body)
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def items(count: int) -> list[dict[str, Any]]:
    return [{"item_id": n, "value": 0.25 * n, "offset": n % 7} for n in range(count)]


@pytest.mark.parametrize("strategy", ["auto", "threading"])
def test_failed_items_are_tried_again(tmp_path: Path, strategy: str) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    file = write(tmp_path, "fickle", FICKLE.replace("FLAG", repr(str(flag))))
    with running_server(tmp_path, run_hosts=1, workloads=str(file)) as server:
        server.wait_ready()
        wait_until(lambda: "fickle" in server.client.get("/api/v1/tasks/kernels").text, "own", 60)
        rows = [{"item_id": n, "value": 7.0 * n % 100} for n in range(200)]
        body = {"workload": "fickle", "kernel": "python", "items": rows, "strategy": strategy}
        accepted = accept(server, **body)
        first = server.ended(accepted["task_id"])
        assert 0 < first["result"]["failed_items"] < 200
        flag.unlink()
        again = server.client.post(accepted["links"]["retry_failed"])
        assert again.status_code == 202
        assert again.json()["items_processed"] == 200 - first["result"]["failed_items"]
        second = server.ended(accepted["task_id"])
        assert (second["items_processed"], second["result"]["failed_items"]) == (200, 0)
        assert second["result"]["errors"] == []
        fresh = server.ended(accept(server, **body)["task_id"])
        assert second["result"]["checksum"] == fresh["result"]["checksum"]
        refused = server.client.post(accepted["links"]["retry_failed"])
        assert refused.status_code == 409
        assert "none of its items has failed" in refused.json()["detail"]


def test_webhook_is_told_signed_and_repeated(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers = [500]
    with running_server(tmp_path, run_hosts=1, **HOOKS) as server:
        server.wait_ready()
        for strategy, count in (("auto", 2), ("threading", 50)):
            body = {"items": items(count), "parameters": FAST, "strategy": strategy}
            view = accept(server, webhook=receiver.url, **body)
            assert view["webhook"] == {"attempts": 0, "delivered_at": None, "error": None}

            def is_delivered(task_id: str = view["task_id"]) -> bool:
                return server.view(task_id)["webhook"]["delivered_at"] is not None

            wait_until(is_delivered, "the webhook is delivered", 20)
        told = receiver.told()
        assert [each["type"] for each in told] == ["task.completed"] * 3
        assert told[0] == told[1]
        assert receiver.calls[0][0]["webhook-id"] == receiver.calls[1][0]["webhook-id"]
        assert told[2]["data"]["items_processed"] == 50
        assert server.view(told[0]["data"]["task_id"])["webhook"]["attempts"] == 2
        log = "".join(server.log)
        assert "the receiver answered 500" in log
        assert "secret" not in log


def test_webhook_of_a_killed_service_is_told_by_the_next(
    tmp_path: Path, receiver: Receiver
) -> None:
    with running_server(tmp_path, run_hosts=1, **HOOKS) as server:
        server.wait_ready()
        for _ in range(20):
            accept(server, items=items(1), parameters=FAST, webhook=receiver.url)
        server.stop(signal.SIGKILL)
    with running_server(tmp_path, run_hosts=1, **HOOKS):
        wait_until(lambda: len({e["data"]["task_id"] for e in receiver.told()}) == 20, "all", 60)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("ftp://127.0.0.1/", "it must be a URL"),
        ("nothing", "it must be a URL"),
        ("https://127.0.0.1.example.com/", "HOTLOOP_WEBHOOK_HOSTS"),
        ("http://localhost/", "HOTLOOP_WEBHOOK_HOSTS"),
        ("http://127.0.0.1@example.com/", "HOTLOOP_WEBHOOK_HOSTS"),
    ],
)
def test_webhook_to_another_host_is_refused(hooked: Server, url: str, text: str) -> None:
    answer = hooked.client.post("/api/v1/tasks/background", json={"webhook": url})
    assert answer.status_code == 422
    assert text in answer.json()["detail"]


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("hooked"), run_hosts=1, **HOOKS) as server:
        server.wait_ready()
        yield server


def test_webhooks_are_off_by_default(tmp_path: Path) -> None:
    with running_server(tmp_path, run_hosts=1) as server:
        server.wait_ready()
        body = {"webhook": "http://127.0.0.1/"}
        answer = server.client.post("/api/v1/tasks/background", json=body)
        assert answer.status_code == 422
        assert "HOTLOOP_WEBHOOK_HOSTS" in answer.json()["detail"]


def test_small_tasks_survive_a_kill_and_have_the_right_results(tmp_path: Path) -> None:
    accepted: list[str] = []
    with running_server(tmp_path, run_hosts=1) as server:
        server.wait_ready()
        for number in range(300):
            rows = items(1 + number % 3)
            accepted.append(accept(server, items=rows, parameters=FAST, kernel="cython")["task_id"])
        server.stop(signal.SIGKILL)
    expected = {}
    for size in (1, 2, 3):
        outputs = kernels.get_kernel("loops", "cython").run(columns_of(items(size)), FAST)
        ids = np.arange(size, dtype=np.int64)
        expected[size] = checksum_text(rows_checksum(ids, outputs))
    with running_server(tmp_path, run_hosts=1) as server:
        server.wait_ready()
        for number, task_id in enumerate(accepted):
            view = server.ended(task_id)
            assert view["result"]["checksum"] == expected[1 + number % 3]
            assert view["strategy"] == "sequential"


def test_tasks_of_a_higher_priority_begin_first(tmp_path: Path) -> None:
    body = {"items": items(20), "parameters": FAST, "strategy": "threading", "batch_size": 5}
    with running_server(tmp_path, run_hosts=1, background_runs=0) as server:
        server.wait_ready()
        ids = {p: accept(server, priority=p, **body)["task_id"] for p in (0, -5, 9, 3)}
        assert server.view(ids[9])["priority"] == 9
        answer = server.client.post("/api/v1/tasks/background", json={**body, "priority": 101})
        assert answer.json()["errors"][0]["field"] == "priority"
    with running_server(tmp_path, run_hosts=1, background_runs=1) as server:
        server.wait_ready()
        views = {p: server.ended(task_id) for p, task_id in ids.items()}
    begun = sorted(views, key=lambda p: views[p]["start_time"])
    assert begun == [9, 3, 0, -5]
