"""Uploads out of generated text, which is hardly ever a row: every second one is made one."""

from __future__ import annotations

from typing import Any, Final

_CSV_HEAD: Final = b"item_id,value,offset\n"
_MOST_ROWS: Final = 10


def upload_body(body: Any, media_type: str | None) -> bytes:
    """The generated text as it is, or as many rows as it has characters, by its length."""
    raw = body if isinstance(body, bytes) else str(body).encode(errors="replace")
    if len(raw) % 2:
        return raw
    rows = [(position, byte / 7, byte) for position, byte in enumerate(raw[:_MOST_ROWS] or b"?")]
    if media_type == "application/x-ndjson":
        form = b'{"item_id": %d, "value": %.3f, "offset": %d}'
        return b"\n".join(form % row for row in rows)
    return _CSV_HEAD + b"\n".join(b"%d,%.3f,%d" % row for row in rows)
