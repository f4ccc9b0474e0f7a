"""strategies.nursery, fork_server, process_pool: pools for users' code that must not be forked."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hotloop.app.errors import WorkloadUnusableError
from hotloop.app.names import StrategyName
from hotloop.app.strategies.nursery import ForkServer, Nursery
from hotloop.app.strategies.pools import ExecutorPool, MultiprocessingPool
from hotloop.app.system import thread_count
from hotloop.kernels.contract import WorkloadSource
from tests.fixtures.own_code import RATIOS, declaration, used, write_module
from tests.fixtures.plans import make_plan

PYTHON = ("loops", "python")

pytestmark = pytest.mark.skipif(thread_count() is None, reason="needs /proc")

THREADS = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
CRASHES = "import os, sys; 'fork_server' in sys.argv[0] and os._exit(9)"


@pytest.mark.parametrize("line", [THREADS, CRASHES], ids=["threads", "crashes"])
def test_code_that_is_not_safe_to_fork_is_spawned_and_other_workloads_are_forked(
    line: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("unsafe")
    with used(write_module(folder, "unsafe", f"{line}\n{RATIOS}")) as workload:
        plan = make_plan(
            StrategyName.CONCURRENT_FUTURES,
            workload=workload.name,
            source=workload.source,
            parameters={"steps": 5},
        )
        nursery = Nursery()
        pool = ExecutorPool(nursery)

        async def ensure() -> None:
            await pool.ensure(2, plan)
            assert pool.tree_pids == pool.pids
            await pool.ensure(2, make_plan(StrategyName.CONCURRENT_FUTURES))
            assert pool.tree_pids == [nursery.pid, *pool.pids]
            await pool.discard()

        asyncio.run(ensure())
        assert nursery.server_for(("ratios", "python"), workload.source) is None
        assert nursery.server_for(PYTHON) is not None
        nursery.close()


ONCE = """
import os, sys
if "fork_server" in sys.argv[0]:
    raise RuntimeError
try:
    os.close(os.open(__file__ + ".once", os.O_CREAT | os.O_EXCL))
except FileExistsError:
    pass
else:
    raise RuntimeError("the first of the workers")
"""


def test_worker_that_cannot_import_keeps_no_other_worker_waiting(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("once")
    file = write_module(folder, "once", f"{ONCE}\n{RATIOS}")
    once = Path(f"{file}.once")
    once.touch()
    workload = declaration(file)
    once.unlink()
    plan = make_plan(
        StrategyName.MULTIPROCESSING,
        workload=workload.name,
        source=workload.source,
        parameters={"steps": 5},
    )
    nursery = Nursery()
    pool = MultiprocessingPool(nursery)

    async def ensure() -> None:
        with pytest.raises(WorkloadUnusableError, match="the first of the workers"):
            await pool.ensure(2, plan)
        assert pool.pids == []
        await pool.ensure(2, plan)
        await pool.discard()

    asyncio.run(ensure())
    nursery.close()


def test_fork_servers_are_bounded_and_the_one_used_longest_ago_ends() -> None:
    sources = [WorkloadSource(f"no_module_{n}", "f", "0") for n in range(3)]
    nursery = Nursery()
    first = nursery.server_for(PYTHON)
    made = [nursery.server_for((source.module, "python"), source) for source in sources[:2]]
    assert nursery.server_for(PYTHON) is first
    third = nursery.server_for(("c", "python"), sources[2])
    assert isinstance(third, ForkServer)
    assert nursery.server_for(PYTHON) is first
    assert nursery.server_for(("no_module_1", "python"), sources[1]) is made[1]
    assert nursery.server_for(("no_module_0", "python"), sources[0]) is not made[0]
    nursery.close()
