"""DBOS as the queue uses it: set-up, its one workflow, its tables. Imported at launch only.

DBOS keeps its tables in the database of the task store: beside ours in SQLite, in the schema `dbos`
in PostgreSQL. It is one for each process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final, NoReturn

from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer, EnqueueOptions, WorkflowStatus
from dbos._serialization import DefaultSerializer  # no public name has it
from sqlalchemy import Engine

from app.tasks.engine import reading, store_errors, writer, writing
from app.tasks.model import ShardRef

QUEUE: Final = "hotloop_shards"

_APPLICATION: Final = "hotloop"
_VERSION: Final = "1"
"""Fixed: work of another version would wait for a process of that version for ever."""
_WORKFLOW: Final = "shard"
_RARELY_SECONDS: Final = 86_400.0
_STOP_SECONDS: Final = 0.25


class PickledDataError(Exception):
    """A row of DBOS claims to hold a pickle. Ours are JSON: somebody else wrote it."""


def _refuse_pickle(self: DefaultSerializer, serialized_data: str) -> NoReturn:
    raise PickledDataError("a row that holds a pickle is not read")


def _be_safe_and_quiet() -> None:
    # A row names its own format, and DBOS would believe it whatever `serializer` says.
    DefaultSerializer.deserialize = _refuse_pickle  # type: ignore[assignment]
    # With a handler there, DBOS adds none of its own, and its messages go the way of all others.
    log = logging.getLogger("dbos")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    log.setLevel(logging.WARNING)


_be_safe_and_quiet()


def start(engine: Engine, node: str, body: Callable[[ShardRef], None]) -> None:
    """DBOS up in this process: its tables made, and what `node` was doing put back into the queue.
    It begins nothing before `listen`. Raises StoreError; call `stop` then, too.
    """
    with reading(engine) as connection:  # DBOS would wait for a database that is down, for ever
        connection.exec_driver_sql("SELECT 1")
    sqlite = engine.dialect.name == "sqlite"
    with store_errors(engine):
        if sqlite:  # it begins a transaction by hand there, as our engine has done already
            DBOS.migrate(engine.url.render_as_string(hide_password=False))
        DBOS(
            config={
                "name": _APPLICATION,
                "application_version": _VERSION,
                "executor_id": node,
                "system_database_engine": writer(engine),
                "run_migrations": not sqlite,
                "serializer": DBOSPortableJSONSerializer(),
                "enable_otlp": False,
                "use_listen_notify": False,  # nobody here waits for an event of DBOS
                "log_level": "WARNING",
                "scheduler_polling_interval_sec": _RARELY_SECONDS,
                # Its thread sleeps as long at a time, and `stop` waits for it.
                "notification_listener_polling_interval_sec": _STOP_SECONDS,
            }
        )

        # How often work may begin anew is not for the queue to say.
        @DBOS.workflow(name=_WORKFLOW, max_recovery_attempts=None)
        def shard(task_id: str, number: int, generation: int) -> None:
            body(ShardRef(task_id, number, generation))

        DBOS.listen_queues([QUEUE])
        DBOS.launch()


def listen(engine: Engine, per_node: int, in_all: int | None, polling_seconds: float) -> None:
    """Begin to take work. The limits are kept in the database and hold for all nodes: those of the
    last one that called this. Raises StoreError.
    """
    with store_errors(engine):
        DBOS.register_queue(
            QUEUE,
            worker_concurrency=per_node,
            global_concurrency=in_all,
            polling_interval_sec=polling_seconds,
            on_conflict="always_update",
        )


def stop() -> None:
    """DBOS down. Bodies that still run are abandoned, and what becomes of them is not recorded."""
    log = logging.getLogger("dbos")
    log.setLevel(logging.CRITICAL)  # that its threads run into the end of it is no news
    DBOS.destroy(destroy_registry=True)
    log.setLevel(logging.WARNING)


class Works:
    """The rows of DBOS that are ours, by the ids of works. All methods raise StoreError."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._client = DBOSClient(
            system_database_engine=writer(engine),
            serializer=DBOSPortableJSONSerializer(),
            application_name=_APPLICATION,
            lazy=True,
            retry_connection_errors=False,
        )

    def add(self, refs: Iterable[ShardRef]) -> None:
        """Enqueue all of them, or none; those that are known already stay as they are."""
        with writing(self._engine) as connection:
            for ref in refs:
                options: EnqueueOptions = {
                    "workflow_name": _WORKFLOW,
                    "queue_name": QUEUE,
                    "workflow_id": ref.work_id,
                    "app_version": _VERSION,
                }
                self._client.enqueue_in_transaction(
                    connection, options, ref.task_id, ref.shard, ref.generation
                )

    def find(
        self,
        ids: list[str] | None = None,
        status: list[str] | None = None,
        node: str | None = None,
    ) -> list[WorkflowStatus]:
        """Those of `ids`, in these states, held by this node; without what is None."""
        with store_errors(self._engine):
            return self._client.list_workflows(
                workflow_ids=ids,
                status=status,
                executor_id=node,
                name=_WORKFLOW,
                load_input=False,
                load_output=False,
            )

    def requeue(self, ids: list[str]) -> None:
        """Put them back, whatever node holds them."""
        with store_errors(self._engine):
            self._client.resume_workflows(ids, queue_name=QUEUE)

    def cancel(self, ids: list[str]) -> None:
        """They never begin."""
        with store_errors(self._engine):
            self._client.cancel_workflows(ids)

    def delete(self, ids: list[str]) -> None:
        """Forget them."""
        with store_errors(self._engine):
            self._client.delete_workflows(ids)
