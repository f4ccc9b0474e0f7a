"""A node as a process of its own: `python -m tests.tasks.node_process LOCATION NAME FOLDER JSON`.

What its work does is written to `FOLDER/events`, a line each: `<name> began <shard>`, `ending`
before its end is stored and `ended` after, `handed-over`; and what becomes of the process: `up`,
`adopted <shard>`, `dead`, `closed`. While there is a file `FOLDER/hold`, work goes on; it stops
with `FOLDER/stop-NAME`. With the option `shifted_clock` the database's clock is ahead by what the
table `clock_shift` says.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from hotloop.app.errors import TaskConflictError
from hotloop.app.names import TaskStatus
from hotloop.app.tasks import nodes as nodes_module
from hotloop.app.tasks.claims import Claim
from hotloop.app.tasks.nodes import NodeStore, new_node_id
from hotloop.app.tasks.small import SmallClaims
from hotloop.app.tasks.store import open_store
from hotloop.app.tasks.upkeep import adopt_dead
from hotloop.app.tasks.work_queue import HandOver, QueueOptions, WorkQueue
from tests.fixtures.executions import summary


def shift_clock() -> None:
    for dialect, expression in nodes_module._NOW.items():
        nodes_module._NOW[dialect] = f"({expression} + (SELECT seconds FROM clock_shift))"


def main(location: str, name: str, folder: Path, options: dict[str, Any]) -> None:
    beat_seconds, dead_seconds = options.pop("beat_seconds"), options.pop("dead_seconds")
    if options.pop("shifted_clock", False):
        shift_clock()
    logging.basicConfig(filename=folder / "log", format=f"{name} %(asctime)s %(message)s")
    stop, hold = folder / f"stop-{name}", folder / "hold"
    descriptor = os.open(folder / "events", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    stopping = threading.Event()

    def say(*words: str) -> None:
        os.write(descriptor, (" ".join((name, *words)) + "\n").encode())

    store = open_store(location if "://" in location else Path(location))
    engine = store.engine

    def execute(claimed: Claim | SmallClaims) -> None:
        assert isinstance(claimed, Claim)
        shard = claimed.shard
        say("began", str(shard.ref))
        while hold.exists():
            if stopping.is_set():
                say("handed-over", str(shard.ref))
                raise HandOver
            time.sleep(0.005)
        say("ending", str(shard.ref))
        with suppress(TaskConflictError):  # it is another's by now
            store.shards.end(shard.ref, shard.attempt, TaskStatus.COMPLETED, {}, 0, summary)
            say("ended", str(shard.ref))

    nodes = NodeStore(engine, new_node_id(name), "test")
    assert nodes.beat()
    queue = WorkQueue(engine, nodes.node_id, execute, QueueOptions(**options))
    queue.launch()
    say("up", nodes.node_id)
    alive = True
    while alive and not stop.exists():
        time.sleep(beat_seconds)
        alive = nodes.beat()
        for ref in adopt_dead(nodes, queue, dead_seconds)[1] if alive else []:
            say("adopted", str(ref))
    if not alive:
        say("dead")
    queue.take_no_more()
    stopping.set()
    queue.close()
    nodes.leave()
    store.close()
    say("closed")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), json.loads(sys.argv[4]))
