"""A few kills of each kind; `make chaos` makes many."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.cluster import Cluster, running_cluster
from tests.chaos.databases import mortal_postgres
from tests.chaos.judging import left_after_removal, unknown_tasks
from tests.chaos.kinds import ONLY_POSTGRESQL, Event, Kind
from tests.chaos.rounds import Round

SEED = 1
# A task that takes its node along does so for minutes before it ends.
KINDS: list[Kind] = [kind for kind in Kind if kind is not Kind.TAKES_NODE]
SEVERITY = 0.1
"""Failures that last for a while are short here."""
pytestmark = pytest.mark.long


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("chaos")
    if request.param == "sqlite":
        with running_cluster(folder, None) as cluster:
            yield cluster
            cluster.stop()
            return
    with mortal_postgres() as database, running_cluster(folder, database) as cluster:
        yield cluster
        cluster.stop()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.option)
def test_failure_loses_no_task_and_recomputes_no_finished_batch(
    cluster: Cluster, kind: Kind
) -> None:
    if cluster.database is None and kind in ONLY_POSTGRESQL:
        return
    outcome = Round(cluster, KINDS.index(kind), SEED).run(Event(kind, SEVERITY))
    assert outcome.tasks >= 4
    assert outcome.is_good, outcome


def test_removed_tasks_leave_no_row_and_no_file(cluster: Cluster) -> None:
    assert unknown_tasks(cluster) == set()
    assert left_after_removal(cluster) == []
