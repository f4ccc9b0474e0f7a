"""`hotloop recommend`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hotloop.app.cli.body_options import checked, run_body, with_body_options
from hotloop.app.cli.calibrating import CALIBRATION, follow_calibration
from hotloop.app.cli.connection import Target, connected
from hotloop.app.cli.exits import carried_out
from hotloop.app.cli.options import ApiKey, AsJson, Param, Quiet, RecommendDir, Url, taught
from hotloop.app.cli.screen import Screen, screen
from hotloop.app.cli.submitting import TASKS, flat, words
from hotloop.app.names import StrategyName

if TYPE_CHECKING:
    from hotloop.app.cli.service_client import ServiceClient

EXAMPLES: Final = (
    "hotloop recommend --items 20_000 --db none --cache none",
    "hotloop recommend --items 5000 --db-delay-ms 20 --strategy hybrid --limit 5",
    "hotloop recommend --items 1000 --wait --url http://localhost:8001",
)

HELP: Final = taught(
    """
    Predict the fastest ways to run something here, and say why.

    It answers at once. Predictions rest on a calibration of the machine; before the first one they
    are rough, and their intervals wide. --wait waits for it; `hotloop calibrate` makes one that is
    kept. --kernel, --workers, --batch-size and --io-concurrency are chosen unless they are given.
    """,
    EXAMPLES,
    "Exit status: 0 done; 1 the calibration that --wait waits for failed; 2 refused, the message "
    "says why; 3 the service cannot be reached or cannot answer now; 130 after Ctrl-C.",
)


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
    data_dir: RecommendDir = None,
    **fields: Any,
) -> None:
    with carried_out(as_json):
        query = flat(run_body(fields, param or []))
        asked = {
            "strategy": None if strategy is None else strategy.value,
            "limit": limit,
            "wait": wait or None,
        }
        query |= {name: value for name, value in asked.items() if value is not None}
        from hotloop.app.schemas.recommendation import Recommendation, RecommendationQuery

        checked(RecommendationQuery, query)
        shown = screen(as_json=as_json, quiet=quiet)
        with connected(Target(url, api_key, data_dir), shown, only_asks=True) as client:
            if wait:
                _wait_calibrated(client, query, shown, is_own=url is None)
            with shown.waiting("predicting"):
                answer = client.call("GET", f"{TASKS}/recommendations", query=words(query))
        from hotloop.app.cli.answers import read
        from hotloop.app.cli.output import print_json, print_rich, width
        from hotloop.app.cli.recommendation_table import recommendation_tables

        if as_json:
            print_json(answer)
        else:
            print_rich(*recommendation_tables(read(Recommendation, answer), width()))


def _wait_calibrated(
    client: ServiceClient, query: dict[str, Any], shown: Screen, *, is_own: bool
) -> None:
    """Show the progress of the calibration that the question begins, where there is none yet; a
    service of this command's own begins one only when it is asked for.
    """
    at_once = {name: value for name, value in query.items() if name != "wait"}
    with shown.waiting("asking whether the machine is calibrated"):
        answer = client.call("GET", f"{TASKS}/recommendations", query=words(at_once))
    if not answer["calibrated"]:
        if is_own:
            client.call("POST", CALIBRATION)
        follow_calibration(client, shown)
