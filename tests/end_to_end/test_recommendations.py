"""`schemas.recommendation`, `schemas.calibration`: recommendations, calibration and prediction
error of a real service.
"""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from hotloop.app.prediction.accuracy import UNCALIBRATED
from hotloop.app.prediction.calibration_file import NAME
from tests.fixtures.server import Server, running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

PATH = "/api/v1/tasks/recommendations"
CALIBRATION = "/api/v1/tasks/calibration"
WORK: dict[str, Any] = {
    "items_count": 300,
    "db_delay_ms": 2,
    "redis_delay_ms": [1, 2],
    "cpu_iterations": 100,
    "outer_iterations": 10,
}


def ask(server: Server, **query: Any) -> dict[str, Any]:
    """Get a recommendation; wait for the calibration unless the query says otherwise."""
    answer = server.client.get(PATH, params=WORK | {"wait": True} | query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def state(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.client.get(CALIBRATION).raise_for_status().json()
    return found


def width(recommendation: dict[str, Any]) -> float:
    interval = recommendation["recommended"]["interval_seconds"]
    return float(interval["high"] / interval["low"])


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_command_runs_the_recommendation_and_its_error_is_recorded(server: Server) -> None:
    asked = ask(server)
    best = asked["recommended"]
    assert best == asked["ranked"][0]
    assert asked["lower_bound_seconds"] <= best["predicted_seconds"]
    interval = best["interval_seconds"]
    assert interval["low"] <= best["predicted_seconds"] <= interval["high"]
    assert f"{best['strategy']} × {best['kernel']}" in asked["explanation"]
    assert {advice["work"] for advice in asked["guidelines"]} == {
        "I/O-heavy",
        "CPU-heavy",
        "mixed",
        "long-running",
    }
    command = ["sh", "-c", asked["curl"]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    result = json.loads(done.stdout)
    assert result["status"] == "completed"
    assert result["items_processed"] == 300
    assert (result["strategy"], result["kernel"]) == (best["strategy"], best["kernel"])
    assert result["batch_size"] == best["batch_size"]
    again = ask(server)
    (record,) = (r for r in again["prediction_error"]["last"] if r["task_id"] == result["task_id"])
    assert record["predicted_seconds"] == pytest.approx(best["predicted_seconds"])
    assert record["measured_seconds"] == result["duration_seconds"]
    assert record["ratio"] == pytest.approx(
        record["predicted_seconds"] / record["measured_seconds"]
    )
    # The second answer uses the same calibration.
    assert again["calibration"]["calibrated_at"] == asked["calibration"]["calibrated_at"]


def test_curl_command_leaves_out_defaults(server: Server) -> None:
    words = shlex.split(ask(server, workers=4, batch_size=5_000, io_concurrency=1_000)["curl"])
    body = json.loads(words[words.index("-d") + 1])
    assert set(body) == {
        *("kernel", "items_count", "batch_size", "db_delay_ms", "redis_delay_ms", "parameters")
    }
    assert body["parameters"] == {"cpu_iterations": 100, "outer_iterations": 10}


def test_given_parameters_are_kept(server: Server) -> None:
    given = {"strategy": "hybrid", "kernel": "python", "workers": 2, "batch_size": 7}
    asked = ask(server, **given, io_concurrency=9, limit=1_000)
    assert asked["considered"] == len(asked["ranked"]) == 1
    assert {name: asked["recommended"][name] for name in given} == given


def test_kernel_speeds_are_those_of_the_given_parameters(server: Server) -> None:
    few = {k["kernel"]: k for k in ask(server)["calibration"]["kernels"]}
    many = {k["kernel"]: k for k in ask(server, cpu_iterations=10_000)["calibration"]["kernels"]}
    assert set(few) == {"python", "cython", "numba"}
    for name, kernel in few.items():
        assert kernel["seconds_per_item"] < many[name]["seconds_per_item"]
        assert kernel["parallel_speedup"] >= 1


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ({"workload": "nothing"}, "workload", "loops"),
        ({"db": "pinot"}, "db", "HOTLOOP_PINOT_URL"),
        ({"cache_mode": "aside"}, "cache_mode", "redis"),
    ],
    ids=["workload", "db", "cache_mode"],
)
def test_impossible_query_is_refused_and_names_the_field(
    server: Server, query: dict[str, str], field: str, words: str
) -> None:
    answer = server.client.get(PATH, params=WORK | query)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    assert words in error["message"]


def test_first_answer_does_not_wait_for_the_calibration(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        assert state(server)["status"] == "none"
        first = ask(server, wait=False)
        assert first["calibrated"] is False
        assert first["calibrating"]["status"] == "running"
        assert first["calibration"]["calibrated_at"] is None
        assert width(first) >= UNCALIBRATED[1] / UNCALIBRATED[0] * 0.999
        assert "not calibrated yet" in first["explanation"]
        with pytest.raises(httpx.ReadTimeout):
            server.client.get(PATH, params=WORK | {"wait": True}, timeout=0.2)
        # The calibration goes on although its client has left.
        seen = [state(server)["progress"]]

        def is_over() -> bool:
            now = state(server)
            seen.append(now["progress"])
            return bool(now["status"] != "running")

        wait_until(is_over, "it is calibrated", bound=100, interval=0.05)
        assert seen == sorted(seen)
        assert len(set(seen)) > 10
        ended = state(server)
        assert (ended["status"], ended["error_message"]) == ("completed", None)
        again = ask(server, wait=False)
        assert (again["calibrated"], again["calibrating"]) == (True, None)
        assert again["calibration"]["calibrated_at"] == ended["ended_at"]
        assert width(again) < width(first)


def test_calibration_is_measured_once_and_kept(tmp_path: Path) -> None:
    with running_server(tmp_path) as server, ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda _: ask(server)["calibration"], range(3)))
        times = {calibration["calibrated_at"] for calibration in found}
        assert len(times) == 1
    with running_server(tmp_path) as server:
        assert {ask(server, wait=False)["calibration"]["calibrated_at"]} == times


def test_post_starts_a_new_calibration(server: Server) -> None:
    before = ask(server)["calibration"]["calibrated_at"]
    answer = server.client.post(CALIBRATION)
    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    assert answer.headers["Location"] == CALIBRATION
    meanwhile = ask(server, wait=False)
    assert meanwhile["calibrated"] is True
    assert meanwhile["calibration"]["calibrated_at"] == before
    assert meanwhile["calibrating"]["status"] == "running"
    refreshed = ask(server)["calibration"]["calibrated_at"]
    assert refreshed != before
    assert ask(server, wait=False)["calibration"]["calibrated_at"] == refreshed


def test_stop_ends_a_calibration_and_refuses_waiting_clients(tmp_path: Path) -> None:
    with running_server(tmp_path) as server, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(server.client.get, PATH, params=WORK | {"wait": True})
        wait_until(lambda: state(server)["progress"] > 0, "it measures")
        server.process.send_signal(signal.SIGTERM)
        answer = waiting.result()
        assert answer.status_code == 503
        assert "stops" in answer.json()["detail"]
    assert not (tmp_path / NAME).exists()


def test_unreadable_calibration_is_replaced(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("{}")
    with running_server(tmp_path) as server:
        calibrated_at = ask(server)["calibration"]["calibrated_at"]
    kept = json.loads((tmp_path / NAME).read_text())
    assert datetime.fromisoformat(kept["calibrated_at"]) == datetime.fromisoformat(calibrated_at)
