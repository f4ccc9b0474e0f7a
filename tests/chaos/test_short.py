"""A few kills of each kind; `make chaos` makes many."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.cluster import Cluster, running_cluster
from tests.chaos.databases import mortal_postgres
from tests.chaos.rounds import ONLY_POSTGRESQL, Kind, Outcome, Round

SEED = 1
TASKS = 4
KINDS = list(Kind)
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


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_and_nothing_finished_is_done_again(cluster: Cluster, kind: Kind) -> None:
    if cluster.database is None and kind in ONLY_POSTGRESQL:
        return
    outcome = Round(cluster, KINDS.index(kind), SEED, tasks=TASKS).run(kind)
    assert outcome == Outcome(
        kind,
        tasks=TASKS,
        unfinished_recomputed=outcome.unfinished_recomputed,
        adoption_seconds=outcome.adoption_seconds,
    )


def test_no_file_is_left(cluster: Cluster) -> None:
    assert cluster.client.delete("/api/v1/tasks/results").json()["deleted"] > 0
    assert list((cluster.folder / "data" / "uploads").iterdir()) == []
