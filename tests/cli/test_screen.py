"""The state of a task and durations, in words."""

from __future__ import annotations

import pytest

from hotloop.app.cli.screen import duration, progress_line, rate_words

TASK_ID = "task_4f9d02aa71c3e85b_1735689600"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (17.2, "17 s"),
        (59.6, "1 min"),
        (250.0, "4 min 10 s"),
        (4_800.0, "1 h 20 min"),
        (273_600.0, "3 d 4 h"),
        (86_400.0, "1 d"),
    ],
)
def test_durations_have_at_most_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def progress(**changes: object) -> dict[str, object]:
    return {
        "task_id": TASK_ID,
        "status": "running",
        "items_processed": 1_200,
        "total_items": 50_000,
        "progress": 0.024,
        "throughput_items_per_second": 61.4,
        "estimated_remaining_seconds": 795.0,
    } | changes


def test_progress_is_a_sentence_with_rate_and_what_is_left() -> None:
    words = "running, 1,200 of 50,000 items, 61 items/s, 13 min 15 s left"
    assert progress_line(progress()) == f"{TASK_ID} {words}"


def test_time_that_is_left_counts_down_until_the_service_says_more() -> None:
    assert rate_words(progress(), "items", 45.0)[-1] == "12 min 30 s left"
    # An estimate that has run out says nothing any more.
    assert rate_words(progress(), "items", 800.0) == ["61 items/s"]
