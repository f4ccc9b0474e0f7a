"""Messages as frames on a byte stream: a pickle with its large buffers beside it, uncopied.

A frame is a head (number of buffers, length of the pickle), the lengths of the buffers, the
pickle, the buffers; integers are little-endian. Both ends are one program: a process and the
child it started. It is not a format for a network.
"""

from __future__ import annotations

import asyncio
import pickle
import struct
from typing import Any, Final

_HEAD: Final = struct.Struct("<IQ")
_LENGTH: Final = struct.Struct("<Q")

STREAM_LIMIT: Final = 4 << 20
"""Bytes that a reader holds before it stops the sender."""


def encode_frame(message: object) -> list[bytes | memoryview]:
    """The parts of a frame, in order."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    raw = [buffer.raw() for buffer in buffers]
    lengths = b"".join(_LENGTH.pack(part.nbytes) for part in raw)
    return [_HEAD.pack(len(raw), len(body)) + lengths + body, *raw]


async def read_frame(reader: asyncio.StreamReader) -> Any:
    """The next message. Raises asyncio.IncompleteReadError at the end of the stream."""
    count, body_length = _HEAD.unpack(await reader.readexactly(_HEAD.size))
    lengths = await reader.readexactly(_LENGTH.size * count) if count else b""
    body = await reader.readexactly(body_length)
    # bytearray: arrays made of these buffers must be writable, as any other array is.
    buffers = [
        bytearray(await reader.readexactly(length)) for (length,) in _LENGTH.iter_unpack(lengths)
    ]
    return pickle.loads(body, buffers=buffers)


async def write_frame(writer: asyncio.StreamWriter, message: object) -> None:
    """Send a message; waits while the other end is slow. Raises ConnectionError."""
    writer.writelines(encode_frame(message))
    await writer.drain()
