"""`hotloop recommend` and `hotloop calibrate`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hotloop.app.cli import options
from hotloop.app.cli.body_options import run_body, with_body_options
from hotloop.app.cli.connection import Purpose, Target, connected
from hotloop.app.cli.exits import FAILED, CommandError, carried_out
from hotloop.app.cli.options import ApiKey, AsJson, Param, Quiet, Url
from hotloop.app.cli.screen import Screen, screen
from hotloop.app.cli.service_workloads import checked_here, checked_there
from hotloop.app.names import StrategyName

if TYPE_CHECKING:
    from hotloop.app.cli.service_client import ServiceClient

RECOMMEND_EXAMPLES: Final = (
    "hotloop recommend --items 20_000 --db none --cache none",
    "hotloop recommend --items 5000 --db-delay-ms 20 --strategy hybrid --limit 5",
    "hotloop recommend --items 1000 --wait --url http://localhost:8001",
)

RECOMMEND_EXITS: Final = (
    "Exit status: 0 done; 1 the calibration that --wait waits for failed; 2 refused, the message "
    "says why; 3 the service cannot be reached or cannot answer now; 130 after Ctrl-C."
)

CALIBRATE_EXAMPLES: Final = (
    "hotloop calibrate",
    "hotloop calibrate --url http://localhost:8001",
)

CALIBRATE_EXITS: Final = (
    "Exit status: 0 done; 1 the calibration failed; 2 refused, the message says why; 3 the service "
    "cannot be reached or cannot answer now; 130 after Ctrl-C."
)

_CALIBRATION: Final = "/calibration"
_POLL_SECONDS: Final = 0.5


@with_body_options
def recommend(
    strategy: Annotated[
        StrategyName | None,
        typer.Option(
            "--strategy", metavar="NAME", help=f"Only this strategy: {', '.join(StrategyName)}."
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", help="How many choices to list. [1 … 1,000; default 20]"),
    ] = None,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Wait until the machine is calibrated, if it is not yet."),
    ] = False,
    param: Param = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: options.RecommendDir = None,
    **fields: Any,
) -> None:
    """
    Predict the fastest ways to run something here, and say why.

    The answer comes at once. Predictions rest on a calibration of the machine; before the first one
    they are rough, and their intervals wide. --wait waits for it; `hotloop calibrate` makes one
    that is kept. --kernel, --workers, --batch-size and --io-concurrency are chosen unless they are
    given.
    """
    with carried_out(as_json):
        body = run_body(fields, param or [])
        asked = {"strategy": strategy and strategy.value, "limit": limit, "wait": wait or None}
        body |= {name: value for name, value in asked.items() if value is not None}
        from hotloop.app.schemas.queries import flat
        from hotloop.app.schemas.recommendation import Recommendation, RecommendationQuery

        checked = checked_here(RecommendationQuery, body)
        shown = screen(as_json=as_json, quiet=quiet)
        with connected(Target(url, api_key, data_dir), shown, Purpose.ASK) as client:
            _, body = checked or checked_there(client, RecommendationQuery, body)
            query = flat(body)
            if wait:
                _wait_calibrated(client, query, shown, is_own=url is None)
            with shown.waiting("predicting"):
                answer = client.call("GET", "/recommendations", query=query)
        from hotloop.app.cli import output, recommendation_table, service_client

        if as_json:
            output.print_json(answer)
        else:
            made = service_client.read(Recommendation, answer)
            output.print_rich(*recommendation_table.recommendation_tables(made, output.width()))


def calibrate(
    as_json: AsJson = False,
    quiet: Quiet = False,
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: options.CalibrateDir = None,
) -> None:
    """
    Measure this machine, so that recommendations and estimates are right for it.

    It takes some seconds, in which nothing else should run here, and replaces the calibration that
    is kept in the data folder. With --url the service measures its own machine. Ctrl-C leaves the
    calibration of a service going on.
    """
    with carried_out(as_json):
        shown = screen(as_json=as_json, quiet=quiet)
        with connected(Target(url, api_key, data_dir), shown, Purpose.KEEP) as client:
            with shown.waiting("asking for a calibration"):
                client.call("POST", _CALIBRATION)
            state = _follow_calibration(client, shown)
        if state["status"] != "completed":
            raise CommandError("Another process of the service calibrates; ask again.")
        from hotloop.app.cli import output

        if as_json:
            output.print_json(state)
        else:
            output.print_sentences(
                "The machine is calibrated; predictions and estimates use it from now on."
            )


def _wait_calibrated(
    client: ServiceClient, query: dict[str, Any], shown: Screen, *, is_own: bool
) -> None:
    """Show the progress of the calibration that the question starts, if there is none yet. A
    service of this command's own starts one only when it is asked for.
    """
    at_once = {name: value for name, value in query.items() if name != "wait"}
    with shown.waiting("asking whether the machine is calibrated"):
        answer = client.call("GET", "/recommendations", query=at_once)
    if not answer["calibrated"]:
        if is_own:
            client.call("POST", _CALIBRATION)
        _follow_calibration(client, shown)


def _follow_calibration(client: ServiceClient, shown: Screen) -> dict[str, Any]:
    """Show the progress of the calibration that is running until it has ended; return its last
    state. Raises CommandError for a calibration that failed.
    """
    with shown.progress("percent") as show:
        state: dict[str, Any] = client.call("GET", _CALIBRATION)
        while state["status"] == "running":
            show(_as_progress(state))
            time.sleep(_POLL_SECONDS)
            state = client.call("GET", _CALIBRATION)
    if state["status"] == "failed":
        raise CommandError(f"The calibration failed: {state['error_message']}", FAILED)
    return state


def _as_progress(state: dict[str, Any]) -> dict[str, Any]:
    """Turn the state of a calibration into that of a task with 100 items."""
    return {
        "task_id": "calibration",
        "status": "calibrating",
        "items_processed": round(100 * state["progress"]),
        "total_items": 100,
        "progress": state["progress"],
        "throughput_items_per_second": None,
        "estimated_remaining_seconds": state["estimated_remaining_seconds"],
    }
