"""The database stage on a real Apache Pinot: one SQL query for many items."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from hotloop.app.sources.base import ItemBatch, Positions
from hotloop.app.sources.breakers import RefusedError, TransientError, breaker_of
from hotloop.app.sources.connections import AsyncStage, connection
from hotloop.app.sources.pinot_answer import PinotTable, read_answer
from hotloop.app.sources.resilience import Guard, Policy
from hotloop.app.sources.values import assign, ids_at, mapped_columns

if TYPE_CHECKING:  # the import takes a fifth of a second, and few runs need it
    from aiohttp import ClientSession

IDS_PLACE = "{ids}"

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Of one query; 10,000 rows of a few numbers take about one."""

ROWS_PER_ID: Final = 2
"""Asked for with LIMIT, so that an id with more than one row is noticed."""


@dataclass(frozen=True, slots=True)
class PinotStage(AsyncStage):
    """Asks the broker for the rows of some ids, and puts them at their items.

    Rows may come in any order, repeated, or for ids not asked for. An item without a row fails,
    and so does one with different rows.
    """

    url: str
    """Of the broker; without credentials."""
    authorization: str | None = field(repr=False)
    """The whole header."""
    sql: str
    """With `{ids}` in the place of the ids, and without LIMIT."""
    id_column: str
    fields: tuple[tuple[str, str], ...]
    """Column of the workload, and the column of the answer that it is read from."""
    workload: str
    connections: int
    """At most, for each event loop."""
    policy: Policy
    name: str = "db"
    source: str = "pinot"
    batched: bool = True
    seconds_per_call: float = 0.1

    async def fetch_async(self, batch: ItemBatch, positions: Positions) -> None:
        """Raises TransientError, RefusedError, SourceDownError."""
        counts = batch.counts_of(self.name)
        ids = ids_at(batch, positions)
        limit = max(10, ROWS_PER_ID * len(ids))
        sql = f"{self.sql.replace(IDS_PLACE, ','.join(map(str, ids)))} LIMIT {limit}"
        opened = connection((self.url, self.authorization, self.connections), self._open)
        table = await opened.guard.call(
            lambda: opened.query(sql, self.policy.timeout_seconds), self.policy, counts
        )
        self._check_columns(table)
        self._place(batch, positions, ids, table, is_full=len(table.rows) >= limit)

    def _place(
        self,
        batch: ItemBatch,
        positions: Positions,
        ids: list[int],
        table: PinotTable,
        *,
        is_full: bool,
    ) -> None:
        """Put each row at its item; fail items that have none, or several that differ."""
        rows = _by_id(table, self.id_column)
        placed: list[int] = []
        answers: list[list[Any]] = []
        for position, item_id in zip(positions, ids, strict=True):
            row = rows.get(item_id)
            if row is not None:
                placed.append(position)
                answers.append(row)
            elif item_id in rows:
                batch.fail(position, self.name, "pinot has different rows for it")
            else:
                more = "; the answer was full, so ids have too many rows" if is_full else ""
                batch.fail(position, self.name, f"pinot has no row for it{more}")
        counts = batch.counts_of(self.name)
        counts.hits += len(placed)
        counts.misses += len(ids) - len(placed)
        where = positions if len(placed) == len(ids) else placed
        for column, name in mapped_columns(self.workload, self.fields):
            values = list(map(itemgetter(table.columns[name]), answers))
            assign(batch, where, column, values, self.name)

    def _check_columns(self, table: PinotTable) -> None:
        for name in (self.id_column, *(name for _, name in self.fields)):
            if name not in table.columns:
                raise RefusedError(
                    f"pinot's answer has no column {name!r}; see HOTLOOP_PINOT_SQL and "
                    "HOTLOOP_PINOT_COLUMNS"
                )

    def _open(self) -> _PinotConnection:
        return _PinotConnection(self.url, self.authorization, self.connections)


def _by_id(table: PinotTable, id_column: str) -> dict[int, list[Any] | None]:
    """Each id's row; None for an id with rows that differ. A row without an id is left out."""
    place = table.columns[id_column]
    by_id: dict[int, list[Any] | None] = {}
    for row in table.rows:
        item_id = row[place]
        if type(item_id) is int and by_id.setdefault(item_id, row) != row:
            by_id[item_id] = None
    return by_id


class _PinotConnection:
    """A pool of HTTP connections to one broker, for one event loop."""

    def __init__(self, url: str, authorization: str | None, connections: int) -> None:
        import aiohttp

        self.guard = Guard(breaker_of("pinot", url))
        self._url = f"{url.rstrip('/')}/query/sql"
        self._session: ClientSession = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections),
            headers={"Authorization": authorization} if authorization else {},
            timeout=aiohttp.ClientTimeout(total=None),  # the guard has the timeout
        )

    async def query(self, sql: str, timeout_seconds: float) -> PinotTable:
        import aiohttp

        body = {"sql": sql, "queryOptions": f"timeoutMs={max(1, round(timeout_seconds * 1_000))}"}
        try:
            async with self._session.post(self._url, json=body, allow_redirects=False) as response:
                content = await _bounded(response.content)
                status = response.status
        except (aiohttp.ClientSSLError, aiohttp.InvalidURL) as error:
            raise RefusedError(
                "pinot's address or certificate is not accepted; see HOTLOOP_PINOT_URL"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise TransientError("pinot cannot be reached, or broke the connection") from error
        return await _parsed(status, content)

    async def close(self) -> None:
        await self._session.close()


async def _bounded(stream: Any) -> bytes:
    content = bytearray()
    async for chunk in stream.iter_any():
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise RefusedError(
                f"pinot's answer is over {MAX_ANSWER_BYTES:,} bytes; lower query_batch_size, or "
                "select fewer columns"
            )
    return bytes(content)


_LARGE_BYTES: Final = 1 << 20


async def _parsed(status: int, content: bytes) -> PinotTable:
    # A large answer would keep the event loop busy for tens of milliseconds.
    if len(content) > _LARGE_BYTES:
        return await asyncio.to_thread(read_answer, status, content)
    return read_answer(status, content)
