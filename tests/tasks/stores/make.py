"""Write a store of this version's schema: `python -m tests.tasks.stores.make`.

Run it before the schema changes, and keep what it writes: tests open it with every later version.
A real service makes the tasks and is killed at work; the rows are then copied to PostgreSQL.
"""

from __future__ import annotations

import gzip
import json
import shutil
import signal
import sqlite3
import subprocess
import tarfile
import tempfile
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import httpx
from sqlalchemy import insert, select

from hotloop.app.database.engine import FILE_NAME, reading, writing
from hotloop.app.tasks.nodes import NodeStore
from hotloop.app.tasks.store import open_store
from hotloop.app.tasks.tables import SCHEMA_VERSION, inputs, metadata
from tests.fixtures.postgres_server import _installed, running_postgres
from tests.fixtures.server import Server, running_server
from tests.fixtures.waiting import wait_until

FOLDER: Final = Path(__file__).parent
TASKS: Final = "/api/v1/tasks"
FAST: Final = {"cpu_iterations": 50, "outer_iterations": 5, "inner_iterations": 7}
QUICK: Final[dict[str, Any]] = {
    "items_count": 60,
    "db": "none",
    "cache": "none",
    "parameters": FAST,
    "kernel": "python",
    "workers": 2,
}
SLOW: Final = QUICK | {"db": "simulated", "db_delay_ms": 40, "batch_size": 5}
HANGS: Final = QUICK | {"db": "simulated", "db_delay_ms": 60_000}
COMPARISON: Final = QUICK | {
    "strategies": ["sequential", "threading"],
    "kernels": ["python"],
    "rounds": 2,
}
ROWS: Final = b"item_id,value,offset\n" + b"".join(b"%d,%d.5,2\n" % (n, n) for n in range(40))
MACHINE: Final = {"cpu": "a processor", "system": "Linux 6.1 x86_64"}
"""Facts of the machine that a stored comparison gets in place of the real ones."""
BACKGROUND: Final = {"Prefer": "respond-async"}


class Maker:
    """The tasks by what they are in the store, and how clients saw them."""

    def __init__(self, server: Server) -> None:
        self._client = server.client
        self.ids: dict[str, str] = {}

    def post(self, name: str, path: str, headers: dict[str, str] | None = None, **body: Any) -> str:
        answer = self._client.post(f"{TASKS}/{path}", json=body, headers=headers or {})
        assert answer.is_success, answer.text
        return self._keep(name, answer.json()["task_id"])

    def upload(self, name: str, rows: bytes) -> str:
        headers = BACKGROUND | {"Content-Type": "text/csv"}
        query: dict[str, str | int] = {"strategy": "sequential", "kernel": "python"}
        answer = self._client.post(
            f"{TASKS}/upload", params=query, content=rows, headers=headers, timeout=60
        )
        assert answer.is_success, answer.text
        return self._keep(name, answer.json()["task_id"])

    def view(self, task_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._client.get(f"{TASKS}/status/{task_id}").json()
        return found

    def wait(self, task_id: str, *statuses: str, items: int = 0) -> None:
        def there() -> bool:
            view = self.view(task_id)
            return view["status"] in statuses and view["items_processed"] >= items

        wait_until(there, f"{task_id} is {statuses}", 60, 0.01)

    def _keep(self, name: str, task_id: str) -> str:
        self.ids[name] = task_id
        return task_id

    def make_ended(self) -> None:
        self.post("run", "sequential", **QUICK)
        items = [{"item_id": n, "value": n / 3, "offset": n} for n in range(20)]
        body = {key: value for key, value in QUICK.items() if key != "items_count"}
        run = {"strategy": "threading", **body, "items": items}
        self.wait(self.post("items", "background", {"Idempotency-Key": "kept"}, **run), "completed")
        self.wait(self.upload("upload", ROWS), "completed")
        self.wait(self.upload("failed upload", ROWS + b"40,no number,2\n"), "failed")
        self.wait(self.post("comparison", "compare", BACKGROUND, **COMPARISON), "completed")
        cancelled = self.post("cancelled", "background", strategy="sequential", **SLOW)
        self.wait(cancelled, "running", items=10)
        self._client.delete(f"{TASKS}/{cancelled}")

    def make_unfinished(self) -> None:
        threading.Thread(target=self._run_that_hangs, daemon=True).start()
        page = f"{TASKS}/results?status=running"
        wait_until(lambda: self._client.get(page).json()["total"], "it runs", 60)
        self._keep("interrupted", self._client.get(page).json()["items"][0]["task_id"])
        begun = self.post("interrupted run", "background", strategy="sequential", **SLOW)
        self.wait(begun, "running", items=10)
        self.post("waiting run", "background", strategy="sequential", **QUICK)
        self.upload("waiting upload", ROWS)
        self.post("waiting comparison", "compare", BACKGROUND, **COMPARISON)

    def _run_that_hangs(self) -> None:
        with suppress(httpx.HTTPError):
            self._client.post(f"{TASKS}/sequential", json=HANGS)

    def answers(self) -> dict[str, dict[str, Any]]:
        """Return the answers that clients get about the ended tasks."""
        said: dict[str, dict[str, Any]] = {}
        for name, task_id in self.ids.items():
            results = self._client.get(f"{TASKS}/results/{task_id}")
            rows = results.text if results.is_success else None
            said[name] = {"view": self.view(task_id), "results": rows}
        said["comparison"]["view"]["comparison"]["host"] |= MACHINE
        return said


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "data"
        folder.mkdir()
        with running_server(
            folder, run_hosts=2, background_runs=1, node_id="earlier", sync_limit_seconds=86_400
        ) as server:
            maker = Maker(server)
            maker.make_ended()
            ended = maker.answers()
            maker.make_unfinished()
            server.stop(signal.SIGKILL)
        with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
            _forget_machine(connection)
        ids = maker.ids
        said = {"tasks": ids, "ended": ended}
        name = f"schema-{SCHEMA_VERSION}"
        text = json.dumps(said, indent=1, ensure_ascii=False, sort_keys=True)
        (FOLDER / f"{name}.json").write_text(f"{text}\n", "utf-8")
        (folder / f"{FILE_NAME}-reserve").unlink(missing_ok=True)
        with tarfile.open(FOLDER / f"{name}.tar.gz", "w:gz") as archive:
            for path in (folder / FILE_NAME, *sorted((folder / "uploads").iterdir())):
                archive.add(path, str(path.relative_to(folder)), filter=_of_nobody)
        dump = _copied_to_postgresql(folder, ids)
        with gzip.open(FOLDER / f"{name}.sql.gz", "wt", encoding="utf-8") as file:
            file.write(dump)
        shutil.rmtree(folder)


def _of_nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _forget_machine(connection: sqlite3.Connection) -> None:
    """Leave nothing of the machine that made it: as if it had come from another one."""
    connection.execute("UPDATE nodes SET host = 'earlier', machine = 'earlier', pid = 1")
    with connection:
        for task_id, shard, text in connection.execute(
            "SELECT task_id, shard, details FROM shards WHERE details IS NOT NULL"
        ).fetchall():
            details = json.loads(text)
            if host := details.get("comparison", {}).get("host"):
                host |= MACHINE
                connection.execute(
                    "UPDATE shards SET details = ? WHERE task_id = ? AND shard = ?",
                    (json.dumps(details), task_id, shard),
                )
    connection.execute("VACUUM")


def _copied_to_postgresql(folder: Path, ids: dict[str, str]) -> str:
    old = open_store(folder)
    with running_postgres() as server, server.database() as url:
        new = open_store(url)
        NodeStore(new.engine, "copy", "copy")
        with reading(old.engine) as source, writing(new.engine) as target:
            for table in metadata.sorted_tables:
                if table.name != "hotloop_schema":
                    for row in source.execute(select(table)).mappings():
                        target.execute(insert(table).values(**row))
            nodes = source.exec_driver_sql("SELECT * FROM nodes").mappings().all()
            for row in nodes:
                names = ", ".join(row.keys())
                marks = ", ".join(f"%({name})s" for name in row.keys())  # noqa: SIM118
                target.exec_driver_sql(f"INSERT INTO nodes ({names}) VALUES ({marks})", dict(row))
            for task_id in ids.values():  # with PostgreSQL the items are in the database
                for path in sorted((folder / "uploads").glob(f"{task_id}.*")):
                    part = {"task_id": task_id, "part": 0, "data": path.read_bytes()}
                    target.execute(insert(inputs).values(**part))
        new.close()
        old.close()
        options = ["--inserts", "--no-owner", "--no-privileges", "--no-comments"]
        dumped = subprocess.run(
            [_installed() / "pg_dump", *options, url], check=True, capture_output=True, text=True
        )
    lines = dumped.stdout.splitlines()
    kept = [line for line in lines if not line.startswith(("\\", "--", "SET transaction_timeout"))]
    return "\n".join(line for line in kept if line) + "\n"


if __name__ == "__main__":
    main()
