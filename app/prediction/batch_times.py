"""How long many batches take by the number of workers."""

from __future__ import annotations


def makespan(batches: int, workers: int, seconds: float, last_seconds: float) -> float:
    """Until `batches` of equal length, the last of which takes `last_seconds`, are done by
    workers that each take the next as soon as they are free.
    """
    if batches == 0:
        return 0.0
    waves, rest = divmod(batches - 1, workers)
    return waves * seconds + (last_seconds if rest == 0 else max(seconds, last_seconds))
