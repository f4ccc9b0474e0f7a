"""Server-sent events, read line by line as the HTML standard says (9.2.6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """An event with data; `id` is the last one that was sent, or empty."""

    event: str
    data: str
    id: str


class EventReader:
    """Makes events of lines. Comments, other fields and an unfinished last event are left out."""

    def __init__(self) -> None:
        self._event, self._data, self._last_id = "", list[str](), ""

    def feed(self, line: str) -> ServerSentEvent | None:
        """Take the next line; return the event that it completes, if it does."""
        if not line:
            found = None
            if self._data:
                text = "\n".join(self._data)
                found = ServerSentEvent(self._event or "message", text, self._last_id)
            self._event, self._data = "", []
            return found
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._event = value
        elif field == "id" and "\0" not in value:
            self._last_id = value
        return None


def parse_events(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    """Yield the events in some lines."""
    reader = EventReader()
    for line in lines:
        if (event := reader.feed(line)) is not None:
            yield event
