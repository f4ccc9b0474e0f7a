"""`hotloop calibrate`, and following a calibration."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from hotloop.app.cli.connection import Target, connected_to_keep
from hotloop.app.cli.exits import FAILED, CommandError, carried_out
from hotloop.app.cli.options import ApiKey, AsJson, CalibrateDir, Quiet, Url, taught
from hotloop.app.cli.screen import Screen, screen

if TYPE_CHECKING:
    from hotloop.app.cli.service_client import ServiceClient

CALIBRATION: Final = "/api/v1/tasks/calibration"

_POLL_SECONDS: Final = 0.5

EXAMPLES: Final = (
    "hotloop calibrate",
    "hotloop calibrate --url http://localhost:8001",
)

HELP: Final = taught(
    """
    Measure this machine, so that recommendations and estimates are right for it.

    It takes some seconds, in which nothing else should run here, and replaces the calibration that
    is kept in the data folder. With --url the service measures its own machine. Ctrl-C leaves the
    calibration of a service going on.
    """,
    EXAMPLES,
    "Exit status: 0 done; 1 the calibration failed; 2 refused, the message says why; 3 the service "
    "cannot be reached or cannot answer now; 130 after Ctrl-C.",
)


def calibrate(
    as_json: AsJson = False,
    quiet: Quiet = False,
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: CalibrateDir = None,
) -> None:
    with carried_out(as_json):
        shown = screen(as_json=as_json, quiet=quiet)
        with connected_to_keep(Target(url, api_key, data_dir), shown) as client:
            with shown.waiting("asking for a calibration"):
                client.call("POST", CALIBRATION)
            state = follow_calibration(client, shown)
        if state["status"] != "completed":
            raise CommandError("Another process of the service calibrates; ask again.")
        _print(state, as_json)


def follow_calibration(client: ServiceClient, shown: Screen) -> dict[str, Any]:
    """Show the progress of the calibration that is running, until it has ended; returns its last
    state. Raises CommandError for a calibration that failed.
    """
    with shown.progress("percent") as bar:
        state: dict[str, Any] = client.call("GET", CALIBRATION)
        while state["status"] == "running":
            bar.show(_as_progress(state))
            time.sleep(_POLL_SECONDS)
            state = client.call("GET", CALIBRATION)
    if state["status"] == "failed":
        raise CommandError(f"The calibration failed: {state['error_message']}", FAILED)
    return state


def _as_progress(state: dict[str, Any]) -> dict[str, Any]:
    """A calibration as displays have tasks: of 100 parts."""
    return {
        "task_id": "calibration",
        "status": "calibrating",
        "items_processed": round(100 * state["progress"]),
        "total_items": 100,
        "progress": state["progress"],
        "throughput_items_per_second": None,
        "estimated_remaining_seconds": state["estimated_remaining_seconds"],
    }


def _print(state: dict[str, Any], as_json: bool) -> None:
    from hotloop.app.cli.output import print_json, print_sentences

    if as_json:
        print_json(state)
        return
    print_sentences("The machine is calibrated; predictions and estimates use it from now on.")
