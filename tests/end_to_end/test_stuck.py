"""tasks.stuck: a shard whose node lives and makes no progress ends on another node, once."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hotloop.app.tasks.rows import TAKEN_OVER
from tests.fixtures.postgres_server import running_postgres
from tests.fixtures.server import QUICK, Server, logging_process, run_hosts, running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

STUCK_SECONDS = 5

LONG: dict[str, Any] = QUICK | {
    "items_count": 2_000,
    "batch_size": 25,
    "kernel": "python",
    "strategy": "sequential",
    "db": "simulated",
    "db_delay_ms": 3,
}
"""Two shards of 40 batches, each of which takes about a tenth of a second."""

SLOW = """
from hotloop.app.sources.simulated import SimulatedStage

class Stage(SimulatedStage):
    def fetch(self, batch, positions, stop):
        if 20 in batch.item_ids[list(positions)]:
            stop.wait(6.0)

def make(*, name, **_):
    return Stage(name, 0.0001, 0.0001)
"""
"""A source in which one item takes 6 s, which no prediction knows."""


PLAIN = {"db": "none"}


def checksum(server: Server, body: dict[str, Any]) -> str:
    """The checksum of the same items, computed by `sequential` without a source."""
    done = server.run("sequential", **{k: v for k, v in body.items() if k != "strategy"} | PLAIN)
    return str(done.json()["checksum"])


def test_frozen_run_host_loses_its_shard_and_its_node_is_free_again(tmp_path: Path) -> None:
    """Its heartbeats go on, as only the run host is frozen; it is not killed before it goes on."""
    with running_postgres() as postgres, postgres.database() as url, ExitStack() as stack:
        shared: dict[str, Any] = {"database_url": url, "run_hosts": 1, "shard_items": 1_000}
        (tmp_path / "api").mkdir()
        server = stack.enter_context(running_server(tmp_path / "api", background_runs=0, **shared))
        database = stack.enter_context(postgres.connect(url.rpartition("/")[2]))

        def last_nodes(task_id: str) -> list[str]:
            """The name of the node that executes each shard, or did last."""
            found = database.execute("SELECT node FROM shards WHERE task_id = %s", [task_id])
            return sorted(str(node).partition(":")[0] for (node,) in found)

        logs, nodes = {}, {}
        for name in ("frozen", "idle"):
            logs[name] = tmp_path / f"{name}.log"
            own = {"node_id": name, "data_dir": tmp_path / name, "shutdown_seconds": 60}
            times = {"stuck_shard_seconds": STUCK_SECONDS, "cancel_grace_seconds": 60}
            nodes[name] = stack.enter_context(
                logging_process(logs[name], "node", **shared | own | times)
            )
        server.wait_ready()
        task_id = server.submit(**LONG)
        wait_until(lambda: last_nodes(task_id) == ["frozen", "idle"], "both execute it", 60)
        server.wait_progress(task_id, 200)
        (host,) = run_hosts(nodes["frozen"].pid)
        host.suspend()
        wait_until(lambda: server.view(task_id)["attempts"] == 3, "it is taken over", 60)
        assert "is taken over from the node frozen:" in logs["idle"].read_text()
        host.resume()
        wait_until(lambda: TAKEN_OVER in logs["frozen"].read_text(), "its writes are refused", 60)
        done = server.ended(task_id)
        assert done["attempts"] == 3
        assert done["items_processed"] == LONG["items_count"]
        assert last_nodes(task_id) == ["idle", "idle"]
        assert done["result"]["checksum"] == checksum(server, LONG)
        nodes["idle"].send_signal(signal.SIGTERM)
        assert nodes["idle"].wait(timeout=60) == 0
        again = server.submit(**LONG | {"items_count": 100})
        assert server.ended(again)["attempts"] == 1
        assert last_nodes(again) == ["frozen"]


def test_batch_that_takes_longer_than_predicted_ends_after_a_few_take_overs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes on one SQLite file. The first batches are stored by one of them."""
    folder, code = tmp_path / "data", tmp_path / "code"
    folder.mkdir()
    code.mkdir()
    (code / "slow.py").write_text(SLOW)
    monkeypatch.setenv("PYTHONPATH", str(code))
    options: dict[str, Any] = {
        "run_hosts": 1,
        "sources": '{"slow": "slow:make"}',
        "stuck_shard_seconds": 0.5,
    }
    body = LONG | {"items_count": 50, "batch_size": 10, "db": "slow"}
    with running_server(folder, **options) as one, running_server(folder, **options) as other:
        one.wait_ready()
        other.wait_ready()
        task_id = one.submit(**body)
        done = one.ended(task_id)
        assert 2 <= done["attempts"] <= 8
        assert done["result"]["checksum"] == checksum(one, body)
        taken = sum(
            float(line.split()[1])
            for server in (one, other)
            for line in server.client.get("/metrics").text.splitlines()
            if line.startswith("hotloop_stuck_shards_total")
        )
        assert taken == done["attempts"] - 1
        assert one.ended(one.submit(**body | PLAIN))["attempts"] == 1


def test_slow_task_with_progress_stays_on_its_node(tmp_path: Path) -> None:
    body = LONG | {"items_count": 200, "batch_size": 100, "db_delay_ms": 40}
    options = {"run_hosts": 1, "stuck_shard_seconds": 1}
    with running_server(tmp_path, **options) as one, running_server(tmp_path, **options) as other:
        one.wait_ready()
        other.wait_ready()
        assert one.ended(one.submit(**body))["attempts"] == 1
