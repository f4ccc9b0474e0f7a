"""Messages travel as frames on a byte stream."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from hotloop.app.frames import encode_frame, read_frame


def through_stream(*messages: object, cut: int = 0) -> list[Any]:
    async def read_all() -> list[Any]:
        data = b"".join(bytes(part) for message in messages for part in encode_frame(message))
        reader = asyncio.StreamReader()
        reader.feed_data(data[: len(data) - cut])
        reader.feed_eof()
        return [await read_frame(reader) for _ in messages]

    return asyncio.run(read_all())


def test_messages_with_and_without_arrays_come_back_in_order() -> None:
    arrays = {"a": np.arange(5), "b": np.array([], dtype=np.float64), "c": np.zeros((2, 3))}
    first, second, third = through_stream("text", arrays, None)
    assert first == "text"
    assert third is None
    for name, array in arrays.items():
        assert second[name].dtype == array.dtype
        assert np.array_equal(second[name], array)


def test_arrays_are_sent_outside_the_pickle_and_arrive_writable() -> None:
    array = np.arange(1_000_000)
    parts = encode_frame(array)
    assert len(parts) == 2
    assert len(parts[0]) < 1_000
    (arrived,) = through_stream(array)
    arrived[0] = 7
    assert array[0] == 0


def test_stream_that_ends_within_a_frame_is_an_error() -> None:
    with pytest.raises(asyncio.IncompleteReadError):
        through_stream(np.arange(10), cut=1)
