"""The death of every part of a cluster, and of the service, in the middle of a background task."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clusters.kills import IN_FLIGHT, Harness, Part, Round, harness

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]


@pytest.fixture(scope="module", params=["dask", "ray"])
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Harness]:
    with harness(request.param, tmp_path_factory.mktemp(request.param)) as made:
        yield made


def check(cluster: Harness, part: Part) -> Round:
    """The task completes with the right bits, and no stored batch is computed again."""
    found = cluster.round(part, after_items=500)
    assert found.completed
    assert found.stored_again == 0
    assert found.again <= IN_FLIGHT
    return found


def test_task_waits_for_a_lost_head_and_goes_on(cluster: Harness) -> None:
    assert check(cluster, Part.HEAD).told_seconds is not None


@pytest.mark.parametrize("part", [part for part in Part if part is not Part.HEAD])
def test_task_goes_on_by_itself(cluster: Harness, part: Part) -> None:
    check(cluster, part)
