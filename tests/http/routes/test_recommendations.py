"""prediction.recommendation, explanation: recommendations over HTTP; the query says all."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from fastapi import FastAPI

from hotloop.app.errors import InvalidRequestError, NotReadyError, TaskNotFoundError, TooBusyError
from hotloop.app.factory import create_app
from hotloop.app.names import Scope, StrategyName
from hotloop.app.schemas.recommendation import PredictionRecord, RecommendationQuery
from hotloop.app.settings.settings import Settings
from tests.fixtures.access import make_key
from tests.fixtures.client import Client, open_client
from tests.fixtures.fake_services import CALIBRATING, SUGGESTED, FakeServices
from tests.fixtures.recommendations import recommendation

PATH = "/api/v1/tasks/recommendations"
CALIBRATION = "/api/v1/tasks/calibration"


def asked(services: FakeServices) -> RecommendationQuery:
    ((name, query),) = services.calls
    assert name == "recommend"
    assert isinstance(query, RecommendationQuery)
    return query


def test_without_a_query_everything_is_chosen(client: Client, services: FakeServices) -> None:
    answer = client.get(PATH)
    assert answer.status_code == 200
    query = asked(services)
    assert query.model_fields_set == set()
    assert (query.items_count, query.limit, query.wait) == (50_000, 20, False)
    assert answer.json()["recommended"]["rank"] == 1
    words = shlex.split(answer.json()["curl"])
    assert words[:3] == ["curl", "-s", "http://localhost/api/v1/tasks/hybrid"]
    assert json.loads(words[-1]) == SUGGESTED.body
    assert "suggested" not in answer.json()


def test_fields_are_those_of_a_run(client: Client, services: FakeServices) -> None:
    text = (
        "items_count=10&db_delay_ms=5&redis_delay_ms=1&redis_delay_ms=2&kernel=numba&workers=3"
        "&cpu_iterations=7&strategy=hybrid&limit=5&wait=true"
    )
    assert client.get(f"{PATH}?{text}").status_code == 200
    query = asked(services)
    assert query.redis_delay_ms == (1.0, 2.0)
    assert (query.kernel, query.strategy) == ("numba", StrategyName.HYBRID)
    assert (query.workers, query.limit, query.wait) == (3, 5, True)
    assert query.parameters["cpu_iterations"] == 7


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("items_count=0", "items_count", "at least 1"),
        ("items_count=10000001", "items_count", "10,000,000"),
        ("limit=0", "limit", "at least 1"),
        ("limit=1001", "limit", "1,000"),
        ("wait=maybe", "wait", "true"),
        ("refresh=true", "refresh", "not a known field"),
        ("strategy=fast", "strategy", "hybrid"),
        ("kernel=rust", "kernel", "numba"),
        ("item_count=5", "item_count", "not a known field"),
        ("redis_delay_ms=5&redis_delay_ms=1", "redis_delay_ms", "swap"),
        (
            "outer_iterations=100000&inner_iterations=100000",
            "parameters.outer_iterations",
            "1,000,000,000",
        ),
    ],
)
def test_error_names_the_wrong_field_and_its_bound(
    client: Client, services: FakeServices, text: str, field: str, words: str
) -> None:
    answer = client.get(f"{PATH}?{text}")
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    assert words in error["message"]
    assert services.calls == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequestError("db", "pinot has no address"), 422),
        (TooBusyError("all run hosts are busy", 5), 503),
        (NotReadyError("no run host is ready", 1), 503),
    ],
    ids=["InvalidRequestError", "TooBusyError", "NotReadyError"],
)
def test_errors_of_the_service_are_problems(
    client: Client, services: FakeServices, error: Any, status: int
) -> None:
    services.error = error
    answer = client.get(PATH)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_index_leads_there(client: Client) -> None:
    assert client.get("/api/v1/tasks").json()["links"]["recommendations"] == PATH


def test_calibration_is_started_by_post_and_watched_by_get(
    client: Client, services: FakeServices
) -> None:
    answer = client.post(CALIBRATION)
    assert answer.status_code == 202
    assert answer.headers["Location"] == CALIBRATION
    assert answer.json() == client.get(CALIBRATION).json()
    assert answer.json() == CALIBRATING.model_dump(mode="json")
    assert services.calls == [("calibrate",), ("calibration",)]


def test_location_is_below_the_path_that_the_service_is_mounted_at(client: Client) -> None:
    outer = FastAPI()
    outer.mount("/hotloop", client.app)
    answer = Client(outer, client.runner).post(f"/hotloop{CALIBRATION}")
    assert answer.headers["Location"] == f"/hotloop{CALIBRATION}"


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}],
    ids=["site", "origin"],
)
def test_page_of_another_origin_does_not_calibrate(
    client: Client, services: FakeServices, headers: dict[str, str]
) -> None:
    assert client.post(CALIBRATION, headers=headers).status_code == 403
    assert services.calls == []


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_calibration_has_no_query(client: Client, services: FakeServices, method: str) -> None:
    answer = client.request(method, f"{CALIBRATION}?wait=true")
    assert answer.status_code == 422
    assert services.calls == []


def test_calibration_of_a_service_without_run_hosts_is_refused(
    client: Client, services: FakeServices
) -> None:
    services.error = NotReadyError("no run host is ready", 1)
    for method in ("POST", "GET"):
        answer = client.request(method, CALIBRATION)
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"


OWNERS = {"task_0000000a_1": "key:alice", "task_0000000b_1": "key:bob", "task_0000000c_1": None}
GONE = "task_0000000d_1"
"""Removed since it was counted."""


class CountedRuns(FakeServices):
    """A recommendation that rests on a run of each client in OWNERS."""

    def __init__(self) -> None:
        like: dict[str, Any] = {"strategy": "hybrid", "kernel": "numba", "ratio": 1.0}
        like |= {"predicted_seconds": 1.0, "measured_seconds": 1.0}
        last = [
            PredictionRecord.model_validate(like | {"task_id": name}) for name in (*OWNERS, GONE)
        ]
        found = recommendation()
        error = found.prediction_error.model_copy(update={"last": last, "runs": len(last)})
        super().__init__(recommended=found.model_copy(update={"prediction_error": error}))

    def client_of(self, task_id: str) -> str | None:
        if task_id == GONE:
            raise TaskNotFoundError(task_id)
        return OWNERS[task_id]


@pytest.mark.parametrize(
    ("scope", "shown"),
    [(Scope.READ, ["task_0000000a_1"]), (Scope.ADMIN, [*OWNERS, GONE])],
)
def test_runs_of_other_clients_are_counted_and_not_named(scope: Scope, shown: list[str]) -> None:
    key = make_key("alice", scope)
    app = create_app(Settings(api_keys=(key.setting,)), CountedRuns().open)
    with open_client(app) as client:
        error = client.get(PATH, headers=key.headers).json()["prediction_error"]
    assert [run["task_id"] for run in error["last"]] == shown
    assert error["runs"] == 4
