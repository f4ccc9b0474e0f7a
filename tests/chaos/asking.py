"""The tasks of a round: how each is asked for, and what its right result is."""

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
    """Of an upload; None: the items are in the request's body."""

    def send(self, url: str, key: str) -> httpx.Response:
        """Ask for it in the background. Raises httpx.TransportError."""
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
