"""The database stage on Apache Pinot: one SQL query for many items, and the checks of its answer.

Pinot reports errors inside an HTTP 200, may answer with the rows of some servers only, and promises
neither an order of rows nor that an id comes once. Facts of release 1.5; the codes are those of
`org.apache.pinot.spi.exception.QueryErrorCode`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from hotloop.app.logs.formatting import ALIKE
from hotloop.app.sources.base import ItemBatch, Positions
from hotloop.app.sources.connections import AsyncStage, connection
from hotloop.app.sources.resilience import Guard, Policy, RefusedError, TransientError, breaker_of
from hotloop.app.sources.row_columns import shortened
from hotloop.app.sources.values import assign, ids_at, mapped_columns

if TYPE_CHECKING:  # the import takes a fifth of a second, and few runs need it
    from aiohttp import ClientSession

IDS_PLACE = "{ids}"

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""The largest answer to one query; 10,000 rows of a few numbers take about one MiB."""

ROWS_PER_ID: Final = 2
"""Rows for each id in LIMIT, so that an id with more than one row is noticed."""


@dataclass(frozen=True, slots=True)
class PinotStage(AsyncStage):
    """Asks the broker for the rows of some ids, and assigns them to their items.

    Rows may come in any order, repeated, or for other ids. An item without a row fails, and so does
    an item with different rows.
    """

    url: str
    """The broker's URL, without credentials."""
    authorization: str | None = field(repr=False)
    """The whole Authorization header."""
    sql: str
    """The query, with `{ids}` in the place of the ids, and without LIMIT."""
    id_column: str
    fields: tuple[tuple[str, str], ...]
    """Pairs of a workload's column, and the column of the answer that it is read from."""
    workload: str
    connections: int
    """The most connections for each event loop."""
    policy: Policy
    name: str = "db"
    source: str = "pinot"
    batched: bool = True
    seconds_per_call: float = 0.1

    async def fetch_async(self, batch: ItemBatch, positions: Positions) -> None:
        """Fetch the items. Raises TransientError, RefusedError, SourceDownError."""
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
        """Assign each row to its item; fail items without a row, or with rows that differ."""
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
                    "HOTLOOP_PINOT_COLUMNS, or this workload's in HOTLOOP_WORKLOAD_SOURCES"
                )

    def _open(self) -> _PinotConnection:
        return _PinotConnection(self.url, self.authorization, self.connections)


def _by_id(table: PinotTable, id_column: str) -> dict[int, list[Any] | None]:
    """Return each id's row, None for an id with differing rows; leave out rows without an id."""
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


logger = logging.getLogger(__name__)

TRANSIENT: Final[Mapping[int, str]] = MappingProxyType(
    {
        200: "the query could not be executed",
        210: "a server is shutting down",
        211: "a server is out of capacity",
        230: "segments are missing on a server",
        235: "segments could not be loaded",
        240: "a server's scheduler is down",
        245: "a server's scheduler took too long",
        250: "the execution took too long",
        305: "segments are unavailable",
        400: "the broker took too long",
        425: "a server did not respond",
        427: "a server did not respond",
        429: "there were too many requests",
        450: "an internal error",
        503: "the query was cancelled",
    }
)
"""Errors that may be temporary, by their code."""

REFUSALS: Final[Mapping[int, str]] = MappingProxyType(
    {
        150: "the SQL cannot be parsed; see HOTLOOP_PINOT_SQL",
        180: "the access is denied; see HOTLOOP_PINOT_AUTHORIZATION",
        190: "there is no such table; see HOTLOOP_PINOT_SQL",
        700: "the query is not valid; see HOTLOOP_PINOT_SQL",
        710: "there is no such column; see HOTLOOP_PINOT_SQL",
        720: "the query cannot be planned; see HOTLOOP_PINOT_SQL",
    }
)
"""Errors that are permanent, by their code; so are codes in neither table."""

_LOGGED_CHARACTERS: Final = 500


@dataclass(frozen=True, slots=True)
class PinotTable:
    """The rows of a complete answer: `rows[i][columns[name]]`."""

    columns: dict[str, int]
    rows: list[list[Any]]


def read_answer(status: int, body: bytes) -> PinotTable:
    """Read the rows of an answer.

    Raises TransientError and RefusedError; their texts have Pinot's code. Pinot's message, which
    may name servers, is only logged.
    """
    if status in (401, 403):
        raise RefusedError("pinot refuses the access; see HOTLOOP_PINOT_AUTHORIZATION")
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict) and answer.get("exceptions"):
        raise _error_of(answer["exceptions"])
    if status in (408, 429) or status >= 500:
        raise TransientError(f"pinot answered HTTP {status}")
    if status != 200:
        raise RefusedError(f"pinot answered HTTP {status}; see HOTLOOP_PINOT_URL")
    if not isinstance(answer, dict):
        raise TransientError("pinot's answer is no JSON object")
    _check_complete(answer)
    return _table(answer)


def _error_of(exceptions: Any) -> TransientError | RefusedError:
    errors = exceptions if isinstance(exceptions, list) else [exceptions]
    codes = [_code(error) for error in errors]
    text = shortened(str(errors), _LOGGED_CHARACTERS)
    logger.warning("pinot answered with errors: %s", text, extra={ALIKE: tuple(codes)})
    lasting = [code for code in codes if code not in TRANSIENT]
    if lasting:
        return RefusedError(f"pinot error {lasting[0]}: {REFUSALS.get(lasting[0], 'see its log')}")
    return TransientError(f"pinot error {codes[0]}: {TRANSIENT[codes[0]]}")


def _code(error: Any) -> int:
    """Return the code of an error; -1 for an error without a code."""
    code = error.get("errorCode") if isinstance(error, dict) else None
    return code if isinstance(code, int) else -1


def _check_complete(answer: dict[str, Any]) -> None:
    queried, responded = answer.get("numServersQueried"), answer.get("numServersResponded")
    if answer.get("partialResult"):
        raise TransientError("pinot's answer is partial; rows may be missing")
    if isinstance(queried, int) and isinstance(responded, int) and responded < queried:
        raise TransientError(
            f"only {responded} of {queried} pinot servers answered; rows may be missing"
        )


def _table(answer: dict[str, Any]) -> PinotTable:
    table = answer.get("resultTable")
    schema = table.get("dataSchema") if isinstance(table, dict) else None
    names = schema.get("columnNames") if isinstance(schema, dict) else None
    rows = table.get("rows") if isinstance(table, dict) else None
    if not isinstance(names, list) or not isinstance(rows, list):
        raise TransientError("pinot's answer has no table of results")
    if not all(isinstance(row, list) and len(row) == len(names) for row in rows):
        raise TransientError("pinot's answer has rows that do not fit its columns")
    return PinotTable({str(name): place for place, name in enumerate(names)}, rows)
