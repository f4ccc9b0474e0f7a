"""tasks.store, database.postgresql: the store in PostgreSQL, and faults of its server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from hotloop.app.database import postgresql
from hotloop.app.database.engine import reading, slow, writing
from hotloop.app.errors import StoreError, StoreUnavailableError
from hotloop.app.tasks.model import Task
from hotloop.app.tasks.store import open_store
from tests.fixtures.guarded import free_port
from tests.fixtures.postgres_server import RunningPostgres

pytestmark = pytest.mark.long

NewTask = Callable[..., Task]


@pytest.fixture
def location(postgres: RunningPostgres) -> Iterator[str]:
    with postgres.database() as url:
        yield url


def refused(call: Callable[[], object], *secrets: str) -> str:
    """The text of the StoreError that `call` raises; fit for a client."""
    with pytest.raises(StoreError) as caught:
        call()
    text = str(caught.value)
    for word in ("127.0.0.1", "postgres@", "SELECT", "psycopg", "sqlalche", *secrets):
        assert word not in text
    return text


def test_unreachable_server_is_a_store_error() -> None:
    port = free_port()
    url = f"postgresql://someone:hush%21@127.0.0.1:{port}/hotloop"
    text = refused(lambda: open_store(url), str(port), "someone", "hush")
    assert text.startswith("the task store hotloop: it cannot be reached, or lets nobody in; check")


def test_database_that_is_missing_is_a_store_error(postgres: RunningPostgres) -> None:
    refused(lambda: open_store(postgres.url("absent")), str(postgres.port))


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has the option")
def test_silent_network_is_detected_within_seconds(location: str) -> None:
    store = open_store(location)
    with store.engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, psycopg.Connection)
        with socket.fromfd(raw.fileno(), socket.AF_INET, socket.SOCK_STREAM) as copy:

            def option(name: str) -> int:
                return copy.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))

            assert option("TCP_USER_TIMEOUT") == 10_000
            assert (
                option("TCP_KEEPIDLE") + 3 * option("TCP_KEEPINTVL")
                == option("TCP_USER_TIMEOUT") / 1_000
            )
            assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    store.close()


def test_many_that_open_a_new_database_at_once_all_succeed(
    postgres: RunningPostgres, new_task: NewTask
) -> None:
    barrier = threading.Barrier(8)

    def open_at_once(url: str) -> None:
        barrier.wait()
        open_store(url).close()

    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            with postgres.database() as url:
                list(pool.map(open_at_once, [url] * 8))


def test_connections_that_broke_are_replaced(location: str, new_task: NewTask) -> None:
    store = open_store(location)
    task = new_task()
    store.create(task)
    with psycopg.connect(location, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert store.get(task.task_id) == task
    store.close()


def test_connection_left_in_a_transaction_is_ended(location: str) -> None:
    """A frozen process must not keep others from its rows."""
    store = open_store(location)
    with store.engine.connect() as connection:
        limit = connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar()
    assert limit == "5s"
    store.close()


def test_hanging_server_is_detected_and_used_again(
    postgres: RunningPostgres, location: str, new_task: NewTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hanging server's connections stay open, and its machine still answers."""
    monkeypatch.setattr(postgresql, "SILENT_SECONDS", 0.5)
    store, task = open_store(location), new_task()
    store.create(task)

    def freeze_within() -> None:
        with reading(store.engine) as connection:
            connection.exec_driver_sql("SELECT 1")
            postgres.freeze()
            connection.exec_driver_sql("SELECT 1")

    try:
        assert "its server does not answer; check it" in refused(freeze_within)
        with pytest.raises(StoreUnavailableError):
            store.create(new_task())
    finally:
        postgres.thaw()
    assert store.get(task.task_id) == task
    store.close()


def test_statement_that_takes_too_long_is_given_up_by_the_server(location: str) -> None:
    store = open_store(location)
    with reading(store.engine) as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "20s"
    with writing(store.engine) as connection, slow(connection):
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "10min"

    def wait() -> None:
        with reading(store.engine) as connection:
            connection.exec_driver_sql("SET LOCAL statement_timeout = '10ms'")
            connection.exec_driver_sql("SELECT pg_sleep(60)")

    assert "its server did not finish within" in refused(wait)
    store.close()


def test_server_that_takes_no_writes_is_an_outage(
    postgres: RunningPostgres, location: str, new_task: NewTask
) -> None:
    store, task = open_store(location), new_task()
    store.create(task)
    database = location.rsplit("/", 1)[1]
    with postgres.connect() as server:
        server.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        store.close()  # it counts for new connections
        with pytest.raises(StoreUnavailableError, match="it takes no writes now"):
            store.create(new_task())
        assert store.get(task.task_id) == task
        server.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
    store.close()
    store.create(new_task())
    store.close()


def test_log_has_what_the_database_said_and_no_password(
    postgres: RunningPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    url = postgres.url("absent").replace("postgres@", "postgres:hush-hush-1@")
    refused(lambda: open_store(url), "hush-hush-1")
    assert 'database "absent" does not exist' in caplog.text
    assert "hush-hush-1" not in caplog.text
