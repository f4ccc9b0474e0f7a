"""The OpenAPI description: complete, tidy, and true."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from app.error_handlers import ERROR_KINDS, HTTP_KINDS
from app.factory import create_app
from app.settings import Settings
from tests.fixtures.fake_services import FakeServices

ENDPOINTS = {
    ("get", "/"),
    ("get", "/health"),
    ("get", "/health/ready"),
    ("get", "/metrics"),
    ("get", "/api/v1/tasks"),
    ("get", "/api/v1/tasks/kernels"),
    ("post", "/api/v1/tasks/{strategy}"),
    ("post", "/api/v1/tasks/upload"),
    ("get", "/api/v1/tasks/status/{task_id}"),
    ("get", "/api/v1/tasks/results"),
    ("delete", "/api/v1/tasks/results"),
    ("get", "/api/v1/tasks/results/{task_id}"),
    ("delete", "/api/v1/tasks/{task_id}"),
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
        for media in operation["responses"]["200"]["content"].values():
            assert media["schema"], operation["operationId"]


def test_default_validation_error_is_nowhere(description: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in json.dumps(description)


def test_every_reference_leads_somewhere(description: dict[str, Any]) -> None:
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(description)))
    assert references <= set(description["components"]["schemas"])
    assert {"Problem", "RunRequest", "RunResult"} <= references


def test_every_field_of_a_request_has_a_description(description: dict[str, Any]) -> None:
    schemas = description["components"]["schemas"]
    for name in ("RunRequest", "Parameters", "ItemRow"):
        for field, schema in schemas[name]["properties"].items():
            assert schema.get("description"), (name, field)
    for operation in operations(description):
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), parameter


def test_body_of_a_run_has_examples(description: dict[str, Any]) -> None:
    assert len(description["components"]["schemas"]["RunRequest"]["examples"]) == 2
