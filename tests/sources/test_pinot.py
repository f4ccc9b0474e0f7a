"""The database stage on the fake broker: its queries, and its use of right answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from hotloop.app.sources import connections, pinot
from hotloop.app.sources.base import StageCounts
from hotloop.app.sources.connections import close_connections
from hotloop.app.sources.resilience import RefusedError
from tests.fixtures.pinot_broker import RunningBroker, running_broker
from tests.fixtures.real_sources import (
    POLICY,
    SQL,
    UNTOUCHED,
    columns_of,
    fetched,
    item_batch,
    pinot_columns,
    pinot_stage,
    reasons,
)
from tests.fixtures.waiting import in_loop

SECRET = "Basic dXNlcjpzM2NyZXQ="


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningBroker]:
    with running_broker() as broker:
        yield broker


@pytest.fixture
def broker(shared: RunningBroker) -> RunningBroker:
    shared.control(None, reset=True)
    return shared


def test_rows_in_any_order_reach_their_items(broker: RunningBroker) -> None:
    ids = [907, 3, 4_999_999, 0, 512]
    batch = fetched(pinot_stage(broker.url), ids)
    assert columns_of(batch) == pinot_columns(ids)
    assert batch.failed == {}
    assert batch.counts == {"db": StageCounts(calls=1, hits=5)}


def test_query_has_ids_limit_and_timeout(broker: RunningBroker) -> None:
    fetched(pinot_stage(broker.url), [7, 5])
    counts = broker.counts()
    assert counts["last_sql"] == SQL.replace("{ids}", "7,5") + " LIMIT 10"
    assert counts["last_query_options"] == f"timeoutMs={POLICY.timeout_seconds * 1_000:.0f}"
    assert "authorization" not in counts["last_headers"]
    fetched(pinot_stage(broker.url), range(300))
    assert broker.counts()["last_sql"].endswith(" LIMIT 600")


def test_only_the_given_positions_change(broker: RunningBroker) -> None:
    for positions in (range(1, 3), [2, 1]):
        batch = fetched(pinot_stage(broker.url), range(4), positions)
        assert batch.columns["offset"].tolist() == [UNTOUCHED, 1, 2, UNTOUCHED]
    assert broker.counts()["ids_asked"] == 4


def test_item_without_a_row_fails_alone(broker: RunningBroker) -> None:
    batch = fetched(pinot_stage(broker.url), [1, 5_000_000, 2])
    assert reasons(batch) == {5_000_000: "pinot has no row for it"}
    assert batch.failed[1].stage == "db"
    assert batch.columns["value"].tolist() == [0.125, UNTOUCHED, 0.25]
    assert batch.counts["db"] == StageCounts(calls=1, hits=2, misses=1)
    alone = fetched(pinot_stage(broker.url), [5_000_000])
    assert list(alone.failed) == [0]
    assert alone.counts["db"] == StageCounts(calls=1, misses=1)


def test_columns_are_found_by_name_and_extra_ones_ignored(broker: RunningBroker) -> None:
    sql = 'SELECT carrier, "offset", item_id, value FROM flights WHERE item_id IN ({ids})'
    batch = fetched(pinot_stage(broker.url, sql=sql, fields=(("offset", "offset"),)), [8, 9])
    assert columns_of(batch) == ([UNTOUCHED] * 2, [8, 9])
    crossed = fetched(pinot_stage(broker.url, sql=sql, fields=(("value", "offset"),)), [98])
    assert columns_of(crossed) == ([1], [UNTOUCHED])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"sql": SQL.replace("flights", "nothing")}, "pinot error 190: .*HOTLOOP_PINOT_SQL"),
        ({"sql": SQL.replace('"offset"', "offset")}, "pinot error 150: .*HOTLOOP_PINOT_SQL"),
        ({"sql": SQL.replace('"value"', '"delay"')}, "pinot error 710: .*HOTLOOP_PINOT_SQL"),
        ({"id_column": "id"}, "no column 'id'; see HOTLOOP_PINOT_SQL"),
        ({"fields": (("value", "v"),)}, "no column 'v'; see HOTLOOP_PINOT_SQL"),
    ],
)
def test_wrong_settings_are_refused_after_one_query(
    broker: RunningBroker, changes: dict[str, object], text: str
) -> None:
    with pytest.raises(RefusedError, match=text):
        fetched(pinot_stage(broker.url, **changes), [1])
    assert broker.counts()["queries"] == 1


def test_path_of_a_proxy_is_kept(broker: RunningBroker) -> None:
    fetched(pinot_stage(f"{broker.url}/"), [1])
    with pytest.raises(RefusedError, match="pinot answered HTTP 404; see HOTLOOP_PINOT_URL"):
        fetched(pinot_stage(f"{broker.url}/pinot"), [1])


def test_fifty_thousand_rows_in_one_query(broker: RunningBroker) -> None:
    """Large answers are read beside the loop."""
    batch = fetched(pinot_stage(broker.url), range(50_000))
    assert columns_of(batch) == pinot_columns(range(50_000))
    assert broker.counts()["queries"] == 1


def test_authorization_is_sent_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with running_broker(authorization=SECRET) as broker:
        stage = pinot_stage(broker.url, authorization=SECRET)
        assert columns_of(fetched(stage, [1])) == pinot_columns([1])
        for wrong in (None, "Bearer wr0ng"):
            with pytest.raises(RefusedError) as caught:
                fetched(pinot_stage(broker.url, authorization=wrong), [1])
            assert str(caught.value) == (
                "pinot refuses the access; see HOTLOOP_PINOT_AUTHORIZATION"
            )
        assert broker.counts()["queries"] == 3
        for secret in (SECRET, "dXNlcjpzM2NyZXQ=", "wr0ng"):
            assert secret not in repr(stage) + caplog.text


@pytest.mark.parametrize("limit", [1, 7, 40])
def test_queries_in_flight_are_as_many_as_connections(limit: int) -> None:
    with running_broker(delay_ms=30) as broker:
        stage = pinot_stage(broker.url, connections=limit)

        async def run() -> None:
            batch = item_batch(range(100))
            calls = (stage.fetch_async(batch, range(n, n + 2)) for n in range(0, 100, 2))
            await asyncio.gather(*calls)
            await close_connections()
            assert columns_of(batch) == pinot_columns(range(100))

        asyncio.run(run())
        assert broker.counts()["max_concurrent"] == limit


def test_thousands_of_queries_at_once() -> None:
    with running_broker(delay_ms=300) as broker:
        stage = pinot_stage(broker.url, connections=1_500)

        async def run() -> None:
            batch = item_batch(range(1_500))
            await asyncio.gather(*(stage.fetch_async(batch, [n]) for n in range(1_500)))
            await close_connections()
            assert columns_of(batch) == pinot_columns(range(1_500))

        asyncio.run(run())


def test_both_faces_read_the_same(broker: RunningBroker) -> None:
    stage = pinot_stage(broker.url)
    blocking = item_batch(range(20))
    stage.fetch(blocking, range(20), threading.Event())
    asyncio.run(close_connections())
    assert columns_of(blocking) == columns_of(fetched(stage, range(20)))


@in_loop
async def test_connection_is_kept_between_calls(broker: RunningBroker) -> None:
    stage = pinot_stage(broker.url)
    for _ in range(3):
        await stage.fetch_async(item_batch([1]), [0])
    (opened,) = connections._connections[asyncio.get_running_loop()].values()
    assert isinstance(opened, pinot._PinotConnection)
    await close_connections()
    assert asyncio.get_running_loop() not in connections._connections
