"""The cache stage on Redis or Valkey: many keys with one round trip."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hotloop.app.names import RedisLayout
from hotloop.app.sources.base import ItemBatch, ItemFetchError, Positions
from hotloop.app.sources.connections import AsyncStage, connection
from hotloop.app.sources.resilience import Guard, Policy, RefusedError, TransientError, breaker_of
from hotloop.app.sources.row_columns import RowColumn, shortened
from hotloop.app.sources.values import assign, ids_at, mapped_columns

if TYPE_CHECKING:  # the import takes a third of a second, and few runs need it
    from redis.asyncio import Redis
    from redis.asyncio.connection import AbstractConnection

ID_PLACE = "{id}"


@dataclass(frozen=True, slots=True)
class RedisStage(AsyncStage):
    """Reads the key of each item.

    With the layout `string` a key holds a value, for one column; with `json` an object, and with
    `hash` fields. A key or a field that is missing takes the column's default. With `aside`, an
    item whose key has all columns is complete, and any other item is left to the next stage, even
    when Redis is down.
    """

    url: str = field(repr=False)
    key: str
    """The key, with `{id}` in the place of the item's id."""
    layout: RedisLayout
    fields: tuple[tuple[str, str], ...]
    """Pairs of a workload's column, and the field that it is read from (unused for `string`)."""
    defaults: tuple[tuple[str, Any], ...]
    """The default of each column in `fields`, a list for a vector; None fails an item that has no
    value."""
    workload: str
    connections: int
    """The most connections for each event loop."""
    policy: Policy
    aside: bool = False
    name: str = "cache"
    source: str = "redis"
    batched: bool = True
    seconds_per_call: float = 0.001

    async def fetch_async(self, batch: ItemBatch, positions: Positions) -> None:
        """Fetch items. Without `aside`, raises TransientError, RefusedError, SourceDownError."""
        counts = batch.counts_of(self.name)
        opened = connection((self.url, self.connections, self.policy.timeout_seconds), self._open)
        before, _, after = self.key.partition(ID_PLACE)
        keys = [f"{before}{item_id}{after}" for item_id in ids_at(batch, positions)]
        try:
            rows = await opened.guard.call(lambda: self._read(opened, keys), self.policy, counts)
        except ItemFetchError:
            if not self.aside:
                raise
            counts.misses += len(positions)
            return
        if self.aside:
            found = [p for p, row in zip(positions, rows, strict=True) if _is_complete(row)]
            rows = [row for row in rows if _is_complete(row)]
            counts.hits += len(found)
            counts.misses += len(positions) - len(found)
            if not found:
                return
            positions = found
            batch.complete.update(found)
        else:
            hits = len(rows) - rows.count(None)
            counts.hits += hits
            counts.misses += len(positions) - hits
        defaults = dict(self.defaults)
        for number, (column, _) in enumerate(mapped_columns(self.workload, self.fields)):
            default = defaults[column.name]
            values = [default if row is None or (v := row[number]) is None else v for row in rows]
            assign(batch, positions, column, values, self.name)

    def _open(self) -> _RedisConnection:
        return _RedisConnection(self.url, self.connections, self.policy.timeout_seconds)

    async def _read(self, opened: _RedisConnection, keys: list[str]) -> list[Sequence[Any] | None]:
        """Return the values of the columns for each key; None for missing values."""
        columns = mapped_columns(self.workload, self.fields)
        if self.layout is RedisLayout.HASH:
            fields = [name for _, name in columns]
            answers = await opened.hash_fields(keys, fields)
            return [_hash_row(columns, values) for values in answers]
        values = await opened.strings(keys)
        if self.layout is RedisLayout.JSON:
            return [_json_row(columns, value) for value in values]
        return _string_rows(columns[0][0], values)


def _is_complete(row: Sequence[Any] | None) -> bool:
    return row is not None and None not in row


def _string_rows(column: RowColumn, values: list[bytes | None]) -> list[Sequence[Any] | None]:
    if not column.is_bool and column.width is None:
        with suppress(TypeError, ValueError):
            # By far the most common case: every key exists and holds a number.
            return list(zip(map(int if column.is_integer else float, values)))  # type: ignore[arg-type]
    return [None if value is None else (_parsed(column, value),) for value in values]


def _parsed(column: RowColumn, value: bytes) -> int | float | str:
    """Return the number, or the text that was found instead, which then fails its item, unless
    `assign` reads a boolean or a vector from it.
    """
    is_number = not column.is_bool and column.width is None
    if is_number and b"_" not in value:  # only Python reads numbers with underscores
        # 12.0 for an integer column passes here; `assign` checks whether it is an integer.
        for read in (int, float) if column.is_integer else (float,):
            with suppress(ValueError):
                return read(value)
    return value.decode(errors="replace")


def _hash_row(
    columns: tuple[tuple[RowColumn, str], ...], values: list[bytes | None] | None
) -> Sequence[Any] | None:
    if values is None:
        return ["WRONGTYPE: no hash under the key"] * len(columns)
    if all(value is None for value in values):
        return None
    return [
        None if value is None else _parsed(column, value)
        for (column, _), value in zip(columns, values, strict=True)
    ]


def _json_row(
    columns: tuple[tuple[RowColumn, str], ...], value: bytes | None
) -> Sequence[Any] | None:
    if value is None:
        return None
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        shown = shortened(value.decode(errors="replace"))
        return [f"no JSON object: {shown}"] * len(columns)
    return [parsed.get(name) for _, name in columns]


def _packing_fast(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """Return a connection class that packs commands of many keys with hiredis. redis-py does so for
    its blocking client only, and packing in Python took half of a lookup's CPU time.
    """
    from hiredis import pack_command

    class PackingFast(kind):  # type: ignore[misc, valid-type]
        def pack_command(self, *args: Any) -> list[bytes]:
            if args[0] in ("MGET", "HMGET"):
                return [pack_command(args)]
            packed: list[bytes] = super().pack_command(*args)
            return packed

    return PackingFast


class _RedisConnection:
    """A pool of connections to one server, for one event loop."""

    def __init__(self, url: str, connections: int, timeout_seconds: float) -> None:
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        self.guard = Guard(breaker_of("redis", url))
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=connections,
            timeout=None,  # the guard limits how long a call waits for its turn
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),  # the guard retries
        )
        pool.connection_class = _packing_fast(pool.connection_class)
        self._client: Redis = Redis(connection_pool=pool)
        self._pool = pool

    async def strings(self, keys: list[str]) -> list[bytes | None]:
        values: list[bytes | None] = await self._answer(self._client.mget(keys))
        return values

    async def hash_fields(
        self, keys: list[str], fields: list[str]
    ) -> list[list[bytes | None] | None]:
        """Return the values of the fields for each key; None for a key that holds no hash."""
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.hmget(key, fields)
        answers = await self._answer(pipeline.execute(raise_on_error=False))
        return [_hash_values(answer) for answer in answers]

    async def _answer(self, reply: Any) -> Any:
        from redis import exceptions

        try:
            return await reply
        except (exceptions.RedisError, OSError) as error:
            raise _failure(error) from error

    async def close(self) -> None:
        await self._client.aclose()
        await self._pool.disconnect()


def _hash_values(answer: Any) -> list[bytes | None] | None:
    if isinstance(answer, Exception):
        if str(answer).startswith("WRONGTYPE"):
            return None
        raise _failure(answer) from answer
    values: list[bytes | None] = answer
    return values


def _failure(error: Exception) -> TransientError | RefusedError:
    from redis import exceptions

    text = shortened(str(error))
    match error:
        case exceptions.AuthenticationError() | exceptions.AuthorizationError():
            return RefusedError("redis refuses the access; see HOTLOOP_REDIS_URL")
        case exceptions.NoPermissionError():
            return RefusedError("redis refuses the command or the key; see HOTLOOP_REDIS_URL")
        case exceptions.BusyLoadingError():
            return TransientError("redis is loading its data")
        case exceptions.TimeoutError():
            return TransientError("redis did not answer in time")
        case exceptions.ConnectionError() | OSError():
            return TransientError("redis cannot be reached, or closed the connection")
        case exceptions.TryAgainError() | exceptions.ClusterDownError():
            return TransientError(f"redis cannot answer now: {text}")
        case exceptions.ResponseError() if text.startswith("BUSY"):
            return TransientError(f"redis cannot answer now: {text}")
        case exceptions.ResponseError():
            return RefusedError(f"redis refused: {text}")
        case _:
            return TransientError("redis's answer cannot be read")
