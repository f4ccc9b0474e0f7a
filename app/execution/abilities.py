"""What this process can do for background tasks: published among the nodes, asked of the queue.

A node that cannot execute a task would fail it at once, be idle again at once, and so fail one
task after the other that its neighbours could have executed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from hotloop.app.errors import NotReadyError, StoreError
from hotloop.app.execution.context import RunContext
from hotloop.app.names import StrategyName, TaskKind
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.options import CacheSource, DbSource
from hotloop.app.settings.settings import Settings
from hotloop.app.tasks.needs import Abilities
from hotloop.app.tasks.nodes import NodeStore
from hotloop.app.tasks.spec import SPEC_VERSION
from hotloop.app.tasks.threads import in_store_thread
from hotloop.app.tasks.work_queue import WorkQueue

logger = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 1.0


async def take_work(context: RunContext, nodes: NodeStore, queue: WorkQueue) -> None:
    """Have the queue take work as soon as a run host has said which kernels it has."""
    while True:
        try:
            reports = await context.hosts.kernels()
            able = abilities(reports, context.settings, context.memory.run_bytes)
            await in_store_thread(nodes.publish, able)
        except (NotReadyError, StoreError) as error:
            logger.debug("this node takes no work yet: %s", error)
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            queue.launch(able)
            return


def abilities(reports: Sequence[KernelReport], settings: Settings, run_bytes: int) -> Abilities:
    """What a process can do, whose run hosts have these kernels and whose runs may use so many
    bytes each.
    """
    available = [report for report in reports if report.available]
    names = {f"kernel:{report.workload}/{report.kernel}" for report in available}
    names |= {f"workload:{report.workload}" for report in available}
    names |= {f"strategy:{name}" for name in StrategyName}
    names |= {f"kind:{kind}" for kind in TaskKind}
    names |= {f"spec:{version}" for version in range(SPEC_VERSION + 1)}
    own = set(settings.sources)
    dbs = own | set(DbSource) - ({DbSource.PINOT} if settings.pinot_url is None else set())
    caches = own | set(CacheSource) - ({CacheSource.REDIS} if settings.redis_url is None else set())
    names |= {f"db:{source}" for source in dbs} | {f"cache:{source}" for source in caches}
    return Abilities(frozenset(names), run_bytes)
