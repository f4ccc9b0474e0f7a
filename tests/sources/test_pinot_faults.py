"""sources.pinot: faults of a broker's answer, and their effect on items."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from hotloop.app.sources import pinot, resilience
from hotloop.app.sources.connections import close_connections
from hotloop.app.sources.resilience import RefusedError, SourceDownError, TransientError
from tests.fixtures.guarded import free_port
from tests.fixtures.outages import try_again_soon
from tests.fixtures.pinot_broker import RunningBroker, running_broker
from tests.fixtures.pinot_faults import FAULTS
from tests.fixtures.real_sources import (
    POLICY,
    UNTOUCHED,
    columns_of,
    fetched,
    item_batch,
    pinot_columns,
    pinot_stage,
    reasons,
)
from tests.fixtures.waiting import in_loop, until

IDS = range(100, 120)
GIVES_UP = replace(POLICY, attempts=2)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    try_again_soon(monkeypatch, 0.02)
    monkeypatch.setattr(resilience, "FIRST_BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(resilience, "LONGEST_BACKOFF_SECONDS", 0.01)


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningBroker]:
    with running_broker() as broker:
        yield broker


@pytest.fixture
def broker(shared: RunningBroker) -> Iterator[RunningBroker]:
    shared.control(None, reset=True)
    yield shared
    shared.control(None)


@dataclass(frozen=True)
class Outcome:
    """`error` of the whole call, or `items` that fail; neither: everything is right."""

    error: type[Exception] | None = None
    items: int = 0
    text: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    policy: Any = GIVES_UP


PASSES, LASTS = TransientError, RefusedError
OUTCOMES = {
    "close_mid_body": Outcome(PASSES, text="broke the connection"),
    "columns_reordered": Outcome(),
    "conflicting_rows": Outcome(items=1, text="pinot has different rows for it"),
    "duplicate_rows": Outcome(),
    "empty_object": Outcome(PASSES, text="has no table of results"),
    "exception_with_rows": Outcome(PASSES, text="pinot error 427"),
    "garbage": Outcome(PASSES, text="is no JSON object"),
    "html": Outcome(PASSES, text="pinot answered HTTP 502"),
    "huge_answer": Outcome(LASTS, text="is over 1,000,000 bytes; lower query_batch_size"),
    "huge_numbers": Outcome(items=1, text="offset is 1180591620717411303424"),
    "missing_column": Outcome(LASTS, text="has no column 'value'"),
    "missing_rows": Outcome(items=1, text="pinot has no row for it"),
    "nan_text": Outcome(items=3, text="value is '"),
    "null_value": Outcome(items=1, text="value is missing"),
    "partial": Outcome(PASSES, text="is partial; rows may be missing"),
    "quota_429": Outcome(PASSES, text="pinot error 429"),
    "reset": Outcome(PASSES, text="broke the connection"),
    "server_silent_427": Outcome(PASSES, text="pinot error 427"),
    "servers_missing": Outcome(PASSES, text="only 1 of 2 pinot servers answered"),
    "slow": Outcome(
        PASSES,
        text="pinot did not answer within 0.2 s",
        options={"delay_ms": 30_000},
        policy=replace(GIVES_UP, timeout_seconds=0.2),
    ),
    "status_401": Outcome(LASTS, text="HOTLOOP_PINOT_AUTHORIZATION"),
    "status_403": Outcome(LASTS, text="HOTLOOP_PINOT_AUTHORIZATION"),
    "status_429": Outcome(PASSES, text="pinot answered HTTP 429"),
    "status_500": Outcome(PASSES, text="pinot answered HTTP 500"),
    "status_503": Outcome(PASSES, text="pinot answered HTTP 503"),
    "timeout_250": Outcome(PASSES, text="pinot error 250"),
    "timeout_400": Outcome(PASSES, text="pinot error 400"),
    "unasked_rows": Outcome(),
    "wrong_type": Outcome(items=1, text="value is 'text'"),
}


def test_every_fault_has_an_outcome() -> None:
    assert sorted(OUTCOMES) == sorted(FAULTS)


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_fault_that_lasts(
    broker: RunningBroker, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = OUTCOMES[fault]
    monkeypatch.setattr(pinot, "MAX_ANSWER_BYTES", 1_000_000)
    broker.control(fault, **expected.options)
    stage = pinot_stage(broker.url, policy=expected.policy)
    if expected.error is not None:
        with pytest.raises(expected.error, match=expected.text) as caught:
            fetched(stage, IDS)
        assert broker.url.removeprefix("http://") not in str(caught.value)
    else:
        batch = fetched(stage, IDS)
        assert len(batch.failed) == expected.items
        assert all(expected.text in reason for reason in reasons(batch).values())
        assert {error.stage for error in batch.failed.values()} <= {"db"}
        good = [p for p in range(len(IDS)) if p not in batch.failed]
        values, offsets = pinot_columns(IDS)
        assert batch.columns["value"][good].tolist() == [values[p] for p in good]
        assert batch.columns["offset"][good].tolist() == [offsets[p] for p in good]
    # What may pass is asked for as often as the policy says, everything else once.
    asked = broker.counts()["queries"]
    assert asked == (expected.policy.attempts if expected.error is PASSES else 1)


@pytest.mark.parametrize("fault", sorted(f for f in FAULTS if OUTCOMES[f].error is PASSES))
def test_temporary_fault_costs_only_a_query(broker: RunningBroker, fault: str) -> None:
    expected = OUTCOMES[fault]
    broker.control(fault, times=1, **expected.options)
    batch = fetched(pinot_stage(broker.url, policy=expected.policy), IDS)
    assert columns_of(batch) == pinot_columns(IDS)
    assert batch.failed == {}
    assert (batch.counts["db"].calls, batch.counts["db"].retries) == (2, 1)
    assert broker.counts()["queries"] == 2


@pytest.mark.parametrize("kind", ["array", "bool", "text"])
@pytest.mark.parametrize("column", ["offset", "value"])
def test_values_of_a_wrong_type_fail_their_items(
    broker: RunningBroker, kind: str, column: str
) -> None:
    broker.control("wrong_type", kind=kind, column=column, rows=4)
    batch = fetched(pinot_stage(broker.url), IDS)
    assert len(batch.failed) == 4
    assert all(reason.startswith(f"{column} is ") for reason in reasons(batch).values())


@pytest.mark.parametrize("kind", ["array", "bool", "text"])
def test_row_with_an_invalid_id_is_ignored(broker: RunningBroker, kind: str) -> None:
    broker.control("wrong_type", kind=kind, column="item_id", rows=2)
    batch = fetched(pinot_stage(broker.url), IDS)
    assert set(reasons(batch).values()) == {"pinot has no row for it"}
    assert len(batch.failed) == 2


def test_answer_that_reaches_its_limit_is_reported(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each id has so many rows that they crowd out others."""
    monkeypatch.setattr(pinot, "ROWS_PER_ID", 1)
    broker.control("duplicate_rows", rows=5)
    batch = fetched(pinot_stage(broker.url), [*IDS, 6_000_000])
    assert reasons(batch) == {
        6_000_000: "pinot has no row for it; the answer was full, so ids have too many rows"
    }


def test_all_rows_twice_are_put_right_and_conflicts_all_fail(broker: RunningBroker) -> None:
    broker.control("duplicate_rows", rows=20)
    assert columns_of(fetched(pinot_stage(broker.url), IDS)) == pinot_columns(IDS)
    broker.control("conflicting_rows", rows=20)
    batch = fetched(pinot_stage(broker.url), IDS)
    assert sorted(reasons(batch)) == list(IDS)
    assert batch.columns["value"].tolist() == [UNTOUCHED] * 20


def test_huge_answer_is_refused_in_bounded_memory(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.control("huge_answer", size_bytes=50_000_000)
    monkeypatch.setattr(pinot, "MAX_ANSWER_BYTES", 2_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(RefusedError, match="over 2,000,000 bytes"):
            fetched(pinot_stage(broker.url), IDS)
        assert tracemalloc.get_traced_memory()[1] < 15_000_000
    finally:
        tracemalloc.stop()


def test_huge_answer_within_the_bound_is_read(broker: RunningBroker) -> None:
    assert pinot.MAX_ANSWER_BYTES == 64 * 1024 * 1024
    broker.control("huge_answer", size_bytes=8_000_000)
    assert columns_of(fetched(pinot_stage(broker.url), IDS)) == pinot_columns(IDS)


def test_redirects_are_not_followed(broker: RunningBroker) -> None:
    """The header with the access would go along."""

    async def run() -> None:
        async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"}")
            location = f"Location: {broker.url}/query/sql\r\nContent-Length: 0\r\n"
            writer.write(f"HTTP/1.1 307 Temporary Redirect\r\n{location}\r\n".encode())
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(redirect, "127.0.0.1") as server:
            port = server.sockets[0].getsockname()[1]
            stage = pinot_stage(f"http://127.0.0.1:{port}", authorization="Bearer s3cret")
            with pytest.raises(RefusedError, match="HTTP 307; see HOTLOOP_PINOT_URL"):
                await stage.fetch_async(item_batch([1]), [0])
            await close_connections()

    asyncio.run(run())
    assert broker.counts()["queries"] == 0


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://127.0.0.1:{port}", TransientError),
        ("http://no-such-host.invalid", TransientError),
        ("https://127.0.0.1:{broker}", RefusedError),
    ],
)
def test_unreachable_broker_error_hides_its_address(
    broker: RunningBroker, url: str, kind: type[Exception]
) -> None:
    url = url.format(port=free_port(), broker=broker.port)
    with pytest.raises(kind, match=r"^pinot") as caught:
        fetched(pinot_stage(url, policy=GIVES_UP), [1])
    assert url.rpartition("/")[2] not in str(caught.value)


def test_broker_that_dies_and_comes_back_costs_no_item() -> None:
    with running_broker(delay_ms=20) as broker:
        stage = pinot_stage(broker.url, connections=50)

        async def run() -> None:
            batch = item_batch(range(500))
            groups = [range(n, n + 5) for n in range(0, 500, 5)]
            calls = [asyncio.create_task(stage.fetch_async(batch, group)) for group in groups]
            await until(lambda: batch.counts and batch.counts["db"].hits, "some are answered")
            broker.kill()
            await until(lambda: batch.counts["db"].retries > 1, "some are tried again")
            await asyncio.to_thread(broker.restart)
            await asyncio.gather(*calls)
            await close_connections()
            assert columns_of(batch) == pinot_columns(range(500))
            assert batch.failed == {}

        asyncio.run(run())


@in_loop
async def test_broker_that_stays_away_fails_all_calls() -> None:
    stage = pinot_stage(
        f"http://127.0.0.1:{free_port()}", policy=replace(POLICY, outage_seconds=0.1)
    )
    calls = [stage.fetch_async(item_batch([1]), [0]) for _ in range(100)]
    ended = await asyncio.gather(*calls, return_exceptions=True)
    await close_connections()
    assert {type(error) for error in ended} == {SourceDownError}
    assert all("pinot cannot be reached" in str(error) for error in ended)
