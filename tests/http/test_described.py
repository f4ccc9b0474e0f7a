"""http.described, http.openapi, http.routes.queries: the description is that of the workloads which
are declared now.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from hotloop import kernels
from hotloop.app.http.described import BODIES, REFERENCE
from hotloop.app.schemas.calls import call_model
from hotloop.app.schemas.comparison import CompareRequest
from hotloop.app.schemas.runs import RunRequest, UploadQuery, read_request, request_model
from hotloop.kernels import Implementation, Parameter, Workload
from tests.fixtures.client import Client
from tests.fixtures.fake_services import FakeServices
from tests.fixtures.third_workload import WORKLOAD

UPLOAD = "/api/v1/tasks/upload"
RECOMMENDATIONS = "/api/v1/tasks/recommendations"


def described(client: Client) -> dict[str, Any]:
    description: dict[str, Any] = client.get("/openapi.json").json()
    return description


def fields(description: dict[str, Any], path: str, method: str) -> dict[str, Any]:
    parameters = description["paths"][path][method]["parameters"]
    return {each["name"]: each for each in parameters if each["in"] == "query"}


def test_description_follows_the_declarations(client: Client) -> None:
    before = described(client)
    assert not any("signals" in name for name in before["components"]["schemas"])
    kernels.declare(WORKLOAD)
    try:
        during = described(client)
        schemas = during["components"]["schemas"]
        assert set(schemas) >= {f"{model.__name__}_signals" for model in BODIES.values()}
        assert "numpy" in schemas["KernelName"]["enum"]
        assert "parameters.method" in fields(during, UPLOAD, "post")
    finally:
        kernels.withdraw("signals")
    assert described(client) == before


def test_description_of_equal_declarations_is_made_once(app: FastAPI, signals: Workload) -> None:
    first = app.openapi()
    kernels.declare(replace(signals))
    assert app.openapi() is first


@pytest.mark.parametrize("model", BODIES.values())
def test_schemas_of_bodies_are_those_of_the_models(
    client: Client, signals: Workload, model: type[RunRequest]
) -> None:
    made = request_model(model, "signals")
    _, schema = models_json_schema([(made, "validation")], ref_template=REFERENCE)
    components = described(client)["components"]["schemas"]
    for name in (made.__name__, "Parameters_signals", "ItemRow_signals", "KernelChoice"):
        assert components[name] == json.loads(json.dumps(schema["$defs"][name]))
    for example in components[made.__name__]["examples"]:
        read_request(model, json.dumps(example))


def test_schema_of_a_call_is_that_of_its_model(client: Client, signals: Workload) -> None:
    made = call_model(signals)
    _, schema = models_json_schema([(made, "validation")], ref_template=REFERENCE)
    components = described(client)["components"]["schemas"]
    for name in (made.__name__, "Parameters_signals", "CallItem_signals"):
        assert components[name] == json.loads(json.dumps(schema["$defs"][name]))
    for example in components[made.__name__]["examples"]:
        made.model_validate_json(json.dumps(example))


def test_body_is_that_of_one_of_the_workloads(client: Client, signals: Workload) -> None:
    operation = described(client)["paths"]["/api/v1/tasks/compare"]["post"]
    body = operation["requestBody"]
    assert body["required"] is False
    schema = body["content"]["application/json"]["schema"]
    refs = [REFERENCE.format(model=f"CompareRequest{end}") for end in ("", "_signals")]
    assert schema["oneOf"] == [{"$ref": ref} for ref in refs]
    assert schema["discriminator"]["mapping"] == dict(zip(("loops", "signals"), refs, strict=True))
    assert CompareRequest.__name__ == refs[0].rpartition("/")[2]


@pytest.mark.parametrize(("path", "method"), [(UPLOAD, "post"), (RECOMMENDATIONS, "get")])
def test_query_has_the_parameters_of_all_workloads(
    client: Client, signals: Workload, path: str, method: str
) -> None:
    found = fields(described(client), path, method)
    assert found["workers"]["schema"]["maximum"] == 256
    assert found["parameters.workers"]["schema"]["maximum"] == 9
    assert found["parameters.method"]["schema"]["enum"] == ["sum", "mean"]
    words = "Way to add up; for the workload `signals`."
    assert found["parameters.method"]["description"] == words
    assert found["parameters.cpu_iterations"]["schema"]["default"] == 20_000
    assert "parameters" not in found
    assert not any(each["required"] for each in found.values())


def test_parameter_of_two_workloads_has_the_schemas_of_both(
    client: Client, signals: Workload
) -> None:
    own = (
        Parameter("method", 3, 1, 5, "number of the method"),
        Parameter("absolute", True, None, None, "whether it is absolute", "bool"),
    )
    kernels.declare(replace(signals, name="others", parameters=own))
    try:
        found = fields(described(client), UPLOAD, "post")
        assert [each["type"] for each in found["parameters.method"]["schema"]["anyOf"]] == [
            "string",
            "integer",
        ]
        assert [each["type"] for each in found["parameters.absolute"]["schema"]["anyOf"]] == [
            "boolean"
        ]
        words = found["parameters.method"]["description"]
        assert words.startswith("Way to add up; for the workload `signals`. Number of")
    finally:
        kernels.withdraw("others")


def test_fifty_workloads_need_no_model_of_their_own(client: Client, app: FastAPI) -> None:
    """Making 150 models would delay the first request by most of a second."""
    names = [f"own{number}" for number in range(50)]
    for name in names:
        kernels.declare(replace(WORKLOAD, name=name))
    try:
        made = len(RunRequest.__subclasses__())
        schemas = described(client)["components"]["schemas"]
        assert {f"RunRequest_{name}" for name in names} <= set(schemas)
        assert len(RunRequest.__subclasses__()) == made
        refs = json.dumps(app.openapi()).count(REFERENCE.format(model="ItemRow_own7"))
        assert refs == len(BODIES)
    finally:
        for name in names:
            kernels.withdraw(name)


def test_query_is_read_by_the_declaration_of_now(client: Client, services: FakeServices) -> None:
    url = f"{UPLOAD}?workload=signals&method=mean&parameters.workers=4&workers=2"
    sent: dict[str, Any] = {"content": b"x", "headers": {"Content-Type": "text/csv"}}
    refused = client.post(url, **sent).json()
    assert refused["errors"][0]["field"] == "workload"
    kernels.declare(replace(WORKLOAD, kernels=(*WORKLOAD.kernels, Implementation("own", "none"))))
    try:
        assert client.post(f"{url}&kernel=own", **sent).status_code == 200
    finally:
        kernels.withdraw("signals")
    query = services.calls[0][1]
    assert isinstance(query, UploadQuery)
    assert (query.workers, query.kernel) == (2, "own")
    assert query.parameters == {"method": "mean", "order": 1, "absolute": False, "workers": 4}
