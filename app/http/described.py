"""The parts of the OpenAPI description that follow from the declared workloads.

They are made from the schemas of the default workload's models: making the models of each workload,
only to describe them, would take seconds with some dozens of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from typing import Any, Final

from pydantic import TypeAdapter

from hotloop.app.http.answers import JSON, WORKLOADS
from hotloop.app.schemas.calls import call_example, call_row_type
from hotloop.app.schemas.comparison import CompareRequest
from hotloop.app.schemas.declared import (
    MADE_TYPES,
    MAX_INLINE_ITEMS,
    model_name,
    parameters_type,
    row_type,
    sentence,
)
from hotloop.app.schemas.queries import PARAMETERS, PREFIX
from hotloop.app.schemas.recommendation import RecommendationQuery
from hotloop.app.schemas.runs import BackgroundRequest, RunRequest, UploadQuery, examples
from hotloop.kernels import Workload

REFERENCE: Final = "#/components/schemas/{model}"

Schema = dict[str, Any]

BODIES: Final = {
    "run_now": RunRequest,
    "run_in_background": BackgroundRequest,
    "compare": CompareRequest,
}
"""The models of bodies by the name of the route that reads them."""

_QUERIES: Final[Mapping[str, type[UploadQuery | RecommendationQuery]]] = {
    "run_upload": UploadQuery,
    "recommend": RecommendationQuery,
}


def describe_workloads(
    description: Schema, defaults: Mapping[str, Schema], workloads: Sequence[Workload]
) -> None:
    """Complete a description with the requests of all workloads. `defaults` are the schemas of the
    models of BODIES, by their names. Changes the description.
    """
    components = description["components"]["schemas"]
    for workload in workloads[1:]:
        components |= own_types(workload)
        for model in BODIES.values():
            name = model_name(model.__name__, workload)
            components[name] = request_schema(defaults[model.__name__], name, workload)
    for path in description["paths"].values():
        for operation in path.values():
            name = operation["operationId"]
            if name in BODIES:
                # A comparison's query may have all fields.
                is_needed = BODIES[name] is not CompareRequest
                operation["requestBody"] = _body(BODIES[name], workloads, required=is_needed)
            elif name in _QUERIES:
                fields = _query_fields(_QUERIES[name], workloads)
                operation["parameters"] = [*fields, *operation.get("parameters", ())]
    _describe_calls(description, defaults, workloads)


def _describe_calls(
    description: Schema, defaults: Mapping[str, Schema], workloads: Sequence[Workload]
) -> None:
    """Describe the calls of each workload as a path of its own, with its types."""
    components = description["components"]["schemas"]
    result = components["CallResult"]
    del components["CallOutputs"]
    template = description["paths"].pop(f"{WORKLOADS}/{{workload}}")
    for workload in workloads:

        def named(model: str, workload: Workload = workload) -> tuple[str, Schema]:
            name = model_name(model, workload)
            return name, {"$ref": REFERENCE.format(model=name)}

        (request_name, request), (result_name, answer) = named("CallRequest"), named("CallResult")
        (item_name, item), (outputs_name, outputs) = named("CallItem"), named("CallOutputs")
        components[item_name] = TypeAdapter(call_row_type(workload)).json_schema()
        components[outputs_name] = _outputs_schema(workload)
        default = defaults["CallRequest"]
        items = default["properties"]["items"] | {
            "items": item,
            "minItems": 1,
            "maxItems": MAX_INLINE_ITEMS,
        }
        parameters = default["properties"][PARAMETERS] | named("Parameters")[1]
        components[request_name] = default | {
            "examples": [call_example(workload)],
            "properties": default["properties"] | {"items": items, PARAMETERS: parameters},
            "title": request_name,
        }
        results = result["properties"]["results"] | {"items": outputs}
        components[result_name] = result | {
            "properties": result["properties"] | {"results": results},
            "title": result_name,
        }
        path = description["paths"][f"{WORKLOADS}/{workload.name}"] = deepcopy(template)
        for operation in path.values():
            operation["operationId"] += "" if workload is workloads[0] else f"_{workload.name}"
            operation["summary"] += f": {workload.name}"
            operation["parameters"] = [
                each for each in operation.get("parameters", ()) if each["name"] != "workload"
            ]
        path["post"]["requestBody"] = {"required": True, "content": {JSON: {"schema": request}}}
        path["post"]["responses"]["200"]["content"][JSON]["schema"] = answer


def _outputs_schema(workload: Workload) -> Schema:
    """Return the schema of an item's outputs, each null where the item failed."""
    kinds = {
        c.name: "boolean" if c.is_bool else "integer" if c.is_integer else "number"
        for c in workload.columns_out
    }
    return {
        "description": "An item's outputs; null where the item failed, and for a float that is "
        "NaN or infinite.",
        "type": "object",
        "properties": {
            column.name: {
                "anyOf": [{"type": kinds[column.name]}, {"type": "null"}],
                "description": sentence(column.description),
            }
            for column in workload.columns_out
        },
        "required": list(kinds),
        "additionalProperties": False,
        "title": model_name("CallOutputs", workload),
    }


@lru_cache(MADE_TYPES)
def own_types(workload: Workload) -> Schema:
    """Return the schemas of a workload's parameters and items, by their names."""
    made = (parameters_type(workload), row_type(workload))
    # The models of bodies refuse unknown parameters; alone, the type of parameters does not.
    closed = {"additionalProperties": False}
    return {each.__name__: TypeAdapter(each).json_schema() | closed for each in made}


def request_schema(default: Schema, name: str, workload: Workload) -> Schema:
    """Return the schema that `request_model` has for a workload, made from the default one's."""

    def referred(model: str) -> Schema:
        return {"$ref": REFERENCE.format(model=model_name(model, workload))}

    properties = default["properties"]
    rows, nothing = properties["items"]["anyOf"]
    own = {
        "workload": {"const": workload.name, "title": "Workload", "type": "string"},
        PARAMETERS: properties[PARAMETERS] | referred("Parameters"),
        "items": properties["items"] | {"anyOf": [rows | {"items": referred("ItemRow")}, nothing]},
    }
    return default | {
        "examples": examples(workload),
        "properties": properties | own,
        "required": ["workload"],
        "title": name,
    }


def _body(model: type[RunRequest], workloads: Sequence[Workload], *, required: bool) -> Schema:
    refs = {
        each.name: REFERENCE.format(model=model_name(model.__name__, each)) for each in workloads
    }
    schema: Schema = {"$ref": next(iter(refs.values()))}
    if len(refs) > 1:
        schema = {
            "oneOf": [{"$ref": ref} for ref in refs.values()],
            "discriminator": {"propertyName": "workload", "mapping": refs},
        }
    return {"required": required, "content": {JSON: {"schema": schema}}}


def _query_fields(
    model: type[UploadQuery | RecommendationQuery], workloads: Sequence[Workload]
) -> list[Schema]:
    """Return the fields of a query: the options, then the parameters of all workloads."""
    options = model.model_json_schema(ref_template=REFERENCE)["properties"]
    fields = {name: [schema] for name, schema in options.items() if name != PARAMETERS}
    for workload in workloads:
        for name, schema in _parameters(workload).items():
            if len(workloads) > 1:
                words = f"{schema['description'][:-1]}; for the workload `{workload.name}`."
                schema = schema | {"description": words}
            fields.setdefault(PREFIX + name, []).append(schema)
    return [_query_field(name, schemas) for name, schemas in fields.items()]


def _parameters(workload: Workload) -> Schema:
    made = parameters_type(workload)
    properties: Schema = own_types(workload)[made.__name__].get("properties", {})
    return properties


def _query_field(name: str, schemas: Sequence[Schema]) -> Schema:
    """Return a field of a query, with a schema for each workload that has it."""
    words = " ".join(schema["description"] for schema in schemas)
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": list(_different(schemas))}
    return {
        "name": name,
        "in": "query",
        "required": False,
        "schema": schema | {"description": words},
        "description": words,
    }


def _different(schemas: Iterable[Schema]) -> Iterable[Schema]:
    """Return schemas without words and defaults, each once."""
    seen: list[Schema] = []
    for schema in schemas:
        kept = {key: v for key, v in schema.items() if key not in ("description", "default")}
        if kept not in seen:
            seen.append(kept)
    return seen
