"""The queue in one process: what is put into it is done, once, in order, within limits."""

from __future__ import annotations

import base64
import logging
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from app.errors import StoreError
from app.tasks.engine import make_engine, writing
from app.tasks.model import ShardRef, new_task_id, parse_work_id
from app.tasks.work_queue import QueueOptions, WorkQueue
from tests.fixtures.postgres_server import running_postgres
from tests.fixtures.waiting import wait_until
from tests.tasks.queue_fixtures import Queues, Work, refs


def queue_threads() -> list[str]:
    """Those of DBOS in this process: its threads without a name are of its own code, too."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith(("dbos", "queue", "Thread-"))]


def test_a_work_id_names_one_shard() -> None:
    ref = ShardRef(new_task_id(), 7, 12)
    assert ref.work_id == f"{ref.task_id}:s7:g12"
    assert parse_work_id(ref.work_id) == ref
    assert parse_work_id("another workflow") is None
    assert parse_work_id(f"{ref.work_id}\n") is None


def test_what_is_put_is_done_once_however_often_it_is_put(queues: Queues) -> None:
    work = Work()
    queue = queues.launch(work)
    first, second = refs(2)
    queue.put([first, first])
    queue.put([first])
    wait_until(lambda: first in work.ended, "the first is done")
    queue.put([first, second])
    wait_until(lambda: second in work.ended, "the second is done")
    assert work.began == [first, second]


def test_a_resume_is_new_work(queues: Queues) -> None:
    work = Work()
    queue = queues.launch(work)
    (ref,) = refs(1)
    again = ShardRef(ref.task_id, ref.shard, 2)
    queue.put([ref])
    wait_until(lambda: ref in work.ended, "it is done")
    queue.put([again])
    wait_until(lambda: again in work.ended, "it is done again")


def test_work_begins_in_the_order_in_which_it_was_put(queues: Queues) -> None:
    work = Work()
    work.go.clear()
    queue = queues.launch(work, concurrency=1)
    put = refs(12)
    for ref in put:
        queue.put([ref])
        time.sleep(0.002)  # times are kept in milliseconds
    work.go.set()
    wait_until(lambda: len(work.ended) == len(put), "all is done")
    assert work.began == put


def test_a_thousand_pieces_of_work_are_done_and_forgotten(queues: Queues) -> None:
    work = Work()
    queue = queues.launch(work, concurrency=50)
    put = refs(1_000)
    queue.put(put)
    assert queue.missing(put) == []
    wait_until(lambda: len(work.ended) == len(put), "all is done", bound=90)
    assert sorted(work.ended, key=str) == sorted(put, key=str)
    wait_until(lambda: not queue.holders(), "all ends are recorded")
    queue.forget(put)
    assert queue.missing(put) == put


def test_failed_work_is_not_begun_again(queues: Queues, caplog: pytest.LogCaptureFixture) -> None:
    work = Work()
    work.error = ValueError("no secret in the log")
    queue = queues.launch(work)
    (ref,) = refs(1)
    queue.put([ref])
    wait_until(lambda: work.began and not queue.holders(), "it has failed")
    queue.close()
    assert f"the work {ref.work_id} failed: ValueError" in caplog.text
    queues.launch(work).put([ref, *refs(1)])
    wait_until(lambda: len(work.began) == 2, "the next has begun")
    assert work.began.count(ref) == 1


def test_cancelled_work_never_begins_and_running_work_goes_on(queues: Queues) -> None:
    work = Work()
    work.go.clear()
    queue = queues.launch(work, concurrency=1)
    running, cancelled, last = refs(3)
    queue.put([running])
    wait_until(lambda: work.began == [running], "the first has begun")
    queue.put([cancelled])
    queue.cancel([running, cancelled])
    queue.put([cancelled, last])
    work.go.set()
    wait_until(lambda: last in work.ended, "the last is done")
    assert work.ended == [running, last]


def test_only_what_is_finished_is_forgotten(queues: Queues) -> None:
    work = Work()
    work.go.clear()
    queue = queues.launch(work, concurrency=1)
    running, waiting, cancelled = refs(3)
    queue.put([running])
    wait_until(lambda: work.began == [running], "the first has begun")
    queue.put([waiting, cancelled])
    queue.cancel([cancelled])
    queue.forget([running, waiting, cancelled])
    assert queue.missing([running, waiting, cancelled]) == [cancelled]


def test_what_was_never_put_is_missing(queues: Queues) -> None:
    queue = queues.launch(Work(), concurrency=0)
    put, never = refs(3), refs(2)
    queue.put(put)
    assert queue.missing([never[0], *put, never[1]]) == never
    assert queue.missing([]) == []


def test_process_that_takes_no_work_only_puts_it(queues: Queues) -> None:
    work = Work()
    queue = queues.launch(work, concurrency=0)
    put = refs(1)
    queue.put(put)
    assert queue_threads() == []
    queue.close()
    queues.launch(work)
    wait_until(lambda: work.ended == put, "another one does it")


@pytest.mark.parametrize("node", ["another:2", "here:1"])
def test_work_that_was_handed_over_goes_on_after_the_next_launch(queues: Queues, node: str) -> None:
    work = Work()
    work.go.clear()
    queue = queues.launch(work)
    put = refs(3)
    queue.put(put)
    wait_until(lambda: len(work.began) == 2, "two have begun")
    work.stopping.set()
    queue.close()
    work.stopping.clear()
    work.go.set()
    queue = queues.launch(work, node)
    if node != "here:1":  # else the queue does it
        assert "here:1" in queue.holders()
        assert set(queue.adopt("here:1")) >= set(put[:2])  # a third one may have been taken on
        assert queue.adopt("here:1") == []
    wait_until(lambda: len(work.ended) == 3, "all is done")
    assert sorted(work.ended, key=str) == sorted(put, key=str)
    assert len(work.began) == 5


def test_an_end_is_recorded_before_the_queue_is_closed(queues: Queues) -> None:
    work = Work()
    queue = queues.launch(work)
    put = refs(2)
    queue.put(put)
    wait_until(lambda: len(work.ended) == 2, "both are done")
    queue.close()
    queue = queues.launch(Work(), concurrency=0)
    assert queue.holders() == set()


def test_there_is_one_queue_in_a_process(queues: Queues, engine: Engine) -> None:
    queue = queues.launch(Work())
    second = WorkQueue(engine, "here:2", Work(), QueueOptions(1))
    with pytest.raises(RuntimeError, match="close it first"):
        second.launch()
    with pytest.raises(RuntimeError, match="has not been launched"):
        second.put(refs(1))
    second.close()  # changes nothing
    queue.close()
    queue.close()
    wait_until(lambda: not queue_threads(), "its threads have ended")
    second.launch()
    assert queue_threads()
    second.close()
    wait_until(lambda: not queue_threads(), "its threads have ended")


class Witness:
    """Says that it was unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path(str(self.path)),))  # type: ignore[return-value]

    def __init__(self, path: Path) -> None:
        self.path = path


@pytest.mark.filterwarnings("ignore")
def test_planted_pickle_is_never_unpickled(
    queues: Queues, engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trap = tmp_path / "unpickled"
    pickled = pickle.dumps({"args": (Witness(trap),), "kwargs": {}})
    pickle.loads(pickled)
    assert trap.exists()
    trap.unlink()

    work = Work()
    queue = queues.launch(work, concurrency=0)
    planted, plain = refs(2)
    queue.put([planted, plain])
    schema = "" if engine.dialect.name == "sqlite" else "dbos."
    values = {"id": planted.work_id, "inputs": base64.b64encode(pickled).decode()}
    with writing(engine) as connection:
        for change in (
            f"UPDATE {schema}workflow_input SET inputs = :inputs WHERE workflow_uuid = :id",
            f"UPDATE {schema}workflow_status SET serialization = 'py_pickle', error = :inputs, "
            "output = :inputs WHERE workflow_uuid = :id",
        ):
            wanted = {name: values[name] for name in values if f":{name}" in change}
            assert connection.execute(text(change), wanted).rowcount == 1
    queue.close()
    queue = queues.launch(work)
    wait_until(lambda: work.ended == [plain], "the plain one is done")
    wait_until(lambda: not queue.holders(), "the planted one is refused")
    queue.forget([planted])
    assert not trap.exists()
    assert work.began == [plain]


def test_queue_says_nothing_on_the_console(
    queues: Queues, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    work = Work()
    with caplog.at_level(logging.INFO):
        queue = queues.launch(work)
        queue.put(refs(2))
        wait_until(lambda: len(work.ended) == 2, "both are done")
        queue.close()
    assert not [record for record in caplog.records if record.name.startswith("dbos")]
    assert capfd.readouterr() == ("", "")


def test_server_that_goes_away_is_a_store_error_and_does_not_keep_the_queue_open() -> None:
    with running_postgres() as server:
        engine = make_engine(server.url("postgres"), 30.0)
        queue = WorkQueue(engine, "here:1", Work(), QueueOptions(1))
        queue.launch()
        server.stop()
        for call in (queue.put, queue.cancel, queue.forget, queue.missing):
            with pytest.raises(StoreError) as caught:
                call(refs(1))
            assert str(server.port) not in str(caught.value)
        queue.close()
        with pytest.raises(StoreError):
            queue.launch()
        engine.dispose()


def test_api_starts_without_what_the_queue_needs() -> None:
    code = (
        "import sys, app.factory, app.tasks.work_queue, app.tasks.adoption; "
        "print(sorted({'dbos', 'psycopg'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
