"""Limits of a connection, which uvicorn expects a proxy to enforce."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import ClassVar, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from hotloop.app.http.error_handlers import HTTP_KINDS, MEDIA_TYPE
from hotloop.app.http.guards.answers import EVERYWHERE
from hotloop.app.schemas.base import Problem

MAX_HEADERS: Final = 100


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    head_bytes: int
    """Bytes of a request line with its headers."""
    head_seconds: float
    """Time for the head to arrive, from the connection's start or the head's first byte."""
    write_seconds: float
    """Time within which a client must read some bytes of a waiting answer."""


class BoundedProtocol(HttpToolsProtocol):
    """Cuts off clients whose request does not end, or who do not read the answer.

    Bytes that are not HTTP are answered with a problem document, like every other error.
    """

    limits: ClassVar[ConnectionLimits]

    # Methods that uvicorn calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._in_head = self._in_body = False
        self._head_bytes = self._parsed_bytes = 0
        self._refusal: tuple[int, str] | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        self._written()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head_timer is None and not self._answering:
            self._expect_head()
        begins = not self._in_body
        super().data_received(data)
        if self._in_head and begins:
            # The parser reports a header when it is complete: count an unfinished one as raw bytes.
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.head_bytes:
                self._refusal = self._too_large
                self.send_400_response("")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        self._written()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._expect_reading_if_closing()

    def send_400_response(self, msg: str) -> None:
        """Answer with the reason of the refusal, or 400, and close the connection."""
        if self.transport.is_closing():
            return
        status, detail = self._refusal or (400, "the bytes received are not an HTTP/1.1 request")
        kind = HTTP_KINDS[status]
        problem = Problem(
            type=kind.type, title=kind.title, status=status, detail=detail, instance="/"
        )
        body = json.dumps(problem.model_dump(exclude_none=True)).encode()
        headers = EVERYWHERE | {
            "Content-Type": MEDIA_TYPE,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Connection": "close",
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(STATUS_LINE[status] + lines.encode() + b"\r\n" + body)
        self.transport.close()
        self._expect_reading_if_closing()

    # Methods that the parser calls. An error in one of them ends in `send_400_response`.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = self._parsed_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._parsed(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._parsed(len(name) + len(value) + 4)
        if len(self.headers) > MAX_HEADERS:
            self._refuse(431, f"the request has more than {MAX_HEADERS} headers; send fewer")

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body = False, True
        self._head_arrived()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_reading_if_closing()

    # Bounds.

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _too_large(self) -> tuple[int, str]:
        return 431, (
            f"the request line and headers exceed {self.limits.head_bytes:,} bytes. Send less, or "
            "have the operator raise HOTLOOP_MAX_HEADER_BYTES."
        )

    def _parsed(self, count: int) -> None:
        self._parsed_bytes += count
        if self._parsed_bytes > self.limits.head_bytes:
            self._refuse(*self._too_large)

    def _refuse(self, status: int, detail: str) -> None:
        self._refusal = status, detail
        raise ValueError(detail)

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(self.limits.head_seconds, self._head_is_late)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._answering:
            self._expect_head()  # a request behind one that is still being answered
        elif self._in_head:
            seconds = f"{self.limits.head_seconds:g}"
            self._refusal = 408, f"the request did not arrive within {seconds} s; send it again"
            self.send_400_response("")
        else:
            self.transport.close()
            self._expect_reading_if_closing()

    def _expect_reading(self) -> None:
        if self._write_timer is None:
            seconds = self.limits.write_seconds
            self._write_timer = self.loop.call_later(seconds, self.transport.abort)

    def _expect_reading_if_closing(self) -> None:
        # Closing waits until all is written; a client that does not read would keep it open.
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._expect_reading()

    def _written(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


def bounded_protocol(limits: ConnectionLimits) -> type[BoundedProtocol]:
    """Make the class that uvicorn makes an object of for each connection."""
    return type("Connection", (BoundedProtocol,), {"limits": limits})
