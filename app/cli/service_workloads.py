"""Workloads that the asked service has and this process does not: declared here, as data, so that
options, files and help are checked as for any other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from hotloop.app.cli.body_options import Checked, Model, checked
from hotloop.app.cli.exits import CommandError
from hotloop.app.records import from_fields
from hotloop.app.version import VERSION
from hotloop.kernels import (
    Call,
    Column,
    Implementation,
    Parameter,
    ProductBound,
    Term,
    Workload,
    declare,
    workloads,
)

if TYPE_CHECKING:
    from hotloop.app.cli.service_client import ServiceClient

_LOADING_SECONDS: Final = 30.0
"""Time for a service that starts to find out what became of users' own workloads."""

_POLL_SECONDS: Final = 0.1

_THERE: Final = "the service's"
"""Where a kernel comes from that this process does not have."""


def checked_here(model: type[Model], body: Mapping[str, Any]) -> Checked[Model] | None:
    """Check a body as `checked` does; return None if this process does not know its workload."""
    return checked(model, body) if body.get("workload", workloads()[0]) in workloads() else None


def checked_there(
    client: ServiceClient, model: type[Model], body: Mapping[str, Any]
) -> Checked[Model]:
    """Learn the workload of a body from the service, and check it as `checked` does. Raises
    CommandError also for a workload that the service does not have, with its reason.
    """
    found = _asked_for(client, body["workload"])
    # A service of this command's own declares its workloads in this process, with their source.
    if found.name not in workloads():
        declare(found)
    return checked(model, body)


def known_kernels(client: ServiceClient) -> dict[str, Any]:
    """Ask the service for its workloads, once it knows what became of the user's own ones."""
    give_up = time.monotonic() + _LOADING_SECONDS
    while True:
        answer: dict[str, Any] = client.call("GET", "/kernels")
        is_loading = any(own["state"] == "loading" for own in answer["own_workloads"])
        if not is_loading or time.monotonic() > give_up:
            return answer
        time.sleep(_POLL_SECONDS)


def unknown_workload(name: str, answer: Mapping[str, Any]) -> CommandError:
    """Return the error for a workload that the service does not have: why, or those it has."""
    for own in answer["own_workloads"]:
        if own["workload"] == name and own["reason"] is not None:
            return CommandError(f"the workload {name!r} cannot be used: {own['reason']}")
    known = ", ".join(view["name"] for view in answer["workloads"])
    reasons = [f"  {text}" for text in reasons_of(answer)]
    return CommandError("\n".join([f"there is no workload {name!r}; there are {known}", *reasons]))


def reasons_of(answer: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each workload of the user's own that cannot be used."""
    return [
        f"{own['workload'] or own['target']} cannot be used: {own['reason']}"
        for own in answer["own_workloads"]
        if own["state"] == "failed"
    ]


def _asked_for(client: ServiceClient, name: str) -> Workload:
    answer = known_kernels(client)
    for view in answer["workloads"]:
        if view["name"] == name:
            kernels = [each for each in answer["kernels"] if each["workload"] == name]
            return workload_of(view, kernels)
    raise unknown_workload(name, answer)


def workload_of(view: Mapping[str, Any], kernels: Sequence[Mapping[str, Any]]) -> Workload:
    """Make the declaration that the service shows, without its source. Raises CommandError if the
    service is of another version.
    """
    try:
        columns_in = tuple(from_fields(Column, each) for each in view["columns_in"])
        columns_out = tuple(from_fields(Column, each) for each in view["columns_out"])
        parameters = tuple(
            from_fields(Parameter, {**each, "choices": tuple(each.get("choices") or ())})
            for each in view["parameters"]
        )
        bounds = tuple(
            ProductBound(tuple(each["parameters"]), each["maximum"])
            for each in view["product_bounds"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CommandError(
            f"the service's description of the workload {view.get('name')} is not one of Hotloop "
            f"{VERSION} ({error!r}); use a command of the service's version"
        ) from error
    names = [tuple(each.name for each in part) for part in (columns_in, parameters, columns_out)]
    return Workload(
        name=view["name"],
        description=view["description"],
        columns_in=columns_in,
        columns_out=columns_out,
        parameters=parameters,
        product_bounds=bounds,
        calls=(Call("batch", *names),),
        terms=(Term("items", "1"),),
        kernels=tuple(Implementation(each["kernel"], _THERE) for each in kernels),
    )
