"""Options that several commands share, and how their help is put together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from hotloop.app.names import ITEM_ID
from hotloop.app.wording import number
from hotloop.kernels import Parameter, Workload, declared_workloads
from hotloop.kernels.contract import Value

_WHOM: Final = "Whom to ask"
_OUTPUT: Final = "Output"

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="HOTLOOP_URL",
        metavar="URL",
        help="A running service, like http://localhost:8001. Without it the command does the work "
        "in processes of its own.",
        rich_help_panel=_WHOM,
    ),
]

ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar="HOTLOOP_API_KEY",
        metavar="KEY",
        help="Sent to the service as X-API-Key. Better in the environment: others on this machine "
        "can read a command's options.",
        rich_help_panel=_WHOM,
    ),
]

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="FOLDER",
        help="Without --url: where the task and its results are kept. "
        "Otherwise in a folder that is gone at the end.",
        rich_help_panel=_WHOM,
    ),
]

StoreDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="FOLDER",
        help="Without --url: the folder of the tasks. Otherwise the configured store: "
        "HOTLOOP_DATABASE_URL, HOTLOOP_DATA_DIR, or the folder data.",
        rich_help_panel=_WHOM,
    ),
]

RecommendDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="FOLDER",
        help="Without --url: the folder that the calibration is kept in. Otherwise that of "
        "HOTLOOP_DATA_DIR, or the folder data, if it is there; else one that is gone at the end.",
        rich_help_panel=_WHOM,
    ),
]

CalibrateDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="FOLDER",
        help="Without --url: the folder that the calibration is kept in, made if it is not there. "
        "Default: HOTLOOP_DATA_DIR, or the folder data.",
        rich_help_panel=_WHOM,
    ),
]

AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="JSON on the output, and nothing else there; errors as a JSON object on the error "
        "output.",
        rich_help_panel=_OUTPUT,
    ),
]

Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No progress.", rich_help_panel=_OUTPUT),
]


def parameter_facts(parameter: Parameter) -> str:
    """Return the values that a parameter may have, and its default."""
    choices = (True, False) if parameter.dtype == "bool" else parameter.choices
    if choices:
        return f"{', '.join(map(value_text, choices))}; default {value_text(parameter.default)}"
    bounds = f"{number(parameter.minimum)} … {number(parameter.maximum)}"
    return f"{bounds}; default {number(parameter.default)}"


def value_text(value: Value) -> str:
    """Return a value of a parameter as `--param` takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parameters_help(workload: Workload) -> str:
    facts = [f"{p.name} ({parameter_facts(p)})" for p in workload.parameters]
    facts += [
        f"{' * '.join(bound.parameters)} at most {number(bound.maximum)}"
        for bound in workload.product_bounds
    ]
    return f"{workload.name}: {', '.join(facts) or 'none'}."


_FIRST: Final = declared_workloads()[0]

ROW_COLUMNS: Final = (ITEM_ID.name, *(column.name for column in _FIRST.columns_in))
"""Columns of a file of items, for the help."""

PARAM_EXAMPLE: Final = f"{_FIRST.parameters[0].name}=1000"

Param = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        "-p",
        metavar="NAME=VALUE",
        help="A parameter of the workload; may be repeated. "
        + " ".join(map(_parameters_help, declared_workloads()))
        + " `hotloop kernels` lists those of workloads of your own.",
        rich_help_panel="Run",
    ),
]

TaskId = Annotated[str, typer.Argument(metavar="TASK_ID", help="As `hotloop tasks list` shows it.")]

EXITS: Final = (
    "Exit status: 0 done; 1 the task failed or was cancelled; 2 refused, the message says why; "
    "3 the service cannot be reached or cannot answer now; 130 after Ctrl-C."
)


def taught(text: str, examples: tuple[str, ...], exits: str = EXITS) -> str:
    """A command's help: what it does, examples (each is executed by a test), the exit status."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n")]
    # \b: these lines stay lines.
    shown = "\b\nExamples:\n" + "\n".join(f"  {example}" for example in examples)
    return "\n\n".join([*paragraphs, shown, exits])
