"""How Redis and Pinot are read for one workload, beside the settings that hold for all others."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hotloop.app.names import RedisLayout
from hotloop.app.settings import rules

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
