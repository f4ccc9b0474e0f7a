"""cli.recommending: `hotloop recommend`, with a service and without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotloop.app.prediction.calibration_file import NAME
from hotloop.app.schemas.recommendation import Recommendation
from tests.fixtures.command_line import answer, hotloop, refusal
from tests.fixtures.server import Server

pytestmark = pytest.mark.long

WORK = ("--items", "500", "--db", "none", "--cache", "none")


def test_recommendation_answers_as_the_service_does(server: Server) -> None:
    fields = ("--workers", "2", "--param", "cpu_iterations=10", "--limit", "3")
    found = Recommendation.model_validate(
        answer("recommend", *WORK, *fields, "--strategy", "threading", "--url", server.url)
    )
    assert len(found.ranked) == 3
    assert {(c.strategy, c.workers) for c in found.ranked} == {("threading", 2)}
    query: dict[str, str | int] = {
        "items_count": 500,
        "db": "none",
        "cache": "none",
        "workers": 2,
        "cpu_iterations": 10,
        "strategy": "threading",
        "limit": 3,
    }
    direct = server.client.get("/api/v1/tasks/recommendations", params=query).json()
    assert Recommendation.model_validate(direct).ranked == found.ranked


def test_recommendation_by_itself_answers_at_once(tmp_path: Path) -> None:
    command = ("recommend", *WORK, "--data-dir", "here")
    first = hotloop(*command, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "the first 20 of" in first.stdout
    assert "curl -s http://localhost:8001/" in first.stdout
    flowing = " ".join(first.stdout.split())
    assert "Not calibrated yet" in flowing
    assert "wide. `hotloop calibrate` measures this machine." in flowing
    assert "A calibration is running" not in flowing
    assert not (tmp_path / "here" / NAME).exists()


def test_recommendation_by_itself_calibrates_first_if_it_is_to_wait(tmp_path: Path) -> None:
    done = hotloop("recommend", *WORK, "--wait", "--data-dir", "here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Not calibrated" not in done.stdout
    assert (tmp_path / "here" / NAME).exists()


def test_recommendation_by_itself_uses_the_calibration_that_is_kept(tmp_path: Path) -> None:
    made = hotloop("calibrate", "--data-dir", "here", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "The machine is calibrated" in made.stdout
    kept = (tmp_path / "here" / NAME).read_text()
    again = hotloop("recommend", *WORK, "--data-dir", "here", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "Not calibrated" not in again.stdout
    assert (tmp_path / "here" / NAME).read_text() == kept


def test_impossible_run_is_refused(server: Server) -> None:
    text = refusal("recommend", *WORK, "--workload", "nothing", "--url", server.url)
    assert "loops" in text
