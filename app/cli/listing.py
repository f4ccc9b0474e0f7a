"""`hotloop kernels`."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from hotloop.app.cli.connection import Purpose, Target, connected
from hotloop.app.cli.exits import carried_out
from hotloop.app.cli.options import ApiKey, AsJson, Url
from hotloop.app.cli.screen import screen
from hotloop.app.cli.service_workloads import known_kernels, unknown_workload

EXAMPLES: Final = (
    "hotloop kernels",
    "hotloop kernels loops --url http://localhost:8001",
)

EXITS: Final = (
    "Exit status: 0 done; 2 refused, the message says why; 3 the service cannot be reached or "
    "cannot answer now; 130 after Ctrl-C."
)


def kernels(
    workload: Annotated[
        str | None, typer.Argument(metavar="WORKLOAD", help="Only this one. [default all]")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """
    List workloads, yours among them: their columns and parameters with the bounds, their kernels
    and how fast each is here.

    What cannot be used is listed with the reason.
    """
    with carried_out(as_json):
        shown = screen(as_json=as_json)
        target = Target(url, api_key, None)
        with (
            connected(target, shown, Purpose.ASK) as client,
            shown.waiting("waiting for the answer"),
        ):
            answer = _only(known_kernels(client), workload)
        from hotloop.app.cli import kernel_table, output

        if as_json:
            output.print_json(answer)
        else:
            output.print_rich(*kernel_table.kernel_tables(answer, output.width()))


def _only(answer: dict[str, Any], name: str | None) -> dict[str, Any]:
    """Leave out the other workloads. Raises CommandError for a name that is not there."""
    if name is None:
        return answer
    found = [each for each in answer["workloads"] if each["name"] == name]
    if not found:
        raise unknown_workload(name, answer)
    kernels = [each for each in answer["kernels"] if each["workload"] == name]
    return answer | {"workloads": found, "kernels": kernels, "own_workloads": []}
