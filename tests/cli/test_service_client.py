"""Server-sent events, line by line."""

from __future__ import annotations

import pytest

from hotloop.app.client.events import ServerSentEvent, parse_events


@pytest.mark.parametrize(
    ("lines", "events"),
    [
        ([], []),
        (["data: a", ""], [("message", "a", "")]),
        (["event: state", "data: a", "id: 7", ""], [("state", "a", "7")]),
        (["data: a", "data:  b", "data", ""], [("message", "a\n b\n", "")]),
        ([": a comment", "", "retry: 5", "", "data:a", ""], [("message", "a", "")]),
        (["event: state", "", "data: a", ""], [("message", "a", "")]),
        (["id: 1", "data: a", "", "data: b", ""], [("message", "a", "1"), ("message", "b", "1")]),
        (["id: \0", "data: a", ""], [("message", "a", "")]),
        (["data: unfinished"], []),
        (['data: {"a": "b: c"}', ""], [("message", '{"a": "b: c"}', "")]),
    ],
)
def test_events_are_as_the_standard_says(
    lines: list[str], events: list[tuple[str, str, str]]
) -> None:
    assert list(parse_events(lines)) == [ServerSentEvent(*event) for event in events]
