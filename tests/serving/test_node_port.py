"""The port on which a node answers probes and scrapes of its metrics.

Tests of `run_node` in `serving/node.py` and of `node_server` in `serving/server.py`.
"""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures.guarded import free_port
from tests.fixtures.server import (
    LITTLE,
    listening_url,
    logging_process,
    refused_start,
    running_server,
)
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

LONG: dict[str, Any] = {"items_count": 200_000, "batch_size": 100, "db": "none", "cache": "none"}
LONG |= {"kernel": "python", "strategy": "sequential"}


def test_node_shows_what_it_executed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        running_server(tmp_path, background_runs=0, run_hosts=1) as server,
        logging_process(log, "node", data_dir=tmp_path, node_port=0, run_hosts=1) as node,
    ):
        url = listening_url(log)
        assert httpx.get(f"{url}/health").json()["status"] == "alive"
        wait_until(lambda: httpx.get(f"{url}/health/ready").is_success, "a run host is warm", 60)
        server.ended(server.submit(**LITTLE, strategy="sequential"))
        line = 'hotloop_items_total{kernel="python",outcome="done",strategy="sequential",'
        line += 'workload="loops"} 20.0'
        assert line in httpx.get(f"{url}/metrics").text
        assert line not in server.client.get("/metrics").text  # the node did it
        assert "api/v1/tasks" not in httpx.get(f"{url}/").text
        node.send_signal(signal.SIGINT)
        assert node.wait(timeout=60) == 0


def test_stopping_node_closes_its_port_and_hands_over_at_once(tmp_path: Path) -> None:
    """Even while a client holds a connection with half a request."""
    log = tmp_path / "log"
    with running_server(tmp_path, background_runs=0, run_hosts=1) as server:
        options: dict[str, Any] = {"shutdown_seconds": 600, "header_seconds": 600, "run_hosts": 1}
        with logging_process(log, "node", data_dir=tmp_path, node_port=0, **options) as node:
            port = int(listening_url(log).rsplit(":", 1)[1])
            task_id = server.submit(**LONG)
            server.wait_progress(task_id)
            with socket.create_connection(("127.0.0.1", port)) as slow:
                slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n")
                node.terminate()
                assert node.wait(timeout=60) == 0
        view = server.view(task_id)
        assert (view["status"], view["node"]) == ("running", None), view  # it waits for another
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            pass
        assert "Traceback" not in log.read_text()


def test_port_in_use_is_a_wrong_setting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        text = refused_start("node", data_dir=tmp_path, node_port=port)
    assert f"HOTLOOP_HOST and HOTLOOP_NODE_PORT: cannot listen on 127.0.0.1 port {port}" in text
    assert "choose another port" in text


def test_node_leaves_loopback_only_with_keys(tmp_path: Path) -> None:
    text = refused_start("node", data_dir=tmp_path, node_port=0, host="0.0.0.0")
    assert "HOTLOOP_HOST must be a loopback address" in text
