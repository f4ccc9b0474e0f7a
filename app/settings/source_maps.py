"""How Redis and Pinot are read for one workload, beside the settings that hold for all others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hotloop.app.names import ITEM_ID, RedisLayout
from hotloop.app.settings import rules
from hotloop.app.wording import echo
from hotloop.kernels import Workload

RedisKey = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(rules.redis_key)]
PinotSql = Annotated[str, Field(min_length=1, max_length=10_000), AfterValidator(rules.pinot_sql)]
PinotIdColumn = Annotated[str, Field(min_length=1, max_length=256)]
ColumnMap = Annotated[dict[str, str], Field(min_length=1, max_length=64)]
ColumnDefaults = Annotated[dict[str, float], Field(max_length=64)]


class SourceMap(BaseModel):
    """An entry of HOTLOOP_WORKLOAD_SOURCES. What it leaves out is as for other workloads."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    redis_key: RedisKey | None = None
    redis_layout: RedisLayout | None = None
    redis_columns: ColumnMap | None = None
    redis_defaults: ColumnDefaults | None = None
    pinot_sql: PinotSql | None = None
    pinot_id_column: PinotIdColumn | None = None
    pinot_columns: ColumnMap | None = None


def redis_columns_of(workload: Workload) -> dict[str, str]:
    """Return the default of `redis_columns`: the last input column, as `string` takes only one."""
    return {column.name: column.name for column in workload.columns_in[-1:]}


def pinot_columns_of(workload: Workload) -> dict[str, str]:
    """Return the default of `pinot_columns`: each input column, by its own name."""
    return {column.name: column.name for column in workload.columns_in}


def pinot_sql_of(workload: Workload) -> str:
    """Return the default of `pinot_sql`: the input columns, from a table `items`."""
    columns = "".join(f', "{column.name}"' for column in workload.columns_in)
    return f"SELECT {ITEM_ID.name}{columns} FROM items WHERE {ITEM_ID.name} IN ({{ids}})"


def check_redis_columns(
    layout: RedisLayout, columns: Mapping[str, str], sources: Mapping[str, SourceMap]
) -> None:
    """Raise the error that `rules.refuse` makes if several columns have the layout `string`, of all
    workloads or in an entry of HOTLOOP_WORKLOAD_SOURCES.
    """
    if layout is RedisLayout.STRING and len(columns) != 1:
        raise rules.refuse(
            f"{rules.PREFIX}REDIS_COLUMNS must have exactly one column with the layout string; "
            f"set {rules.PREFIX}REDIS_LAYOUT to json or hash for more"
        )
    for name, own in sources.items():
        own_layout = own.redis_layout or layout
        if own_layout is RedisLayout.STRING and len(own.redis_columns or columns) != 1:
            raise rules.refuse(
                f"{rules.PREFIX}WORKLOAD_SOURCES must have exactly one column in redis_columns of "
                f"{echo(name)} with the layout string; set its redis_layout to json or hash "
                "for more"
            )
