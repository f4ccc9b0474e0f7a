"""Frames in which Python objects travel between a process and the child that it started.

A message is a pickle with its large buffers beside it, uncopied. A frame is a head (number of
buffers, length of the pickle), the lengths of the buffers, the pickle, the buffers; integers are
little-endian. Both ends are one program: this is not a format for a network.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from io import BufferedReader
from typing import Any, Final

_HEAD: Final = struct.Struct("<IQ")
_LENGTH: Final = struct.Struct("<Q")

STREAM_LIMIT: Final = 4 << 20
"""Bytes that a reader holds before it stops the sender."""


def encode_frame(message: object) -> list[bytes | memoryview]:
    """Return the parts of a frame, in order."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    raw = [buffer.raw() for buffer in buffers]
    lengths = b"".join(_LENGTH.pack(part.nbytes) for part in raw)
    return [_HEAD.pack(len(raw), len(body)) + lengths + body, *raw]


async def read_frame(reader: asyncio.StreamReader) -> Any:
    """Read the next message. Raises asyncio.IncompleteReadError at the end of the stream."""
    count, body_length = _HEAD.unpack(await reader.readexactly(_HEAD.size))
    lengths = await reader.readexactly(_LENGTH.size * count) if count else b""
    body = await reader.readexactly(body_length)
    # bytearray, because arrays made of these buffers must be writable.
    buffers = [
        bytearray(await reader.readexactly(length)) for (length,) in _LENGTH.iter_unpack(lengths)
    ]
    return pickle.loads(body, buffers=buffers)


async def write_frame(writer: asyncio.StreamWriter, message: object) -> None:
    """Send a message; wait while the other end is slow. Raises ConnectionError."""
    writer.writelines(encode_frame(message))
    await writer.drain()


def receive_frame(reader: BufferedReader) -> Any:
    """Wait for the next message. Blocks; raises EOFError at the end of the stream."""
    count, body_length = _HEAD.unpack(_exactly(reader, _HEAD.size))
    lengths = _exactly(reader, _LENGTH.size * count)
    body = _exactly(reader, body_length)
    buffers = [bytearray(_exactly(reader, length)) for (length,) in _LENGTH.iter_unpack(lengths)]
    return pickle.loads(body, buffers=buffers)


def _exactly(reader: BufferedReader, size: int) -> bytes:
    found = reader.read(size)
    if len(found) < size:
        raise EOFError
    return found


def send_frame(connection: socket.socket, message: object) -> None:
    """Send a message. Blocks while the other end is slow; raises ConnectionError."""
    connection.sendall(b"".join(encode_frame(message)))
