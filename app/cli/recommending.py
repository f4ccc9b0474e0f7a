"""`hotloop recommend`."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from app.cli.body_options import checked, run_body, with_body_options
from app.cli.connection import Target, connected
from app.cli.exits import carried_out
from app.cli.options import ApiKey, AsJson, Param, RecommendDir, Url, taught
from app.cli.submitting import TASKS, flat, words
from app.names import StrategyName

EXAMPLES: Final = (
    "hotloop recommend --items 20_000 --db none --cache none",
    "hotloop recommend --items 5000 --db-delay-ms 20 --strategy hybrid --limit 5",
    "hotloop recommend --items 1000 --wait --url http://localhost:8001 --json",
)

HELP: Final = taught(
    """
    Predict the fastest ways to run something here, and say why.

    Predictions rest on a calibration of the machine, which is kept in the data folder. A running
    service makes it behind its first answer; --wait waits for it. --kernel, --workers, --batch-size
    and --io-concurrency are chosen unless they are given.
    """,
    EXAMPLES,
    "Exit status: 0 done; 2 refused, the message says why; 3 the service cannot be reached or "
    "cannot answer now; 130 after Ctrl-C.",
)


@with_body_options
def recommend(
    strategy: Annotated[
        StrategyName | None, typer.Option("--strategy", help="Only this strategy.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", help="How many choices to list. [1 … 1,000; default 20]"),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the calibration, which takes some seconds.")
    ] = False,
    param: Param = None,
    as_json: AsJson = False,
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
            # A service of this command's own ends with it, and its calibration too.
            "wait": wait or url is None or None,
        }
        query |= {name: value for name, value in asked.items() if value is not None}
        from app.schemas.recommendation import Recommendation, RecommendationQuery

        checked(RecommendationQuery, query)
        with connected(Target(url, api_key, data_dir), only_asks=True) as client:
            answer = client.call("GET", f"{TASKS}/recommendations", query=words(query))
        from app.cli.answers import read
        from app.cli.output import print_json, print_rich, width
        from app.cli.recommendation_table import recommendation_tables

        if as_json:
            print_json(answer)
        else:
            print_rich(*recommendation_tables(read(Recommendation, answer), width()))
