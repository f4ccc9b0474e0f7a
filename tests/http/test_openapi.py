"""http.openapi, with app.factory, app.version: the description is complete, tidy and true."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from hotloop.app.factory import create_app
from hotloop.app.http.error_handlers import ERROR_KINDS, HTTP_KINDS
from hotloop.app.schemas.comparison import CompareRequest
from hotloop.app.schemas.runs import BackgroundRequest, RunRequest
from hotloop.app.schemas.tasks import TaskEvent, TaskProgress
from hotloop.app.settings.settings import Settings
from tests.fixtures.fake_services import FakeServices

ENDPOINTS = {
    ("get", "/"),
    ("get", "/health"),
    ("get", "/health/ready"),
    ("get", "/health/vitals"),
    ("get", "/metrics"),
    ("get", "/session"),
    ("post", "/session"),
    ("delete", "/session"),
    ("get", "/api/v1/tasks"),
    ("get", "/api/v1/tasks/kernels"),
    ("post", "/api/v1/tasks/{strategy}"),
    ("post", "/api/v1/tasks/upload"),
    ("post", "/api/v1/tasks/background"),
    ("post", "/api/v1/tasks/compare"),
    ("post", "/api/v1/tasks/{task_id}/resume"),
    ("post", "/api/v1/tasks/{task_id}/retry-failed"),
    ("get", "/api/v1/tasks/recommendations"),
    ("get", "/api/v1/tasks/calibration"),
    ("post", "/api/v1/tasks/calibration"),
    ("get", "/api/v1/tasks/events/{task_id}"),
    ("get", "/api/v1/tasks/status/{task_id}"),
    ("get", "/api/v1/tasks/results"),
    ("delete", "/api/v1/tasks/results"),
    ("get", "/api/v1/tasks/results/{task_id}"),
    ("delete", "/api/v1/tasks/results/{task_id}"),
    ("delete", "/api/v1/tasks/{task_id}"),
    ("get", "/api/v1/workloads/loops"),
    ("post", "/api/v1/workloads/loops"),
}


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    return create_app(Settings(), FakeServices().open).openapi()


def operations(description: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in description["paths"].values() for operation in path.values()]


def test_every_endpoint_is_described(description: dict[str, Any]) -> None:
    described = {(method, path) for path, item in description["paths"].items() for method in item}
    assert described == ENDPOINTS


def test_operation_ids_are_unique_words(description: dict[str, Any]) -> None:
    ids = [operation["operationId"] for operation in operations(description)]
    assert len(set(ids)) == len(ids) == len(ENDPOINTS)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in ids)


def test_every_operation_teaches(description: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in description["tags"]}
    for operation in operations(description):
        assert operation["summary"], operation
        assert operation["description"], operation
        assert set(operation["tags"]) <= tags


def test_every_error_is_a_problem(description: dict[str, Any]) -> None:
    for operation in operations(description):
        assert {"422", "500"} <= set(operation["responses"])
        for status, response in operation["responses"].items():
            if status >= "400":
                assert response["content"] == {
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
                }


def test_documented_kinds_are_those_of_the_table(description: dict[str, Any]) -> None:
    kinds = {kind.type: kind.status for kind in (*ERROR_KINDS.values(), *HTTP_KINDS.values())}
    for operation in operations(description):
        for status, response in operation["responses"].items():
            for name in re.findall(r"`(urn:[^`]+)`", response["description"]):
                assert kinds[name] == int(status)


def test_every_success_has_a_declared_type(description: dict[str, Any]) -> None:
    for operation in operations(description):
        successes = {s: r for s, r in operation["responses"].items() if s in ("200", "202")}
        assert successes, operation["operationId"]
        for response in successes.values():
            for media in response["content"].values():
                assert media.get("schema") or media["itemSchema"], operation["operationId"]


def test_every_answer_header_has_a_description_and_a_schema(description: dict[str, Any]) -> None:
    for operation in operations(description):
        for response in operation["responses"].values():
            for name, header in response.get("headers", {}).items():
                assert header["description"], name
                assert header["schema"], name


def test_unavailable_errors_may_have_retry_after(description: dict[str, Any]) -> None:
    answers = [operation["responses"].get("503") for operation in operations(description)]
    assert any(answers)
    assert all("Retry-After" in answer["headers"] for answer in answers if answer)


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("/api/v1/tasks/background", "Idempotency-Key"),
        ("/api/v1/tasks/compare", "Idempotency-Key"),
        ("/api/v1/tasks/compare", "Prefer"),
        ("/api/v1/tasks/{strategy}", "Idempotency-Key"),
        ("/api/v1/tasks/{strategy}", "Prefer"),
        ("/api/v1/tasks/upload", "Idempotency-Key"),
        ("/api/v1/tasks/upload", "Prefer"),
        ("/api/v1/tasks/events/{task_id}", "Last-Event-ID"),
    ],
)
def test_headers_that_are_heeded_are_described(
    description: dict[str, Any], path: str, header: str
) -> None:
    (operation,) = description["paths"][path].values()
    names = {p["name"] for p in operation["parameters"] if p["in"] == "header"}
    assert header in names


def test_acceptance_says_where_the_task_is(description: dict[str, Any]) -> None:
    accepting = [op for op in operations(description) if "202" in op["responses"]]
    assert len(accepting) == 8
    for operation in accepting:
        answer = operation["responses"]["202"]
        assert "Location" in answer["headers"]
        schema = answer["content"]["application/json"]["schema"]
        models = {"run_now": "AcceptedRun", "run_upload": "AcceptedRun"}
        models |= {"calibrate": "CalibrationState", "call_workload": "AcceptedRun"}
        model = models.get(operation["operationId"], "TaskView")
        assert schema == {"$ref": f"#/components/schemas/{model}"}
        # A run answers 200 as well, unless it is asked for in the background.
        assert ("Preference-Applied" in answer["headers"]) == ("200" in operation["responses"])


def test_default_validation_error_is_nowhere(description: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in json.dumps(description)


def test_every_reference_leads_somewhere(description: dict[str, Any]) -> None:
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(description)))
    assert references <= set(description["components"]["schemas"])
    assert {"Problem", "RunRequest", "RunResult"} <= references


def test_every_field_of_a_request_has_a_description(description: dict[str, Any]) -> None:
    schemas = description["components"]["schemas"]
    for name in ("RunRequest", "BackgroundRequest", "CompareRequest", "Parameters", "ItemRow"):
        for field, schema in schemas[name]["properties"].items():
            assert schema.get("description"), (name, field)
    for operation in operations(description):
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), parameter


@pytest.mark.parametrize("model", [RunRequest, BackgroundRequest, CompareRequest])
def test_body_has_examples_that_are_valid(
    description: dict[str, Any], model: type[RunRequest]
) -> None:
    examples = description["components"]["schemas"][model.__name__]["examples"]
    assert len(examples) == 2
    for example in examples:
        model.model_validate_json(json.dumps(example))


def test_example_of_an_event_is_valid(description: dict[str, Any]) -> None:
    operation = description["paths"]["/api/v1/tasks/events/{task_id}"]["get"]
    media = operation["responses"]["200"]["content"]["text/event-stream"]
    assert set(operation["responses"]["200"]["content"]) == {"text/event-stream"}
    assert set(media) == {"example", "itemSchema"}  # `schema` would be that of all events at once
    lines = dict(line.split(": ", 1) for line in media["example"].splitlines() if line)
    progress = TaskProgress.model_validate_json(lines["data"])
    event = TaskEvent(lines["id"], "progress", progress)
    assert event.encoded.decode() == media["example"]


def test_answers_without_a_body_have_no_content(description: dict[str, Any]) -> None:
    operation = description["paths"]["/api/v1/tasks/events/{task_id}"]["get"]
    assert "content" not in operation["responses"]["204"]


def test_calls_have_the_types_of_their_workload(description: dict[str, Any]) -> None:
    schemas = description["components"]["schemas"]
    operation = description["paths"]["/api/v1/workloads/loops"]["post"]

    def referred(schema: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = schemas[schema["$ref"].rpartition("/")[2]]
        return found

    body = referred(operation["requestBody"]["content"]["application/json"]["schema"])
    item = referred(body["properties"]["items"]["items"])
    assert set(item["properties"]) == {"item_id", "value", "offset"}
    assert set(item["required"]) == {"value", "offset"}
    assert "cpu_iterations" in referred(body["properties"]["parameters"])["properties"]
    answer = referred(operation["responses"]["200"]["content"]["application/json"]["schema"])
    outputs = referred(answer["properties"]["results"]["items"])
    assert set(outputs["properties"]) == {"loop", "nested"}
    assert outputs["properties"]["nested"]["anyOf"][0] == {"type": "integer"}
