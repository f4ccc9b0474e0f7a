"""Making the I/O stages of a run from its request and the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from hotloop import kernels
from hotloop.app.errors import InvalidRequestError
from hotloop.app.schemas.options import AUTO, CacheMode, CacheSource, DbSource, RunOptions
from hotloop.app.schemas.runs import RunRequest, UploadQuery
from hotloop.app.settings.rules import load_factory
from hotloop.app.settings.settings import (
    Settings,
    pinot_columns_of,
    pinot_sql_of,
    redis_columns_of,
)
from hotloop.app.sources.base import Stage
from hotloop.app.sources.pinot import PinotStage
from hotloop.app.sources.redis import RedisStage
from hotloop.app.sources.resilience import Policy
from hotloop.app.sources.row_columns import RowColumn, row_columns
from hotloop.app.sources.simulated import SimulatedStage


def make_stages(request: RunRequest | UploadQuery, settings: Settings) -> tuple[Stage, ...]:
    """Return the stages that wait, in their order, without stages that answer at once.

    Raises InvalidRequestError for a source that is unknown, is not configured, or does not fit
    the workload.
    """
    db = _db_stage(request, settings)
    cache = _cache_stage(request, settings)
    if request.cache_mode is CacheMode.ASIDE:
        _check_aside(request, settings)
        return tuple(stage for stage in (cache, db) if stage is not None)
    return tuple(stage for stage in (db, cache) if stage is not None)


def group_size(request: RunOptions, stages: tuple[Stage, ...]) -> int:
    """Return the number of items that pass the stages together, if batches are large enough."""
    return request.query_batch_size if any(stage.batched for stage in stages) else 1


def _db_stage(request: RunRequest | UploadQuery, settings: Settings) -> Stage | None:
    match request.db_source:
        case DbSource.NONE:
            return None
        case DbSource.SIMULATED:
            delay = request.db_delay_ms / 1_000
            waits = request.simulate_db_delay and delay > 0
            return SimulatedStage("db", delay, delay) if waits else None
        case DbSource.PINOT:
            return _pinot(request, settings)
        case own:
            return _own_stage("db", own, tuple(DbSource), request, settings)


def _cache_stage(request: RunRequest | UploadQuery, settings: Settings) -> Stage | None:
    match request.cache_source:
        case CacheSource.NONE:
            return None
        case CacheSource.SIMULATED:
            low, high = (bound / 1_000 for bound in request.redis_delay_ms)
            waits = request.simulate_redis_delay and high > 0
            return SimulatedStage("cache", low, high) if waits else None
        case CacheSource.REDIS:
            return _redis(request, settings)
        case own:
            return _own_stage("cache", own, tuple(CacheSource), request, settings)


def _pinot(request: RunRequest | UploadQuery, settings: Settings) -> PinotStage:
    if settings.pinot_url is None:
        raise InvalidRequestError(
            "db", "pinot has no address; set HOTLOOP_PINOT_URL, or ask for simulated or none"
        )
    columns = _columns_setting(settings, "pinot_columns", request.workload)
    _check_columns("db", "HOTLOOP_PINOT_COLUMNS", columns, request.workload)
    secret = settings.pinot_authorization
    return PinotStage(
        url=settings.pinot_url,
        authorization=secret.get_secret_value() if secret else None,
        sql=_columns_setting(settings, "pinot_sql", request.workload),
        id_column=settings.pinot_id_column,
        fields=tuple(columns.items()),
        workload=request.workload,
        connections=_connections(request),
        policy=_policy(settings),
    )


def _redis(request: RunRequest | UploadQuery, settings: Settings) -> RedisStage:
    if settings.redis_url is None:
        raise InvalidRequestError(
            "cache", "redis has no address; set HOTLOOP_REDIS_URL, or ask for simulated or none"
        )
    columns = _columns_setting(settings, "redis_columns", request.workload)
    _check_columns("cache", "HOTLOOP_REDIS_COLUMNS", columns, request.workload)
    return RedisStage(
        url=settings.redis_url.get_secret_value(),
        key=settings.redis_key,
        layout=settings.redis_layout,
        fields=tuple(columns.items()),
        defaults=_defaults(settings, request.workload),
        workload=request.workload,
        connections=_connections(request),
        policy=_policy(settings),
        aside=request.cache_mode is CacheMode.ASIDE,
    )


def _own_stage(
    stage: str,
    source: str,
    known: tuple[str, ...],
    request: RunRequest | UploadQuery,
    settings: Settings,
) -> Stage:
    if source not in settings.sources:
        choices = ", ".join([*known, *settings.sources])
        raise InvalidRequestError(stage, f"{source!r} is unknown; choose from: {choices}")
    made: Stage = load_factory(settings.sources[source])(
        name=stage,
        workload=request.workload,
        connections=_connections(request),
        policy=_policy(settings),
    )
    return made


def _connections(request: RunRequest | UploadQuery) -> int:
    """Return the most groups in flight, so that the pool of connections never limits them. An
    `auto` batch size is smaller than a group only if there are no more batches than workers.
    """
    group = request.query_batch_size
    if request.batch_size != AUTO:
        group = min(group, request.batch_size)
    return max(request.workers, -(-request.io_concurrency // group))


def _policy(settings: Settings) -> Policy:
    return Policy(
        settings.source_timeout_seconds,
        settings.source_attempts,
        settings.source_outage_seconds,
        run=uuid4().hex,
    )


def _columns_setting(settings: Settings, name: str, workload: str) -> Any:
    """Return a setting of columns, or the workload's default if it is not set."""
    if name in settings.model_fields_set:
        return getattr(settings, name)
    return _DEFAULTS[name](kernels.get_workload(workload))


_DEFAULTS: Final = {
    "redis_columns": redis_columns_of,
    "pinot_columns": pinot_columns_of,
    "pinot_sql": pinot_sql_of,
}


def _check_columns(field: str, variable: str, given: Mapping[str, Any], workload: str) -> None:
    known = [column.name for column in kernels.get_workload(workload).columns_in]
    for name in given:
        if name not in known:
            raise InvalidRequestError(
                field,
                f"{variable} names {name!r}, but {workload} has the columns {', '.join(known)}",
            )


def _defaults(settings: Settings, workload: str) -> tuple[tuple[str, Any], ...]:
    columns = {column.name: column for column in row_columns(workload)}
    filled = _columns_setting(settings, "redis_columns", workload)
    for name, value in settings.redis_defaults.items():
        if name not in filled:
            raise InvalidRequestError(
                "cache", f"HOTLOOP_REDIS_DEFAULTS names {name!r}, HOTLOOP_REDIS_COLUMNS does not"
            )
        column = columns[name]
        is_whole = column.is_integer or column.is_bool
        if not column.in_bounds(value) or (is_whole and not value.is_integer()):
            raise InvalidRequestError(
                "cache", f"HOTLOOP_REDIS_DEFAULTS has {value:g} for {name}, which is out of bounds"
            )
    return tuple(
        (name, _default(columns[name], settings.redis_defaults.get(name, 0.0))) for name in filled
    )


def _default(column: RowColumn, value: float) -> Any:
    """Return a default as the column's kind of value; each value of a vector is the same."""
    one = bool(value) if column.is_bool else int(value) if column.is_integer else value
    return one if column.width is None else [one] * column.width


def _check_aside(request: RunRequest | UploadQuery, settings: Settings) -> None:
    if request.cache_source != CacheSource.REDIS or request.db_source == DbSource.NONE:
        raise InvalidRequestError(
            "cache_mode",
            "aside looks into redis before it asks the database; it needs cache = redis and a db "
            "that is not none",
        )
    if request.db_source != DbSource.PINOT:
        return
    redis = _columns_setting(settings, "redis_columns", request.workload)
    pinot = _columns_setting(settings, "pinot_columns", request.workload)
    for variable, given, other in (
        ("HOTLOOP_REDIS_COLUMNS", redis, pinot),
        ("HOTLOOP_PINOT_COLUMNS", pinot, redis),
    ):
        missing = [name for name in other if name not in given]
        if missing:
            raise InvalidRequestError(
                "cache_mode",
                "aside takes an item's columns from redis or from pinot, so both must have the "
                f"same; {variable} lacks {', '.join(missing)}",
            )
