"""Taking over the work of nodes that have died."""

from __future__ import annotations

from hotloop.app.tasks.model import ShardRef
from hotloop.app.tasks.nodes import DEAD_SECONDS, NodeStore
from hotloop.app.tasks.work_queue import WorkQueue


def adopt_dead(
    nodes: NodeStore, queue: WorkQueue, after_seconds: float = DEAD_SECONDS
) -> tuple[list[str], list[ShardRef]]:
    """Put back all that dead nodes hold; returns those nodes, and what it was. To be called at
    every heartbeat. Of several processes that call this, one takes each node; what that one leaves
    undone because it dies, the next one does.

    Raises StoreError when the database cannot be used.
    """
    dead, unknown = nodes.look(after_seconds)
    claimed = [node.node_id for node in dead if nodes.claim(node)]
    claimed += [node_id for node_id in unknown if nodes.claim_unknown(node_id)]
    adopted: list[ShardRef] = []
    for node_id in claimed:
        adopted += queue.adopt(node_id)
        nodes.remove(node_id)
    return claimed, adopted
