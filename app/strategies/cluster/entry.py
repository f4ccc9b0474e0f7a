"""The functions that an engine calls on its workers, by their names.

The driver imports this module, so it imports nothing itself.
"""


def prepare(payload: bytes) -> bytes:
    """Make this worker ready for a plan; see `parcels.prepare`."""
    from hotloop.app.strategies.cluster import parcels

    return parcels.prepare(payload)


def compute(payload: bytes) -> bytes:
    """Compute a parcel; see `parcels.compute`."""
    from hotloop.app.strategies.cluster import parcels

    return parcels.compute(payload)


def compute_interruptibly(payload: bytes) -> bytes:
    """Do what `compute` does, in a thread, for an engine that stops a task by a KeyboardInterrupt
    in the main thread: then end after the batch in work.
    """
    from hotloop.app.strategies.cluster import parcels

    return parcels.compute_interruptibly(payload)


def stop(run: str) -> int:
    """Stop the parcels of a run on this worker after the batch in work, and return how many of them
    are still in work.
    """
    from hotloop.app.strategies.cluster import parcels

    return parcels.stop(run)
