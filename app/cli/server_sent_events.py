"""Server-sent events, read line by line as the HTML standard has it (section 9.2.6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event with data; `id` is the last that was sent, empty when none was."""

    event: str
    data: str
    id: str


def parse_events(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    """The events of a stream; comments, other fields and an unfinished last event are left out."""
    event, data, last_id = "", list[str](), ""
    for line in lines:
        if not line:
            if data:
                yield ServerSentEvent(event or "message", "\n".join(data), last_id)
            event, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            event = value
        elif field == "id" and "\0" not in value:
            last_id = value
