"""The death of every part of a cluster, and of the service, in the middle of a background task."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clusters.kills import IN_FLIGHT, Harness, Part, harness

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]


@pytest.fixture(scope="module", params=["dask", "ray"])
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Harness]:
    with harness(request.param, tmp_path_factory.mktemp(request.param)) as made:
        yield made


@pytest.mark.parametrize("part", Part)
def test_task_goes_on_by_itself_and_repeats_nothing_that_is_stored(
    cluster: Harness, part: Part
) -> None:
    found = cluster.round(part, after_items=500)
    assert found.completed
    assert found.stored_again == 0
    assert found.again <= IN_FLIGHT
    if part is Part.HEAD:
        assert found.told_seconds is not None
