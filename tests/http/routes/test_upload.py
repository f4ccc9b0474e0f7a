"""POST /api/v1/tasks/upload, of `routes/runs.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hotloop.app.errors import BadRowError
from hotloop.app.names import StrategyName
from hotloop.app.schemas.options import DbSource
from hotloop.app.schemas.runs import UploadQuery
from hotloop.app.sources.arrow_rows import ARROW_TYPES, PARQUET
from tests.fixtures.client import Client
from tests.fixtures.fake_services import FakeServices

UPLOAD = "/api/v1/tasks/upload"
CSV = {"Content-Type": "text/csv"}
BODY = b"item_id,value,offset\n1,0.5,7\n"


async def pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * 1_024


def test_upload_without_query_has_the_defaults(client: Client, services: FakeServices) -> None:
    response = client.post(UPLOAD, content=BODY, headers=CSV)
    assert response.status_code == 200
    assert services.calls == [("run_upload", UploadQuery(), "text/csv", BODY)]


def test_query_fields_are_those_of_a_run(client: Client, services: FakeServices) -> None:
    query = (
        "strategy=threading&kernel=numba&workers=2&batch_size=10&db=simulated&db_delay_ms=5"
        "&simulate_redis_delay=false&redis_delay_ms=1&redis_delay_ms=4&cpu_iterations=3"
        "&timeout_seconds=1.5"
    )
    assert client.post(f"{UPLOAD}?{query}", content=BODY, headers=CSV).status_code == 200
    assert services.calls[0][1] == UploadQuery(
        strategy=StrategyName.THREADING,
        kernel="numba",
        workers=2,
        batch_size=10,
        db=DbSource.SIMULATED,
        db_delay_ms=5,
        simulate_redis_delay=False,
        redis_delay_ms=(1, 4),
        parameters={"cpu_iterations": 3},
        timeout_seconds=1.5,
    )


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ("workers=0", "workers", "must be at least 1"),
        ("workers=true", "workers", "must be an integer"),
        ("db_delay_ms=nan", "db_delay_ms", "must be a finite number"),
        ("redis_delay_ms=5", "redis_delay_ms.1", "is required"),
        ("redis_delay_ms=5&redis_delay_ms=1", "redis_delay_ms", "low at most high"),
        ("strategy=fast", "strategy", "must be 'sequential', 'threading'"),
        ("items_count=5", "items_count", "is not a known field"),
        (
            "outer_iterations=100000&inner_iterations=100000",
            "parameters.outer_iterations",
            "at most 1,000,000,000",
        ),
    ],
)
def test_wrong_query_is_422(
    client: Client, services: FakeServices, query: str, field: str, words: str
) -> None:
    response = client.post(f"{UPLOAD}?{query}", content=BODY, headers=CSV)
    assert response.status_code == 422
    (fault,) = response.json()["errors"]
    assert fault["field"] == field
    assert words in fault["message"]
    assert services.calls == []


@pytest.mark.parametrize(
    "content_type",
    [
        "text/csv",
        "text/csv; charset=utf-8",
        "application/x-ndjson",
        "Text/CSV;charset=UTF-8",
        *ARROW_TYPES,
    ],
)
def test_content_type_is_accepted(
    client: Client, services: FakeServices, content_type: str
) -> None:
    response = client.post(UPLOAD, content=BODY, headers={"Content-Type": content_type})
    assert response.status_code == 200
    assert services.calls[0][2] == content_type.partition(";")[0].lower()


@pytest.mark.parametrize(
    "content_type", ["application/json", "multipart/form-data", "text/csv; charset=latin-1", ""]
)
def test_other_content_type_is_415(
    client: Client, services: FakeServices, content_type: str
) -> None:
    response = client.post(UPLOAD, content=BODY, headers={"Content-Type": content_type})
    assert response.status_code == 415
    assert "--data-binary @items.csv" in response.json()["detail"]
    assert services.calls == []


def test_bad_row_names_its_line(client: Client, services: FakeServices) -> None:
    services.error = BadRowError(3, "value", "must be a number")
    response = client.post(UPLOAD, content=BODY, headers=CSV)
    assert response.status_code == 422
    assert response.json()["errors"][0]["line"] == 3


def test_bad_row_of_parquet_names_its_number(client: Client, services: FakeServices) -> None:
    services.error = BadRowError(3, "value", "must be a number", "row")
    problem = client.post(UPLOAD, content=BODY, headers={"Content-Type": PARQUET}).json()
    assert problem["detail"] == "row 3, column value: must be a number"
    assert (problem["errors"][0]["line"], problem["errors"][0]["column"]) == (3, "value")
    services.error = BadRowError(None, None, "has no rows")
    problem = client.post(UPLOAD, content=BODY, headers={"Content-Type": PARQUET}).json()
    assert problem["detail"] == "file: has no rows"
    assert "line" not in problem["errors"][0]


def test_uploads_have_their_own_bound(client: Client) -> None:
    assert client.post(UPLOAD, content=b"x" * 8_192, headers=CSV).status_code == 200
    response = client.post(UPLOAD, content=b"x" * 8_193, headers=CSV)
    assert response.status_code == 413
    assert "HOTLOOP_MAX_UPLOAD_BYTES" in response.json()["detail"]


def test_upload_without_length_is_413_once_it_is_too_long(client: Client) -> None:
    assert client.post(UPLOAD, content=pieces(8), headers=CSV).status_code == 200
    assert client.post(UPLOAD, content=pieces(9), headers=CSV).status_code == 413
