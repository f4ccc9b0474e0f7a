"""The index and the list of tasks, status, cancelling, removing, exports."""

from __future__ import annotations

import pytest

from hotloop.app.errors import StoreError, TaskConflictError
from hotloop.app.names import StrategyName, TaskKind, TaskStatus
from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from tests.fixtures.client import Client
from tests.fixtures.fake_services import TASK_ID, FakeServices


def test_index_lists_the_strategies_in_order(client: Client) -> None:
    index = client.get("/api/v1/tasks").json()
    assert [entry["name"] for entry in index["strategies"]] == list(LOCAL_STRATEGIES)
    for entry in index["strategies"]:
        assert entry["description"]
        assert client.request(entry["method"], entry["href"], json={}).status_code == 200


def test_index_lists_clusters_only_where_the_service_has_them(
    client: Client, services: FakeServices
) -> None:
    services.offered_strategies = (StrategyName.HYBRID, StrategyName.DASK)
    index = client.get("/api/v1/tasks").json()
    assert [entry["name"] for entry in index["strategies"]] == ["hybrid", "dask"]


def test_kernels_are_listed(client: Client) -> None:
    (kernel,) = client.get("/api/v1/tasks/kernels").json()["kernels"]
    assert (kernel["workload"], kernel["kernel"], kernel["available"]) == ("loops", "python", True)


def test_status_has_progress_and_result(client: Client) -> None:
    task = client.get(f"/api/v1/tasks/status/{TASK_ID}").json()
    assert (task["progress"], task["result"]["task_id"]) == (1.0, TASK_ID)


def test_unknown_task_is_404(client: Client) -> None:
    response = client.get("/api/v1/tasks/status/task_00000000_1")
    assert response.status_code == 404
    assert response.json()["type"] == "urn:hotloop:problem:task-not-found"


@pytest.mark.parametrize("name", ["x", "task_1_1", "%00", "%ff", "task_4f9d02aa_%D9%A1", "a" * 999])
@pytest.mark.parametrize("path", ["status/{}", "results/{}", "{}"])
def test_malformed_id_is_404_without_a_search(
    client: Client, services: FakeServices, path: str, name: str
) -> None:
    method = "DELETE" if path == "{}" else "GET"
    response = client.request(method, f"/api/v1/tasks/{path.format(name)}")
    assert response.status_code == 404
    assert len(response.text) < 1_000
    assert services.calls == []


def test_cancel_answers_the_task(client: Client, services: FakeServices) -> None:
    response = client.delete(f"/api/v1/tasks/{TASK_ID}")
    assert response.json()["task_id"] == TASK_ID
    assert services.calls == [("cancel", TASK_ID)]


def test_store_that_fails_is_503(client: Client, services: FakeServices) -> None:
    services.error = StoreError("the disk is full")
    response = client.delete(f"/api/v1/tasks/{TASK_ID}")
    assert (response.status_code, response.json()["detail"]) == (503, "the disk is full")


ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
EXPORT = f"/api/v1/tasks/results/{TASK_ID}"


def test_list_has_defaults(client: Client, services: FakeServices) -> None:
    page = client.get("/api/v1/tasks/results").json()
    assert (page["total"], page["limit"], page["offset"], page["next"]) == (1, 50, 0, None)
    assert services.calls == [("page", None, None, None, 50, 0, None)]


def test_list_is_filtered_and_paged(client: Client, services: FakeServices) -> None:
    query = "status=failed&strategy=async-batch&kernel=numba&kind=run&limit=1000&offset=7"
    assert client.get(f"/api/v1/tasks/results?{query}").status_code == 200
    assert services.calls == [
        (
            "page",
            TaskStatus.FAILED,
            StrategyName.ASYNC_BATCH,
            "numba",
            1_000,
            7,
            TaskKind.RUN,
        )
    ]


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ("limit=0", "limit", "must be at least 1"),
        ("limit=1001", "limit", "must be at most 1,000"),
        ("limit=x", "limit", 'must be an integer (got "x")'),
        ("limit=" + "9" * 5_000, "limit", "must be an integer of fewer digits"),
        ("offset=-1", "offset", "must be at least 0"),
        ("offset=99999999999999999999", "offset", "must be at most"),
        ("status=done", "status", "must be 'pending', 'running'"),
        ("kernel=auto", "kernel", "must be 'python', 'cython' or 'numba'"),
        ("page=2", "page", "is not a known field"),
        ("%ff=2", "\ufffd", "is not a known field"),
    ],
    ids=lambda value: value[:20],
)
def test_wrong_query_is_422(
    client: Client, services: FakeServices, query: str, field: str, words: str
) -> None:
    response = client.get(f"/api/v1/tasks/results?{query}")
    assert response.status_code == 422
    (fault,) = response.json()["errors"]
    assert fault["field"] == field
    assert words in fault["message"]
    assert services.calls == []


def test_clearing_tells_how_many(client: Client) -> None:
    assert client.delete("/api/v1/tasks/results").json() == {"deleted": 3}


def test_one_task_is_removed_by_its_id(client: Client, services: FakeServices) -> None:
    assert client.delete(EXPORT).json() == {"deleted": 1}
    assert services.calls == [("delete", TASK_ID)]
    assert client.delete("/api/v1/tasks/results/task_x").status_code == 404
    assert len(services.calls) == 1


@pytest.mark.parametrize(
    ("accept", "query", "media_type"),
    [
        (None, "", "application/x-ndjson"),
        ("*/*", "", "application/x-ndjson"),
        ("application/*", "", "application/x-ndjson"),
        ("text/csv", "", "text/csv; charset=utf-8"),
        ("text/*", "", "text/csv; charset=utf-8"),
        ("application/x-ndjson;q=0.5, TEXT/CSV", "", "text/csv; charset=utf-8"),
        ("text/csv;q=0, */*", "", "application/x-ndjson"),
        ("image/png", "?format=csv", "text/csv; charset=utf-8"),
        ("text/csv", "?format=ndjson", "application/x-ndjson"),
        (ARROW, "", ARROW),
        (f"{ARROW}, application/*;q=0.9", "", ARROW),
        ("text/csv", "?format=arrow", ARROW),
        (f"{PARQUET}, */*;q=0.1", "", PARQUET),
        (None, "?format=parquet", PARQUET),
    ],
)
def test_export_is_negotiated(
    client: Client, services: FakeServices, accept: str | None, query: str, media_type: str
) -> None:
    headers = {} if accept is None else {"Accept": accept}
    response = client.get(EXPORT + query, headers=headers)
    assert response.status_code == 200
    assert response.headers["content-type"] == media_type
    assert response.headers["vary"] == "Accept"
    assert response.text.startswith("row 0\nrow 1\n")
    assert response.text.endswith("row 999\n")
    assert services.closed_exports == 1
    assert services.calls == [("export", TASK_ID, media_type.partition(";")[0], 0, None)]


SUFFIXES = {"csv": "csv", "arrow": "arrows", "parquet": "parquet"}


@pytest.mark.parametrize(
    ("format", "name"), [(name, f"{TASK_ID}.{suffix}") for name, suffix in SUFFIXES.items()]
)
def test_file_has_a_name(client: Client, format: str, name: str) -> None:
    response = client.get(f"{EXPORT}?format={format}")
    assert response.headers["content-disposition"] == f'attachment; filename="{name}"'


def test_ndjson_is_shown_by_browsers(client: Client) -> None:
    assert "content-disposition" not in client.get(EXPORT).headers


@pytest.mark.parametrize("format", ["ndjson", "csv", "arrow", "parquet"])
def test_page_of_results_names_the_next_one(
    client: Client, services: FakeServices, format: str
) -> None:
    services.next_offset = 37
    response = client.get(f"{EXPORT}?format={format}&offset=7&limit=30")
    assert response.headers["link"] == (
        f'<{EXPORT}?format={format}&offset=37&limit=30>; rel="next"'
    )
    assert response.headers["accept-ranges"] == "none"
    (call,) = services.calls
    assert call[3:] == (7, 30)


def test_next_page_is_negotiated_as_this_one_was(client: Client, services: FakeServices) -> None:
    services.next_offset = 2
    response = client.get(f"{EXPORT}?limit=2", headers={"Accept": "text/csv"})
    assert response.headers["link"] == f'<{EXPORT}?offset=2&limit=2>; rel="next"'
    services.next_offset = None
    last = client.get(f"{EXPORT}?limit=2")
    assert "link" not in last.headers
    assert last.headers["accept-ranges"] == "none"


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ("offset=-1", "offset", "must be at least 0"),
        ("offset=9007199254740993", "offset", "must be at most"),
        ("limit=0", "limit", "must be at least 1"),
        ("limit=10000001", "limit", "must be at most 10,000,000"),
        ("limit=x", "limit", "must be an integer"),
        ("format=xlsx", "format", "must be 'ndjson', 'csv', 'arrow' or 'parquet'"),
        ("ofset=5", "ofset", "is not a known field"),
    ],
)
def test_wrong_page_is_422(
    client: Client, services: FakeServices, query: str, field: str, words: str
) -> None:
    response = client.get(f"{EXPORT}?{query}")
    assert response.status_code == 422
    (fault,) = response.json()["errors"]
    assert fault["field"] == field
    assert words in fault["message"]
    assert services.calls == []


@pytest.mark.parametrize("accept", ["image/png", "application/json", "*/*;q=0", "text/csv;q=x"])
def test_media_type_that_is_not_offered_is_406(
    client: Client, services: FakeServices, accept: str
) -> None:
    response = client.get(EXPORT, headers={"Accept": accept})
    assert response.status_code == 406
    assert f"application/x-ndjson, text/csv, {ARROW} or {PARQUET}" in response.json()["detail"]
    assert services.calls == []


def test_export_of_a_running_task_is_409_before_the_first_byte(
    client: Client, services: FakeServices
) -> None:
    services.error = TaskConflictError(TASK_ID, "it is running; wait for its end")
    response = client.get(EXPORT)
    assert response.status_code == 409
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["links"]["status"] == f"/api/v1/tasks/status/{TASK_ID}"
