"""A node as a process of its own: `python -m tests.tasks.node_process LOCATION NAME FOLDER JSON`.

What its work does is written to `FOLDER/events`, a line each: `<name> began <work id>`, `ended`,
`handed-over`; and what becomes of the process: `up`, `adopted <work id>`, `dead`, `closed`. While
there is a file `FOLDER/hold`, work goes on; it stops with `FOLDER/stop-NAME`.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from app.tasks.adoption import adopt_dead
from app.tasks.engine import make_engine
from app.tasks.model import ShardRef
from app.tasks.nodes import NodeStore, new_node_id
from app.tasks.work_queue import HandOver, QueueOptions, WorkQueue


def main(location: str, name: str, folder: Path, options: dict[str, Any]) -> None:
    beat_seconds, dead_seconds = options.pop("beat_seconds"), options.pop("dead_seconds")
    logging.basicConfig(filename=folder / "log", format=f"{name} %(asctime)s %(message)s")
    stop, hold = folder / f"stop-{name}", folder / "hold"
    descriptor = os.open(folder / "events", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    stopping = threading.Event()

    def say(*words: str) -> None:
        os.write(descriptor, (" ".join((name, *words)) + "\n").encode())

    def execute(ref: ShardRef) -> None:
        say("began", ref.work_id)
        while hold.exists():
            if stopping.is_set():
                say("handed-over", ref.work_id)
                raise HandOver
            time.sleep(0.005)
        say("ended", ref.work_id)

    engine = make_engine(location if "://" in location else Path(location), 30.0)
    nodes = NodeStore(engine, new_node_id(name), "test")
    assert nodes.beat()
    queue = WorkQueue(engine, nodes.node_id, execute, QueueOptions(**options))
    queue.launch()
    say("up", nodes.node_id)
    alive = True
    while alive and not stop.exists():
        time.sleep(beat_seconds)
        alive = nodes.beat()
        for ref in adopt_dead(nodes, queue, dead_seconds) if alive else []:
            say("adopted", ref.work_id)
    if not alive:
        say("dead")
    stopping.set()
    queue.close()
    nodes.leave()
    engine.dispose()
    say("closed")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), json.loads(sys.argv[4]))
