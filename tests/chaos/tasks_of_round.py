"""The tasks of a round: how each is requested, and what its right result is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import httpx
import numpy as np

from hotloop import kernels
from hotloop.app.strategies.checksum import checksum_text, rows_checksum
from tests.chaos.kinds import Kind

PARAMETERS: Final = {"cpu_iterations": 50, "outer_iterations": 5, "inner_iterations": 7}
ANSWER_SECONDS: Final = 20.0
CSV: Final = "text/csv"
NDJSON: Final = "application/x-ndjson"


@dataclass(frozen=True)
class Asked:
    """A task over items of its own, `first_id` and the following."""

    first_id: int
    items: int
    batch_items: int
    strategy: str
    kernel: str = "python"
    db: str = "counted"
    media_type: str | None = None
    """The media type of an upload; None puts the items into the JSON body."""

    def send(self, url: str, key: str) -> httpx.Response:
        """Submit it as a background task. Raises httpx.TransportError."""
        headers = {"Idempotency-Key": key}
        options: dict[str, Any] = {
            "strategy": self.strategy,
            "kernel": self.kernel,
            "workers": 2,
            "batch_size": self.batch_items,
            "db": self.db,
        }
        if self.media_type is None:
            body = options | {"items": list(self._rows()), "parameters": PARAMETERS}
            path = f"{url}/api/v1/tasks/background"
            return httpx.post(path, json=body, headers=headers, timeout=ANSWER_SECONDS)
        headers |= {"Content-Type": self.media_type, "Prefer": "respond-async"}
        return httpx.post(
            f"{url}/api/v1/tasks/upload",
            params=options | PARAMETERS,
            content=self._file(),
            headers=headers,
            timeout=ANSWER_SECONDS,
        )

    @cached_property
    def checksum(self) -> str:
        """The checksum of a direct call in this process. Compiled kernels are equal to the bit."""
        ids = np.arange(self.first_id, self.first_id + self.items, dtype=np.int64)
        columns = {
            "value": np.array([row["value"] for row in self._rows()]),
            "offset": np.array([row["offset"] for row in self._rows()], dtype=np.int64),
        }
        kernel = kernels.get_kernel("loops", "python" if self.kernel == "python" else "cython")
        return checksum_text(rows_checksum(ids, kernel.run(columns, PARAMETERS)))

    def batches(self, start: int, count: int) -> set[int]:
        """The first ids of the batches of `count` items from position `start` on."""
        return {self.first_id + i for i in range(start, start + count, self.batch_items)}

    def _rows(self) -> Iterator[dict[str, Any]]:
        for i in range(self.items):
            yield {"item_id": self.first_id + i, "value": i / 7, "offset": i}

    def _file(self) -> bytes:
        if self.media_type == NDJSON:
            return "".join(f"{json.dumps(row)}\n" for row in self._rows()).encode()
        lines = (f"{row['item_id']},{row['value']!r},{row['offset']}\n" for row in self._rows())
        return ("item_id,value,offset\n" + "".join(lines)).encode()


BATCH_ITEMS: Final = 5
ITEMS: Final = 200
STRATEGIES: Final = (
    "async-batch",
    "concurrent-futures",
    "hybrid",
    "multiprocessing",
    "sequential",
    "threading",
)
_QUICK: Final = tuple(name for name in STRATEGIES if name != "sequential")
"""Strategies that wait for the items of a batch at once, not one after another."""
WITH_WORKERS: Final = ("concurrent-futures", "multiprocessing")

LARGE_BATCH_ITEMS: Final = 50
LARGE_ITEMS: Final = 3_000
"""Three shards of HOTLOOP_SHARD_ITEMS."""
_FORMS: Final = (None, None, CSV, NDJSON)

_DEMANDING: Final = (
    ("sequential", "cython"),
    ("multiprocessing", "python"),
    ("sequential", "python"),
    ("threading", "cython"),
    ("concurrent-futures", "python"),
    ("async-batch", "numba"),
)
"""Strategy and kernel of tasks most of which a weak node cannot execute."""

IDS_OF_ROUND: Final = 100_000_000
_IDS_OF_TASK: Final = 1_000_000


def healthy(kind: Kind, number: int, index: int) -> Asked:
    """Task `index` of round `number`: its items have ids that no other task's have."""
    first_id = number * IDS_OF_ROUND + index * _IDS_OF_TASK
    turn = number + index
    if kind is Kind.SHARDS:
        strategy, form = _QUICK[turn % len(_QUICK)], _FORMS[index % len(_FORMS)]
        return Asked(first_id, LARGE_ITEMS, LARGE_BATCH_ITEMS, strategy, media_type=form)
    if kind is Kind.WEAK:
        strategy, kernel = _DEMANDING[turn % len(_DEMANDING)]
    else:
        names = WITH_WORKERS if kind is Kind.WORKER else STRATEGIES
        strategy, kernel = names[turn % len(names)], "python"
    items = ITEMS if strategy in _QUICK else ITEMS // 2
    return Asked(first_id, items, BATCH_ITEMS, strategy, kernel)


def unhealthy(kind: Kind, number: int) -> Asked:
    """The task of a round that kills what executes it."""
    source = "takes-host" if kind is Kind.TAKES_HOST else "takes-node"
    first_id = number * IDS_OF_ROUND + 99 * _IDS_OF_TASK
    return Asked(first_id, ITEMS, BATCH_ITEMS, "sequential", db=source)
