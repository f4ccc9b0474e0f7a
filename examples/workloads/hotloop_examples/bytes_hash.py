"""The hash FNV-1a of 32 bits, by Fowler, Noll and Vo (RFC 9923)."""

from collections.abc import Sequence

import hotloop


@hotloop.workload(
    columns={"data": hotloop.Integer(0, 255, dtype="uint8", width=64)},
    outputs={"digest": hotloop.Integer(0, 2**32 - 1)},
)
def bytes_hash(data: Sequence[int]) -> int:
    """FNV-1a of 64 bytes. The largest product has 57 bits, so int64 holds it."""
    digest = 2166136261
    for index in range(len(data)):
        digest = ((digest ^ data[index]) * 16777619) & 0xFFFFFFFF
    return digest
