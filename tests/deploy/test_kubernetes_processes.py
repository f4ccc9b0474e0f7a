"""The containers of the API and of nodes in deploy/kubernetes, started as processes with their
arguments and variables, answer their probes, share work, and end as they are told to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import httpx
import psycopg
import pytest

from hotloop.app.names import Scope
from tests.deploy.manifests import KUBERNETES, container, keda_query, plain_env
from tests.deploy.test_files import of
from tests.fixtures.access import keys_setting, make_key
from tests.fixtures.postgres_server import RunningPostgres, running_postgres
from tests.fixtures.server import READY_SECONDS, listening_url, logging_process
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

KEY = make_key("runner", Scope.RUN)
LONG: dict[str, Any] = {"items_count": 200_000, "batch_size": 100, "db": "none", "cache": "none"}
LONG |= {"kernel": "python", "strategy": "sequential"}


@pytest.fixture(scope="module")
def postgres() -> Iterator[RunningPostgres]:
    with running_postgres() as server:
        yield server


def secret(database_url: str) -> dict[str, str]:
    """The Secret `hotloop` that hotloop.env.example asks for."""
    asked = re.findall(r"^(\w+)=$", (KUBERNETES / "hotloop.env.example").read_text(), re.MULTILINE)
    values = {
        "HOTLOOP_DATABASE_URL": database_url,
        "HOTLOOP_API_KEYS": keys_setting([KEY]),
        "HOTLOOP_SESSION_SECRET": "s" * 32,
        "RAY_AUTH_TOKEN": "t" * 32,
    }
    assert set(asked) == set(values)
    return values


class Container:
    """A running container; `port` of its manifest is another one here."""

    def __init__(self, name: str, process: Popen[str], log: Path) -> None:
        self.process = process
        self.log = log
        self.url = listening_url(log)
        self._of = container("Deployment", name)

    def probe(self, name: str) -> bool:
        """Ask what the kubelet asks; it sends no key."""
        asked = self._of[name]["httpGet"]
        assert asked["port"] == self._of["ports"][0]["name"]
        headers = {header["name"]: header["value"] for header in asked["httpHeaders"]}
        return httpx.get(f"{self.url}{asked['path']}", headers=headers).is_success

    def wait_ready(self) -> None:
        wait_until(lambda: self.probe("readinessProbe"), "it is ready", READY_SECONDS)
        assert self.probe("startupProbe")
        assert self.probe("livenessProbe")


@contextmanager
def running(name: str, folder: Path, database_url: str, **changes: object) -> Iterator[Container]:
    """The container with the variables of the image, the manifest and the Secret. Ports, addresses
    and folders are of this machine.
    """
    of_it = container("Deployment", name)
    assert of("ENTRYPOINT") == ['["hotloop"]']
    assert "command" not in of_it
    found = re.findall(r"\b(HOTLOOP_\w+)=(\S+)", "\n".join(of("ENV")))
    environment = {k: v for k, v in found if k != "HOTLOOP_REQUIRE_CYTHON"}
    environment |= plain_env(of_it) | secret(database_url)
    port = "HOTLOOP_NODE_PORT" if name == "node" else "HOTLOOP_PORT"
    assert environment[port] == str(of_it["ports"][0]["containerPort"])
    assert environment["HOTLOOP_HOST"] == "0.0.0.0"
    environment |= {port: "0", "HOTLOOP_HOST": "127.0.0.1", "HOTLOOP_LOG_FORMAT": "console"}
    environment["HOTLOOP_DATA_DIR"] = str(folder / name)
    settings = {
        key.removeprefix("HOTLOOP_").lower(): value
        for key, value in environment.items()
        if key.startswith("HOTLOOP_")
    }
    log = folder / f"{name}.log"
    with logging_process(log, *of_it["args"], **settings | changes) as process:
        yield Container(name, process, log)


def test_containers_answer_their_probes_and_share_work(
    postgres: RunningPostgres, tmp_path: Path
) -> None:
    with (
        postgres.database() as url,
        psycopg.connect(url, autocommit=True) as database,
        running("api", tmp_path, url, drain_seconds=0, shard_items=1_000) as api,
    ):
        api.wait_ready()

        def queued() -> float:
            (row,) = database.execute(keda_query()).fetchall()
            return float(row[0])

        client = httpx.Client(base_url=api.url, headers=KEY.headers, timeout=60)
        assert httpx.get(f"{api.url}/metrics").status_code == 401
        body = {"items_count": 20, "db": "none", "cache": "none", "kernel": "python"}
        assert client.post("/api/v1/tasks/sequential", json=body).status_code == 200
        assert queued() == 0  # a synchronous run needs no node

        accepted = client.post("/api/v1/tasks/background", json=LONG | {"items_count": 3_000})
        assert accepted.status_code == 202, accepted.text
        task_id = accepted.json()["task_id"]
        assert queued() == 3
        with running("node", tmp_path, url) as node:
            node.wait_ready()

            def view() -> dict[str, Any]:
                found: dict[str, Any] = client.get(f"/api/v1/tasks/status/{task_id}").json()
                return found

            wait_until(lambda: view()["status"] == "completed", "the node does it", 90)
            assert queued() == 0
            # Prometheus has no key, and reaches this port only.
            metrics = httpx.get(f"{node.url}/metrics").text
            assert re.search(r"hotloop_items_total\{.*\} 3000\.0", metrics), metrics

            task_id = client.post("/api/v1/tasks/background", json=LONG).json()["task_id"]
            wait_until(lambda: view()["items_processed"] > 0, "the node is in work", 60)
            assert queued() > 1
            node.process.terminate()
            assert node.process.wait(timeout=60) == 0
            state = view()
            assert (state["status"], state["node"]) == ("running", None), state
            assert queued() > 1  # another node is wanted
        api.process.terminate()
        assert api.process.wait(timeout=60) == 0
        client.close()
