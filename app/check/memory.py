"""Memory for the arrays of a call, in which a kernel that leaves its arrays is seen.

`Guarded` puts each array inside a larger one and compares the rest afterwards. `Fenced` puts it
beside pages that nobody may touch, and inputs in pages that nobody may write to: a kernel that does
is ended by the system at that very instruction.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from math import prod
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

GUARD: Final = 1024
"""Bytes before and after each array; a multiple of every element's size and alignment."""

_SHIFTS: Final = (0, 1, 2, 3)
"""Elements by which arrays are moved, so that they are aligned to one element and no more."""


class Memory(Protocol):
    """Where the arrays of one call lie."""

    def input(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        """Return a read-only copy of an input column."""

    def output(self, name: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Return an array for an output or for scratch, full of poison."""

    def changed(self) -> tuple[list[str], list[str]]:
        """Return the names of the inputs that were changed, and of the arrays beside which
        something was written.
        """

    def close(self) -> None:
        """Give the memory back; the arrays must not be used afterwards."""


def poison(dtype: str, kind: int) -> Any:
    """Return the poison of a dtype; the two kinds, 0 and 1, have different values."""
    made = np.dtype(dtype)
    if made.kind == "f":
        return (np.nan, 1e9)[kind]
    if made.kind == "b":
        return (True, False)[kind]
    return np.frombuffer((b"\x5a" * 8, b"\xff" * 8)[kind][: made.itemsize], dtype=made)[0]


class Guarded:
    """Arrays inside larger ones. `kind` chooses the poison, `shift` moves them a little."""

    def __init__(self, kind: int, shift: int = 0) -> None:
        self._kind = kind
        self._shift = _SHIFTS[shift % len(_SHIFTS)]
        self._inputs: list[tuple[str, NDArray[Any], bytes]] = []
        self._all: list[tuple[str, NDArray[np.uint8], bytes, int, int]] = []

    def input(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        array = self._placed(name, values.shape, values.dtype.str)
        array[...] = values
        self._inputs.append((name, array, array.tobytes()))
        view = array.view()
        view.flags.writeable = False
        return view

    def output(self, name: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        array = self._placed(name, shape, dtype)
        array[...] = poison(dtype, self._kind)
        return array

    def changed(self) -> tuple[list[str], list[str]]:
        inputs = [name for name, array, before in self._inputs if array.tobytes() != before]
        beside = [
            name
            for name, memory, guard, start, end in self._all
            if memory[:start].tobytes() != guard[:start] or memory[end:].tobytes() != guard[start:]
        ]
        return inputs, beside

    def close(self) -> None:
        self._inputs.clear()
        self._all.clear()

    def _placed(self, name: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        size = np.dtype(dtype).itemsize
        start = GUARD + self._shift * size
        length = prod(shape) * size
        memory = np.empty(start + length + GUARD, dtype=np.uint8)
        around = np.full((start + GUARD) // size, poison(dtype, self._kind), dtype=dtype).tobytes()
        memory[:start] = np.frombuffer(around[:start], dtype=np.uint8)
        memory[start + length :] = np.frombuffer(around[start:], dtype=np.uint8)
        self._all.append((name, memory, around, start, start + length))
        return memory[start : start + length].view(dtype).reshape(shape)


_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_PAGE: Final = mmap.PAGESIZE
_NOTHING: Final = 0
_READ: Final = 1


class Fenced:
    """Arrays beside forbidden pages: at the end of their own pages, or at the beginning."""

    def __init__(self, kind: int, *, at_end: bool) -> None:
        self._kind = kind
        self._at_end = at_end
        self._maps: list[mmap.mmap] = []

    def input(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        array, address, pages = self._placed(values.shape, values.dtype.str)
        array[...] = values
        _protect(address, pages, _READ)
        view = array.view()
        view.flags.writeable = False
        return view

    def output(self, name: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        array, _, _ = self._placed(shape, dtype)
        array[...] = poison(dtype, self._kind)
        return array

    def changed(self) -> tuple[list[str], list[str]]:
        return [], []

    def close(self) -> None:
        # An array keeps only an address: the map is unmapped as soon as nobody names it.
        self._maps.clear()

    def _placed(self, shape: tuple[int, ...], dtype: str) -> tuple[NDArray[Any], int, int]:
        """Return an array, and the address and size of its pages."""
        length = prod(shape) * np.dtype(dtype).itemsize
        pages = -(-max(length, 1) // _PAGE) * _PAGE
        # Anonymous and shared with nobody: the first and the last page become forbidden.
        whole = mmap.mmap(-1, pages + 2 * _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._maps.append(whole)
        address = ctypes.addressof(ctypes.c_char.from_buffer(whole))
        start = address + _PAGE + (pages - length if self._at_end else 0)
        _protect(address, _PAGE, _NOTHING)
        _protect(address + _PAGE + pages, _PAGE, _NOTHING)
        # An array without elements has an address, too, and may not be looked into.
        memory = memoryview((ctypes.c_uint8 * max(length, 1)).from_address(start))
        array = np.frombuffer(memory, dtype=np.uint8)[:length]
        return array.view(dtype).reshape(shape), address + _PAGE, pages


def _protect(address: int, length: int, protection: int) -> None:
    if _LIBC.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(length), protection):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
