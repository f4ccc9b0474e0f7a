"""Nodes: heartbeats, deaths and adoption."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from hotloop.app.database.engine import make_engine, writing
from hotloop.app.tasks import nodes as nodes_module
from hotloop.app.tasks.claims import claim
from hotloop.app.tasks.needs import NOTHING, Abilities
from hotloop.app.tasks.nodes import (
    Node,
    NodeStore,
    current_owner,
    living_abilities,
    machine,
    new_node_id,
)
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.upkeep import adopt_dead
from tests.fixtures.guarded import ROOT
from tests.tasks.queue_fixtures import Queues, Work, put

pytestmark = pytest.mark.long

BEAT_AND_DIE = """
import sys
from pathlib import Path
from hotloop.app.database.engine import make_engine
from hotloop.app.tasks.nodes import NodeStore
location = sys.argv[1]
engine = make_engine(location if "://" in location else Path(location), 30.0)
assert NodeStore(engine, "gone:1", "test").beat()
"""

NewNode = Callable[[str], NodeStore]


@pytest.fixture
def node(engine: Engine) -> NewNode:
    """Makes nodes that have beaten once."""

    def make(node_id: str) -> NodeStore:
        made = NodeStore(engine, node_id, "test")
        assert made.beat()
        return made

    return make


@pytest.fixture
def gone(location: Path | str, node: NewNode) -> None:
    """A node `gone:1`, whose process has ended."""
    subprocess.run([sys.executable, "-c", BEAT_AND_DIE, str(location)], cwd=ROOT, check=True)


def ids(some: tuple[Node, ...]) -> list[str]:
    return [node.node_id for node in some]


def silence(engine: Engine, node_id: str, seconds: float) -> None:
    """Set the node's last beat back by some seconds."""
    with writing(engine) as connection:
        change = text("UPDATE nodes SET beat_at = beat_at - :seconds WHERE node_id = :node")
        connection.execute(change, {"seconds": seconds, "node": node_id})


def end_patience(node: NodeStore) -> None:
    """Set the node's start back, as for a node that has been up for long."""
    node._calm_since -= 3_600


def test_ids_of_nodes_are_new_at_every_start() -> None:
    first, second = new_node_id("name"), new_node_id("name")
    assert first != second
    assert first.startswith("name:")
    assert len(first) == len("name:") + 8
    assert new_node_id(None).split(":")[0]


def test_node_is_listed_from_its_first_beat_until_it_leaves(node: NewNode, engine: Engine) -> None:
    silent = NodeStore(engine, "silent:1", "test")
    first, _second = node("first:1"), node("second:1")
    listed = silent.list()
    assert ids(listed) == ["first:1", "second:1"]
    assert listed[0].owner == current_owner()
    assert listed[0].machine == machine()
    assert (listed[0].role, listed[0].claimed_by) == ("test", None)
    assert abs(listed[0].beat_at - time.time()) < 60
    first.leave()
    assert ids(silent.list()) == ["second:1"]
    assert not first.beat()


def test_beat_is_stored(node: NewNode, engine: Engine) -> None:
    living = node("living:1")
    silence(engine, "living:1", 100)
    (before,) = living.list()
    assert living.beat()
    (after,) = living.list()
    assert after.beat_at - before.beat_at >= 100


def test_node_says_with_each_beat_whether_it_has_a_run_host(node: NewNode, engine: Engine) -> None:
    first, able = node("first:1"), Abilities(frozenset({"kind:run"}), 1)
    node("second:1").publish(NOTHING)
    assert living_abilities(engine) == {"first:1": None, "second:1": NOTHING}
    first.publish(able)
    assert living_abilities(engine)["first:1"] == able
    first.beat(is_able=False)
    assert living_abilities(engine)["first:1"] is None
    first.beat()
    assert living_abilities(engine)["first:1"] == able


@pytest.mark.usefixtures("gone")
def test_ended_process_of_this_machine_is_dead_at_once(node: NewNode) -> None:
    assert ids(node("here:1").dead(3_600)) == ["gone:1"]


@pytest.mark.usefixtures("gone")
def test_process_of_another_machine_is_not_looked_up(
    node: NewNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = node("here:1")
    monkeypatch.setattr(nodes_module, "machine", lambda: "another boot")
    assert here.dead(3_600) == ()


def test_node_with_an_old_start_format_dies_only_by_silence(node: NewNode, engine: Engine) -> None:
    """Older versions told starts in unix seconds."""
    node("old:1")
    here = node("here:1")
    end_patience(here)
    where, owner = machine().removesuffix(" ticks"), f"{os.getpid()}:1700000000.123"
    with writing(engine) as connection:
        change = text("UPDATE nodes SET machine = :machine, owner = :owner WHERE node_id = 'old:1'")
        connection.execute(change, {"machine": where, "owner": owner})
    assert here.dead(500) == ()
    silence(engine, "old:1", 1_000)
    assert ids(here.dead(500)) == ["old:1"]


def test_silent_node_is_dead_after_a_while(node: NewNode, engine: Engine) -> None:
    node("silent:1")
    here = node("here:1")
    end_patience(here)
    assert here.dead(500) == ()
    silence(engine, "silent:1", 100)
    assert ids(here.dead(50)) == ["silent:1"]


def test_node_never_counts_itself_as_dead(node: NewNode, engine: Engine) -> None:
    here = node("here:1")
    end_patience(here)
    silence(engine, "here:1", 100)
    assert here.dead(50) == ()


def test_late_node_declares_no_other_node_dead(
    node: NewNode, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that slept must not declare dead what slept with it."""
    node("silent:1")
    here = node("here:1")
    silence(engine, "silent:1", 100)
    monkeypatch.setattr(here, "_last_beat", time.monotonic() - 3_600)
    assert here.beat()
    assert here.dead(60) == ()


def test_claimed_node_learns_it_and_is_left_to_the_claimer(node: NewNode, engine: Engine) -> None:
    silent, here, other = node("silent:1"), node("here:1"), node("other:1")
    for each in (here, other):
        end_patience(each)
    silence(engine, "silent:1", 100)
    (dead,) = here.dead(50)
    assert here.claim(dead)
    assert not other.claim(dead)
    assert not silent.beat()
    other.beat()
    here.beat()
    assert other.dead(50) == ()
    here.remove("silent:1")
    assert not silent.beat()
    assert ids(other.list()) == ["here:1", "other:1"]


def test_node_that_has_beaten_meanwhile_is_not_claimed(node: NewNode, engine: Engine) -> None:
    silent, here = node("silent:1"), node("here:1")
    end_patience(here)
    silence(engine, "silent:1", 100)
    (dead,) = here.dead(50)
    assert silent.beat()
    assert not here.claim(dead)
    assert silent.beat()


@pytest.mark.usefixtures("gone")
def test_claims_of_a_dead_node_are_claimed_again(node: NewNode, engine: Engine) -> None:
    here = node("here:1")
    node("late:1")
    (dead,) = here.dead(3_600)
    with writing(engine) as connection:
        connection.execute(text("UPDATE nodes SET claimed_by = 'gone:1' WHERE node_id = 'late:1'"))
    assert ids(here.dead(3_600)) == ["gone:1", "late:1"]
    assert here.claim(dead)
    here.remove("gone:1")
    (left,) = here.dead(3_600)
    assert (left.node_id, left.claimed_by) == ("late:1", "gone:1")
    assert here.claim(left)
    (mine,) = here.dead(3_600)  # until it is removed, in case that adopting it fails
    assert (mine.node_id, mine.claimed_by) == ("late:1", "here:1")
    here.remove("late:1")
    assert here.dead(3_600) == ()


@pytest.fixture
def engines(location: Path | str) -> Iterator[list[Engine]]:
    made = [make_engine(location, 30.0) for _ in range(4)]
    yield made
    for engine in made:
        engine.dispose()


def test_one_of_racing_adopters_wins(node: NewNode, engines: list[Engine]) -> None:
    node("plain:1")
    adopters = [NodeStore(each, f"adopter:{n}", "test") for n, each in enumerate(engines)]
    barrier = threading.Barrier(len(adopters))

    def claim(adopter: NodeStore, dead: Node) -> bool:
        barrier.wait()
        return adopter.claim(dead)

    def claim_unknown(adopter: NodeStore, node_id: str) -> bool:
        barrier.wait()
        return adopter.claim_unknown(node_id)

    with ThreadPoolExecutor(len(adopters)) as pool:
        for number in range(10):
            node(f"silent:{number}")
            dead = adopters[0].list()[-1]
            assert dead.node_id == f"silent:{number}"
            assert sum(pool.map(claim, adopters, [dead] * len(adopters))) == 1
            unknown = [f"unknown:{number}"] * len(adopters)
            assert sum(pool.map(claim_unknown, adopters, unknown)) == 1


def test_work_of_a_node_that_is_not_listed_is_adopted_once(
    queues: Queues, store: TaskStore, node: NewNode
) -> None:
    (ref,) = put(store)
    assert claim(store.engine, "left:1") is not None
    queue = queues.launch(Work(store), concurrency=0)
    here, other = node("here:1"), node("other:1")
    assert adopt_dead(here, queue) == (["left:1"], [ref])
    assert adopt_dead(other, queue) == ([], [])
    assert ids(here.list()) == ["here:1", "other:1"]


def test_node_does_not_adopt_its_own_work(queues: Queues, store: TaskStore, node: NewNode) -> None:
    """A node that is not listed any more hears of that, and joins again."""
    put(store)
    assert claim(store.engine, "here:1") is not None
    queue = queues.launch(Work(store), concurrency=0)
    here = node("here:1")
    here.remove("here:1")
    assert adopt_dead(here, queue) == ([], [])
