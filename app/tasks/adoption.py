"""Taking over the work of nodes that have died."""

from __future__ import annotations

from app.tasks.model import ShardRef
from app.tasks.nodes import DEAD_SECONDS, NodeStore
from app.tasks.work_queue import WorkQueue


def adopt_dead(
    nodes: NodeStore, queue: WorkQueue, after_seconds: float = DEAD_SECONDS
) -> list[ShardRef]:
    """Put back all work of dead nodes, and return it; to be called at every heartbeat. Of several
    processes that call this, one takes each node; what that one leaves undone because it dies, the
    next one does.

    Raises StoreError when the database cannot be used.
    """
    adopted: list[ShardRef] = []
    holders = queue.holders()  # before the list: whoever holds something was listed then
    listed = {node.node_id for node in nodes.list()}
    for node in nodes.dead(after_seconds):
        if nodes.claim(node):
            adopted += _adopt(nodes, queue, node.node_id)
    for node_id in sorted(holders - listed):
        if nodes.claim_unknown(node_id):
            adopted += _adopt(nodes, queue, node_id)
    return adopted


def _adopt(nodes: NodeStore, queue: WorkQueue, node_id: str) -> list[ShardRef]:
    adopted = queue.adopt(node_id)
    nodes.remove(node_id)
    return adopted
