"""The durable queue of background work: what is put into it is executed, whoever dies meanwhile.

Its rows are in the task store's database, and any number of processes may share it. Work is begun
in about the order in which it was put; each piece runs in one process at a time, as far as the
queue knows. A process that was taken for dead does not know that yet: what it still writes has to
be refused by the rows that it writes to (`Task.attempt`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from sqlalchemy import Engine

from app.errors import StoreError
from app.tasks.model import ShardRef, parse_work_id

if TYPE_CHECKING:
    from app.tasks.durable import Works

logger = logging.getLogger(__name__)

_REFS_PER_TRANSACTION: Final = 200
"""So that a large task does not keep the database locked for long."""
_END_SECONDS: Final = 1.0
_STEP_SECONDS: Final = 0.01

_WAITING: Final = ["ENQUEUED", "DELAYED"]
_BEGUN: Final = ["PENDING"]
_FINISHED: Final = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]


class HandOver(BaseException):
    """Raised by an execution that ends before its work does, because its process stops or another
    one has taken over: the work stays begun until it is adopted, or until its node comes back.
    """


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """Limits of a queue, best the same on all nodes: those of the last launch are what each node
    takes on, and what a node may not begin by its own limit waits there.
    """

    concurrency: int
    """Pieces of work that a node does at once; 0 for a process that puts and does none."""
    total_concurrency: int | None = None
    """Pieces of work that all nodes together do at once; at least `concurrency`."""
    polling_seconds: float = 0.25
    """Between two looks of a node for work."""


class WorkQueue:
    """The end of the queue in this process, of which there is one at a time.

    All methods block, and may be called from any thread. They raise StoreError when the database
    cannot be used.
    """

    _lock = threading.Lock()
    _launched: WorkQueue | None = None

    def __init__(
        self,
        engine: Engine,
        node: str,
        execute: Callable[[ShardRef], None],
        options: QueueOptions,
    ) -> None:
        """`engine` is one of `app.tasks.engine.make_engine`; `node` names this process and no
        other. `execute` is called in a thread for each piece of work: it is done when that returns,
        and also when that raises an Exception, which is logged; what raises HandOver is not.
        """
        self._engine = engine
        self._node = node
        self._execute = execute
        self._options = options
        self._works: Works | None = None
        self._running: set[ShardRef] = set()
        self._handed_over: set[str] = set()
        self._change = threading.Condition()
        self._closing = False

    def launch(self) -> None:
        """Make the tables where they are missing, and begin to take work; first of all what this
        node has begun. RuntimeError when a queue is up in this process already.
        """
        from app.tasks import durable  # takes half a second, which the API need not wait for

        with WorkQueue._lock:
            if WorkQueue._launched is not None:
                raise RuntimeError(
                    "a work queue is up in this process, and there can be one only: close it first"
                )
            takes_work = self._options.concurrency > 0
            self._closing = False
            self._works = durable.Works(self._engine)
            try:
                durable.start(self._engine, self._node, self._run)
                if takes_work:
                    durable.listen(
                        self._engine,
                        self._options.concurrency,
                        self._options.total_concurrency,
                        self._options.polling_seconds,
                    )
            except BaseException:
                durable.stop()
                raise
            if not takes_work:
                durable.stop()  # it has made the tables, and would only look for work of its own
            WorkQueue._launched = self

    def put(self, refs: Sequence[ShardRef]) -> None:
        """Add work. What the queue has had already stays as it is, finished or not; after an error
        some of it may be there.
        """
        for some in _in_parts(refs):
            self._up.add(some)

    def cancel(self, refs: Sequence[ShardRef]) -> None:
        """What has not begun never begins, and put again it does not either. What has begun goes
        on: it hears of it by its own row.
        """
        for some in _in_parts(refs):
            waiting = self._up.find(_ids(some), status=_WAITING)
            if waiting:
                self._up.cancel([work.workflow_id for work in waiting])

    def forget(self, refs: Sequence[ShardRef]) -> None:
        """Remove what is finished or cancelled; the rest stays."""
        for some in _in_parts(refs):
            finished = self._up.find(_ids(some), status=_FINISHED)
            if finished:
                self._up.delete([work.workflow_id for work in finished])

    def adopt(self, node: str) -> list[ShardRef]:
        """Put back what a dead node has begun, and return it. Only for the one process that has
        claimed the node: another's call may put back what a third one has begun meanwhile.
        """
        begun = [work.workflow_id for work in self._up.find(status=_BEGUN, node=node)]
        if begun:
            self._up.requeue(begun)
        return [ref for ref in map(parse_work_id, begun) if ref is not None]

    def holders(self) -> set[str]:
        """The nodes that have begun something and not ended it."""
        return {work.executor_id for work in self._up.find(status=_BEGUN) if work.executor_id}

    def missing(self, refs: Sequence[ShardRef]) -> list[ShardRef]:
        """Those of `refs` that the queue does not know."""
        unknown: list[ShardRef] = []
        for some in _in_parts(refs):
            known = {work.workflow_id for work in self._up.find(_ids(some))}
            unknown += [ref for ref in some if ref.work_id not in known]
        return unknown

    def ended(self) -> list[ShardRef]:
        """What the queue has done with, however that ended."""
        ended = [parse_work_id(work.workflow_id) for work in self._up.find(status=_FINISHED)]
        return [ref for ref in ended if ref is not None]

    def close(self) -> None:
        """Take no more work, and be down. What runs should have ended, or raised HandOver: it gets
        another second, and is abandoned to whoever adopts this node.
        """
        with WorkQueue._lock:
            if WorkQueue._launched is not self:
                return
            from app.tasks import durable

            with self._change:
                self._closing = True
                self._change.notify_all()
                ended = self._change.wait_for(lambda: not self._running, _END_SECONDS)
            if not ended:
                logger.warning("%d pieces of work did not stop in time", len(self._running))
            elif self._options.concurrency:
                self._wait_until_recorded()
            durable.stop()
            WorkQueue._launched = None

    @property
    def _up(self) -> Works:
        if self._works is None:
            raise RuntimeError("the work queue has not been launched")
        return self._works

    def _run(self, ref: ShardRef) -> None:
        with self._change:
            # DBOS may begin more than the limit: it does not count what has no thread yet.
            self._change.wait_for(self._may_begin)
            if self._closing:
                self._handed_over.add(ref.work_id)
                raise HandOver
            self._handed_over.discard(ref.work_id)
            self._running.add(ref)
        try:
            self._execute(ref)
            self._check_hold(ref)
        except HandOver:
            self._handed_over.add(ref.work_id)
            raise
        except Exception as error:
            logger.warning("the work %s failed: %s", ref.work_id, type(error).__name__)
            self._check_hold(ref)
            raise
        finally:
            with self._change:
                self._running.discard(ref)
                self._change.notify_all()

    def _may_begin(self) -> bool:
        return self._closing or len(self._running) < self._options.concurrency

    def _check_hold(self, ref: ShardRef) -> None:
        """HandOver when the work is another's by now, or cancelled: DBOS would keep this thread
        until that other one ends.
        """
        try:
            held = self._up.find([ref.work_id], status=_BEGUN, node=self._node)
        except StoreError:
            return
        if not held:
            raise HandOver

    def _wait_until_recorded(self) -> None:
        """DBOS records an end after `_run` has returned."""
        give_up = time.monotonic() + _END_SECONDS
        try:
            while time.monotonic() < give_up:
                begun = self._up.find(status=_BEGUN, node=self._node)
                if {work.workflow_id for work in begun} <= self._handed_over:
                    return
                time.sleep(_STEP_SECONDS)
        except StoreError:
            pass  # whoever adopts this node finds out


def _in_parts(refs: Sequence[ShardRef]) -> Iterator[list[ShardRef]]:
    rest = iter(refs)
    while some := list(islice(rest, _REFS_PER_TRANSACTION)):
        yield some


def _ids(refs: list[ShardRef]) -> list[str]:
    return [ref.work_id for ref in refs]
