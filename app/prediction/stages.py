"""Making the I/O stages of a run from its request and the settings."""

from __future__ import annotations

from typing import Any, Final
from uuid import uuid4

from hotloop import kernels
from hotloop.app.errors import InvalidRequestError
from hotloop.app.schemas.options import AUTO, CacheMode, CacheSource, DbSource, RunOptions
from hotloop.app.schemas.runs import RunRequest, UploadQuery
from hotloop.app.settings.rules import load_factory
from hotloop.app.settings.settings import Settings, variable_name
from hotloop.app.settings.source_maps import pinot_columns_of, pinot_sql_of, redis_columns_of
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
    columns = _checked_columns("db", "pinot_columns", settings, request.workload)
    secret = settings.pinot_authorization
    return PinotStage(
        url=settings.pinot_url,
        authorization=secret.get_secret_value() if secret else None,
        sql=_setting(settings, "pinot_sql", request.workload),
        id_column=_setting(settings, "pinot_id_column", request.workload),
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
    columns = _checked_columns("cache", "redis_columns", settings, request.workload)
    return RedisStage(
        url=settings.redis_url.get_secret_value(),
        key=_setting(settings, "redis_key", request.workload),
        layout=_setting(settings, "redis_layout", request.workload),
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


def _setting(settings: Settings, name: str, workload: str) -> Any:
    """Return a setting for a workload: its own, else that of all, else the workload's default."""
    if _has_own(settings, name, workload):
        return getattr(settings.workload_sources[workload], name)
    if name in _DEFAULTS and name not in settings.model_fields_set:
        return _DEFAULTS[name](kernels.get_workload(workload))
    return getattr(settings, name)


_DEFAULTS: Final = {
    "redis_columns": redis_columns_of,
    "pinot_columns": pinot_columns_of,
    "pinot_sql": pinot_sql_of,
}


def _has_own(settings: Settings, name: str, workload: str) -> bool:
    own = settings.workload_sources.get(workload)
    return own is not None and getattr(own, name) is not None


def _place(settings: Settings, name: str, workload: str) -> str:
    """Return the words for the place where a setting of a workload comes from."""
    if _has_own(settings, name, workload):
        return f"{name} of {workload} in HOTLOOP_WORKLOAD_SOURCES"
    return variable_name(name)


def _checked_columns(field: str, name: str, settings: Settings, workload: str) -> dict[str, str]:
    """Return the mapped columns. Raises InvalidRequestError for one that the workload lacks."""
    given: dict[str, str] = _setting(settings, name, workload)
    known = [column.name for column in kernels.get_workload(workload).columns_in]
    for column in given:
        if column not in known:
            place = _place(settings, name, workload)
            hint = "" if _has_own(settings, name, workload) else _OWN_HINT.format(name, workload)
            raise InvalidRequestError(
                field,
                f"{place} names {column!r}, but {workload} has the columns "
                f"{', '.join(known)}{hint}",
            )
    return given


_OWN_HINT: Final = "; HOTLOOP_WORKLOAD_SOURCES can have {} for {} alone"


def _defaults(settings: Settings, workload: str) -> tuple[tuple[str, Any], ...]:
    """Return the default of each column that Redis fills; None if there is none within its bounds.

    Raises InvalidRequestError for a default that does not fit.
    """
    columns = {column.name: column for column in row_columns(workload)}
    filled = _setting(settings, "redis_columns", workload)
    given: dict[str, float] = _setting(settings, "redis_defaults", workload)
    owns = [_has_own(settings, name, workload) for name in ("redis_columns", "redis_defaults")]
    if owns == [True, False]:
        given = {}  # they are meant for the columns of other workloads
    place = _place(settings, "redis_defaults", workload)
    for name, value in given.items():
        if name not in filled:
            other = _place(settings, "redis_columns", workload)
            raise InvalidRequestError("cache", f"{place} names {name!r}, {other} does not")
        if _default(columns[name], value) is None:
            raise InvalidRequestError(
                "cache", f"{place} has {value:g} for {name}, which is out of bounds"
            )
    return tuple((name, _default(columns[name], given.get(name, 0.0))) for name in filled)


def _default(column: RowColumn, value: float) -> Any:
    """Return a number as a value of the column, in each place of a vector; None if it is none."""
    is_whole = column.is_integer or column.is_bool
    if not column.in_bounds(value) or (is_whole and not value.is_integer()):
        return None
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
    redis = _setting(settings, "redis_columns", request.workload)
    pinot = _setting(settings, "pinot_columns", request.workload)
    for setting, given, other in (
        ("redis_columns", redis, pinot),
        ("pinot_columns", pinot, redis),
    ):
        missing = [name for name in other if name not in given]
        if missing:
            raise InvalidRequestError(
                "cache_mode",
                "aside takes an item's columns from redis or from pinot, so both must have the "
                f"same; {_place(settings, setting, request.workload)} lacks {', '.join(missing)}",
            )
