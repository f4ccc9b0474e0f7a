"""The fields of a run's body as options, made from the model: none can be missing or differ."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, Final, Generic, NamedTuple, TypeVar, cast

import typer
from pydantic import BaseModel, ValidationError

from hotloop.app.cli.exits import CommandError
from hotloop.app.cli.options import PARAM_EXAMPLE
from hotloop.app.schemas.runs import RunRequest, WorkloadOptions, read_request
from hotloop.app.wording import describe, number
from hotloop.kernels import Parameter, declared_workloads
from hotloop.kernels.contract import Value

OTHERWISE: Final[Mapping[str, str]] = {"items": "--file", "parameters": "--param"}
"""Fields of a run's body that are no option of their own name, and the option that gives them."""

_ALSO: Final[Mapping[str, tuple[str, ...]]] = {
    "items_count": ("--items", "-n"),
    "workers": ("-w",),
    "batch_size": ("-b",),
    "kernel": ("-k",),
}
"""Shorter names."""

_TYPES: Final[Mapping[str, type]] = {
    "integer": int,
    "number": float,
    "boolean": bool,
    "string": str,
}

Model = TypeVar("Model", bound=WorkloadOptions)
Command = TypeVar("Command", bound=Callable[..., None])


def option_name(field: str) -> str:
    """The option that gives a field of a request."""
    return OTHERWISE.get(field, "--" + field.replace("_", "-"))


def with_body_options(command: Command) -> Command:
    """Give the command an option for each field of RunRequest, in place of its `**fields`; those
    that are not used are None there. Their bounds are told in the help and left to the model,
    whose refusals say more than the parser's.
    """
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    replaced = signature.replace(parameters=[*own, *_parameters(RunRequest)])
    command.__signature__ = replaced  # type: ignore[attr-defined]
    return command


def _parameters(model: type[BaseModel]) -> list[inspect.Parameter]:
    schema = model.model_json_schema()
    fields = {name: field for name, field in schema["properties"].items() if name not in OTHERWISE}
    # Items first: the model has them after what it shares with others.
    order = sorted(fields, key=lambda name: name != "items_count")
    return [_parameter(name, fields[name], schema["$defs"], model) for name in order]


def _parameter(
    name: str, field: dict[str, Any], definitions: dict[str, Any], model: type[BaseModel]
) -> inspect.Parameter:
    field = _resolved(field, definitions)
    option: dict[str, Any] = {"help": _help(field)}
    names = [option_name(name), *_ALSO.get(name, ())]
    annotation: Any
    if name == "kernel":
        # A workload of the service may have kernels that are not known here.
        annotation = str
        option["metavar"] = "|".join(field["enum"])
    elif "enum" in field:
        annotation = _enum(field["enum"])
    elif field["type"] == "array":
        annotation = tuple[float, float]
        option["metavar"] = "LOW HIGH"
    elif "const" in field:
        annotation = str
        option |= {"metavar": f"{field['const']}|N", "parser": _number_or_word}
    else:
        annotation = _TYPES[field["type"]]
        if annotation is bool:
            names = [f"{names[0]}/--no-{names[0].removeprefix('--')}"]
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            annotation | None, typer.Option(*names, rich_help_panel="Run", **option)
        ],
    )


def _resolved(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema without references and without the alternative null. A number or a word has
    the number's bounds and the word as `const`.
    """
    for choice in field.get("anyOf", [field]):
        if choice.get("type") != "null":
            field = field | choice
    if "$ref" in field:
        field = definitions[field["$ref"].rpartition("/")[2]] | field
    return field


def _number_or_word(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text  # `auto`, or refused by the model, in its words


def _enum(names: Sequence[str]) -> Any:
    """Make an enumeration, which is what typer takes for a choice."""
    return cast("Any", Enum)("Choice", {name: name for name in names})


def _help(field: dict[str, Any]) -> str:
    text = " ".join(field.get("description", "").split())
    facts = []
    if field.get("type") == "array":
        facts.append("each " + _bounds(field["prefixItems"][0]))
    elif "minimum" in field:
        facts.append(_bounds(field))
    if field.get("default") is not None:
        facts.append(f"default {_default_text(field['default'])}")
    return f"{text} [{'; '.join(facts)}]" if facts else text


def _bounds(field: dict[str, Any]) -> str:
    return f"{number(field['minimum'])} … {number(field['maximum'])}"


def _default_text(default: Any) -> str:
    if isinstance(default, list):
        return " ".join(map(number, default))
    if isinstance(default, bool):
        return "yes" if default else "no"
    return number(default)


def run_body(fields: Mapping[str, Any], parameters: list[str]) -> dict[str, Any]:
    """The body of a run, with only what was given. Values of parameters are texts, as the workload
    may not be known yet; `checked` reads them. Raises CommandError for a parameter without a value.
    """
    body = {name: _plain(value) for name, value in fields.items() if value is not None}
    if parameters:
        body["parameters"] = dict(map(_assignment, parameters))
    return body


class Checked(NamedTuple, Generic[Model]):
    """A request, and the body that is sent for it."""

    request: Model
    body: dict[str, Any]


def checked(model: type[Model], body: Mapping[str, Any]) -> Checked[Model]:
    """Read a body of `run_body`, whose workload is declared. Raises CommandError that names the
    option, its bound and the value for what the model refuses.
    """
    declared = _parameters_of(body)
    sent = dict(body)
    if "parameters" in body:
        given = body["parameters"].items()
        sent["parameters"] = {name: _value(declared.get(name), text) for name, text in given}
    try:
        # As JSON, because that is what the service reads.
        return Checked(read_request(model, _json(sent)), sent)
    except ValidationError as error:
        faults = [_fault(detail, declared) for detail in error.errors(include_url=False)]
        raise CommandError("\n".join(faults)) from None


def _json(body: Mapping[str, Any]) -> str:
    import json

    return json.dumps(body)


def _parameters_of(body: Mapping[str, Any]) -> Mapping[str, Parameter]:
    """Return the parameters of the workload that a body asks for."""
    named = {workload.name: workload for workload in declared_workloads()}
    workload = named.get(body.get("workload", ""), declared_workloads()[0])
    return {parameter.name: parameter for parameter in workload.parameters}


def _fault(detail: Any, parameters: Iterable[str]) -> str:
    location = [str(part) for part in detail["loc"]]
    field = detail.get("ctx", {}).get("field")
    if field is not None and field not in location:
        location.append(field)
    if not location:
        return describe(detail)
    option = option_name(location[0])
    words = describe(detail).replace("; /docs lists the fields", "")
    if location[0] == "parameters" and len(location) > 1:
        known = ", ".join(parameters)
        extra = f"; there are {known}" if detail["type"] == "extra_forbidden" else ""
        return f"{option} {location[1]}: {words}{extra}"
    return f"{option}: {words}"


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


def _assignment(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise CommandError(f'--param must be like {PARAM_EXAMPLE} (got "{text}")')
    return name, value


def _value(parameter: Parameter | None, text: str) -> Value:
    """Read the value of a parameter. A text that is none is left to the model, which refuses it."""
    if parameter is not None and parameter.dtype == "choice":
        return next((choice for choice in parameter.choices if str(choice) == text), text)
    if parameter is not None and parameter.dtype == "bool":
        return {"true": True, "false": False}.get(text.lower(), text)
    for kind in (int, float):
        try:
            return kind(text.replace("_", ""))
        except ValueError:
            continue
    return text
