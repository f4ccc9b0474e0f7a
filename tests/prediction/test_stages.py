"""The stages of a request by the settings, and refusals that say what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hotloop.app.errors import InvalidRequestError
from hotloop.app.names import RedisLayout
from hotloop.app.prediction.stages import group_size, make_stages
from hotloop.app.schemas.runs import RunRequest, UploadQuery
from hotloop.app.settings.settings import Settings
from hotloop.app.sources.pinot import PinotStage
from hotloop.app.sources.redis import RedisStage
from hotloop.app.sources.simulated import SimulatedStage
from tests.fixtures.own_source import SquareStage

REDIS, PINOT = "redis://:s3cret@cache:6379/0", "http://broker:8099"
BOTH = {"value": "v", "offset": "o"}
ASIDE = {"db": "pinot", "cache": "redis", "cache_mode": "aside"}


def settings(**changes: Any) -> Settings:
    fields: dict[str, Any] = {
        "data_dir": Path("data"),
        "redis_url": REDIS,
        "pinot_url": PINOT,
        "sources": {"square": "tests.fixtures.own_source:SquareStage"},
    }
    return Settings(**(fields | changes))


def stages(given: dict[str, Any], **changes: Any) -> tuple[Any, ...]:
    request = RunRequest.model_validate_json(json.dumps({"cache": "none", "db": "none"} | given))
    return make_stages(request, settings(**changes))


def refusal(given: dict[str, Any], **changes: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        stages(given, **changes)
    assert "s3cret" not in str(caught.value)
    return caught.value


def test_pinot_stage_follows_the_settings() -> None:
    (made,) = stages(
        {"db": "pinot"},
        pinot_authorization="Bearer s3cret",
        pinot_sql="SELECT id, v, o FROM t WHERE id IN ({ids})",
        pinot_id_column="id",
        pinot_columns=BOTH,
        source_timeout_seconds=1.5,
        source_attempts=7,
        source_outage_seconds=2.5,
    )
    assert isinstance(made, PinotStage)
    assert (made.name, made.source, made.batched, made.workload) == ("db", "pinot", True, "loops")
    assert (made.url, made.authorization) == (PINOT, "Bearer s3cret")
    assert (made.sql, made.id_column) == ("SELECT id, v, o FROM t WHERE id IN ({ids})", "id")
    assert made.fields == (("value", "v"), ("offset", "o"))
    policy = made.policy
    assert (policy.timeout_seconds, policy.attempts, policy.outage_seconds) == (1.5, 7, 2.5)
    assert "s3cret" not in repr(made)


def test_redis_stage_follows_the_settings() -> None:
    (made,) = stages(
        {"cache": "redis"},
        redis_key="k{id}",
        redis_layout="hash",
        redis_columns=BOTH,
        redis_defaults={"offset": 7},
    )
    assert isinstance(made, RedisStage)
    assert (made.name, made.source, made.aside) == ("cache", "redis", False)
    assert (made.url, made.key, made.layout) == (REDIS, "k{id}", RedisLayout.HASH)
    assert made.fields == (("value", "v"), ("offset", "o"))
    assert repr(made.defaults) == "(('value', 0.0), ('offset', 7))"
    assert "s3cret" not in repr(made)
    assert "cache:6379" not in repr(made)


def test_each_run_has_its_own_policy() -> None:
    first, second = (stages({"db": "pinot"})[0].policy.run for _ in range(2))
    assert first
    assert first != second


def test_cache_mode_decides_the_order() -> None:
    lookup = stages({"db": "pinot", "cache": "redis"})
    assert [stage.name for stage in lookup] == ["db", "cache"]
    columns = {"redis_layout": "json", "redis_columns": BOTH}
    aside = stages(ASIDE, **columns)
    assert [stage.name for stage in aside] == ["cache", "db"]
    assert aside[0].aside is True


@pytest.mark.parametrize(
    ("given", "connections", "group"),
    [
        ({}, 4, 500),
        ({"io_concurrency": 20_000, "query_batch_size": 10}, 2_000, 10),
        ({"io_concurrency": 1_001, "query_batch_size": 100}, 11, 100),
        ({"workers": 256}, 256, 500),
        # With batches that are smaller, these are the groups.
        ({"batch_size": 10, "io_concurrency": 1_000}, 100, 500),
    ],
)
def test_pool_has_a_connection_for_each_group_in_flight(
    given: dict[str, Any], connections: int, group: int
) -> None:
    request = RunRequest(db="pinot", cache="redis", **given)
    made = make_stages(request, settings())
    assert [stage.connections for stage in made] == [connections] * 2  # type: ignore[attr-defined]
    assert group_size(request, made) == group


def test_items_pass_simulated_stages_one_by_one() -> None:
    request = RunRequest(query_batch_size=100)
    made = make_stages(request, settings())
    assert [type(stage) for stage in made] == [SimulatedStage, SimulatedStage]
    assert group_size(request, made) == 1
    mixed = RunRequest(query_batch_size=100, db="pinot")
    assert group_size(mixed, make_stages(mixed, settings())) == 100


@pytest.mark.parametrize("name", ["db", "cache"])
def test_custom_source_serves_either_stage(name: str) -> None:
    given: dict[str, Any] = {"db": "none", "cache": "none", name: "square"}
    request = RunRequest(**given, workers=9)
    (made,) = make_stages(request, settings(source_attempts=9))
    assert isinstance(made, SquareStage)
    assert (made.name, made.workload, made.connections) == (name, "loops", 9)
    assert made.policy.attempts == 9


def test_upload_has_the_same_stages_as_a_run() -> None:
    made = make_stages(UploadQuery(db="pinot", cache="square"), settings())
    assert [type(stage) for stage in made] == [PinotStage, SquareStage]


def own(**changes: Any) -> dict[str, Any]:
    return {"workload_sources": {"loops": changes}}


def test_workload_has_settings_of_its_own() -> None:
    mapped = {
        "redis_key": "flight:{id}",
        "redis_layout": "json",
        "redis_columns": {"value": "delay", "offset": "o"},
        "redis_defaults": {"value": 0.5},
        "pinot_sql": "SELECT n, delay FROM flights WHERE n IN ({ids})",
        "pinot_id_column": "n",
        "pinot_columns": {"value": "delay"},
    }
    other: dict[str, Any] = {"redis_columns": {"offset": "x"}, "redis_defaults": {"offset": 9}}
    pinot, redis = stages({"db": "pinot", "cache": "redis"}, **own(**mapped), **other)
    assert isinstance(pinot, PinotStage)
    assert isinstance(redis, RedisStage)
    assert (redis.key, redis.layout) == ("flight:{id}", RedisLayout.JSON)
    assert redis.fields == (("value", "delay"), ("offset", "o"))
    assert redis.defaults == (("value", 0.5), ("offset", 0))
    assert (pinot.sql, pinot.id_column) == (mapped["pinot_sql"], "n")
    assert pinot.fields == (("value", "delay"),)


def test_what_a_workload_leaves_out_is_as_for_the_others() -> None:
    other: dict[str, Any] = {"redis_key": "k:{id}", "redis_defaults": {"offset": 9}}
    (redis,) = stages({"cache": "redis"}, **own(redis_layout="hash"), **other)
    assert (redis.key, redis.layout) == ("k:{id}", RedisLayout.HASH)
    assert redis.fields == (("offset", "offset"),)
    assert redis.defaults == (("offset", 9),)
    (redis,) = stages({"cache": "redis"}, **own(redis_columns={"value": "v"}), **other)
    assert redis.defaults == (("value", 0.0),)


UNKNOWN_COLUMN = {"nothing": "n"}


@pytest.mark.parametrize(
    ("given", "changes", "field", "words"),
    [
        ({"db": "pinot"}, {"pinot_url": None}, "db", "set HOTLOOP_PINOT_URL"),
        ({"cache": "redis"}, {"redis_url": None}, "cache", "set HOTLOOP_REDIS_URL"),
        ({"db": "redis"}, {}, "db", "choose from: simulated, pinot, none, square"),
        ({"cache": "pinot"}, {}, "cache", "choose from: simulated, redis, none, square"),
        (
            {"db": "pinot"},
            {"pinot_columns": UNKNOWN_COLUMN},
            "db",
            "HOTLOOP_PINOT_COLUMNS names 'nothing', but loops has the columns value, offset",
        ),
        (
            {"cache": "redis"},
            {"redis_columns": UNKNOWN_COLUMN},
            "cache",
            "HOTLOOP_REDIS_COLUMNS names 'nothing', but loops has the columns value, offset",
        ),
        (
            {"cache": "redis"},
            {"redis_columns": UNKNOWN_COLUMN},
            "cache",
            "HOTLOOP_WORKLOAD_SOURCES can have redis_columns for loops alone",
        ),
        (
            {"db": "pinot"},
            own(pinot_columns=UNKNOWN_COLUMN),
            "db",
            "pinot_columns of loops in HOTLOOP_WORKLOAD_SOURCES names 'nothing', but loops has",
        ),
        (
            {"cache": "redis"},
            own(redis_defaults={"value": 1}),
            "cache",
            "redis_defaults of loops in HOTLOOP_WORKLOAD_SOURCES names 'value', "
            "HOTLOOP_REDIS_COLUMNS does not",
        ),
        (
            {"cache": "redis"},
            {"redis_defaults": {"value": 1}},
            "cache",
            "HOTLOOP_REDIS_DEFAULTS names 'value', HOTLOOP_REDIS_COLUMNS does not",
        ),
        ({"cache": "redis"}, {"redis_defaults": {"offset": -1}}, "cache", "out of bounds"),
        ({"cache": "redis"}, {"redis_defaults": {"offset": 1.5}}, "cache", "out of bounds"),
        ({"cache": "redis"}, {"redis_defaults": {"offset": 2**31}}, "cache", "out of bounds"),
        (ASIDE | {"cache": "none"}, {}, "cache_mode", "needs cache = redis"),
        (ASIDE | {"cache": "simulated"}, {}, "cache_mode", "needs cache = redis"),
        (ASIDE | {"cache": "square"}, {}, "cache_mode", "needs cache = redis"),
        (ASIDE | {"db": "none"}, {}, "cache_mode", "a db that is not none"),
        (ASIDE, {}, "cache_mode", "HOTLOOP_REDIS_COLUMNS lacks value"),
        (
            ASIDE,
            {
                "redis_layout": "json",
                "redis_columns": BOTH,
                "pinot_columns": {"value": "v"},
            },
            "cache_mode",
            "HOTLOOP_PINOT_COLUMNS lacks offset",
        ),
    ],
)
def test_refusal_names_the_field_and_the_way_out(
    given: dict[str, Any], changes: dict[str, Any], field: str, words: str
) -> None:
    error = refusal(given, **changes)
    assert error.field == field
    assert words in error.text


@pytest.mark.parametrize("db", ["simulated", "square"])
def test_aside_before_other_databases_takes_any_columns(db: str) -> None:
    assert [stage.name for stage in stages(ASIDE | {"db": db})] == ["cache", "db"]


def test_columns_of_unused_sources_are_not_checked() -> None:
    assert stages({}, pinot_columns=UNKNOWN_COLUMN, redis_columns=UNKNOWN_COLUMN) == ()
