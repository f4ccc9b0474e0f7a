"""The judge distinguishes growth from temporary use."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.sections import BEGIN, END
from tests.fixtures.server import ROOT
from tests.soak.course import Outcome, growth_faults
from tests.soak.readings import QUANTITIES, Reading, judge, slope
from tests.soak.report import NAME, WRITER, lines, write

MIB = float(1 << 20)
STILL = Reading(
    at_seconds=0,
    api_bytes=120 * MIB,
    api_descriptors=30,
    api_threads=8,
    host_pid=1,
    host_bytes=90 * MIB,
    host_descriptors=20,
    host_threads=6,
    processes=11,
    all_bytes=500 * MIB,
    files=3,
    store_bytes=MIB,
)
FIELDS = sorted(
    {"api_bytes", "api_descriptors", "api_threads", "host_bytes"}
    | {"host_descriptors", "host_threads", "processes", "files"}
)
SECONDS = 600


def readings(field: str, value: Callable[[float, float], float]) -> list[Reading]:
    """Two a second for ten minutes; `value` of the seconds and of what is held at rest."""
    still: float = getattr(STILL, field)

    def at(seconds: float) -> Reading:
        changes: dict[str, Any] = {field: value(seconds, still)}
        return replace(STILL, at_seconds=seconds, **changes)

    return [at(i / 2) for i in range(2 * SECONDS)]


def grown(field: str, value: Callable[[float, float], float]) -> list[str]:
    return growth_faults(Outcome(1, SECONDS, readings=readings(field, value)))


def test_these_tests_cover_every_quantity() -> None:
    assert len(FIELDS) == len(QUANTITIES)


@pytest.mark.parametrize("field", FIELDS)
def test_steady_growth_is_a_fault(field: str) -> None:
    faults = grown(field, lambda at, still: still * (1 + 4 * at / SECONDS))
    assert len(faults) == 1
    assert faults[0].startswith("grows")


@pytest.mark.parametrize("field", FIELDS)
def test_temporary_use_is_no_fault(field: str) -> None:
    chance = random.Random(field)
    assert grown(field, lambda _, still: still * (1 + chance.random())) == []


@pytest.mark.parametrize("field", FIELDS)
def test_growth_in_the_first_minutes_is_no_fault(field: str) -> None:
    assert grown(field, lambda at, still: still * (1 + min(1.0, at / 250))) == []


def test_growth_under_temporary_use_is_a_fault() -> None:
    chance = random.Random(1)
    faults = grown("api_descriptors", lambda at, still: still + at // 60 + chance.randrange(8))
    assert len(faults) == 1


def test_end_of_the_spared_run_host_is_a_fault() -> None:
    faults = grown("host_pid", lambda at, _: 1 + (at > 400))
    assert faults == ["the run host that nobody killed has ended"]


def test_missing_readings_are_a_fault() -> None:
    assert growth_faults(Outcome(1, 6)) == ["nothing could be read"]
    with pytest.raises(ValueError, match="too few"):
        judge([STILL] * 10, QUANTITIES[0])


def test_slope_ignores_outliers() -> None:
    assert slope([1.0, 3.0, 5.0, 700.0, 9.0, 11.0]) == 2.0


def test_report_replaces_only_its_section(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text((ROOT / "docs" / "reliability.md").read_text("utf-8"), "utf-8")
    begin, end = BEGIN.format(name=NAME, writer=WRITER), END.format(name=NAME)
    before, _, rest = page.read_text("utf-8").partition(begin)
    after = rest.partition(end)[2]
    outcome = Outcome(7, SECONDS, readings=readings("files", lambda _, still: still))
    growth_faults(outcome)
    for _ in range(2):
        write(page, "python -m tests.soak --seed 7", outcome)
    text = page.read_text("utf-8")
    assert (text.count(begin), text.count(end)) == (1, 1)
    assert text.startswith(before + begin)
    assert text.endswith(end + after)
    assert "`python -m tests.soak --seed 7`" in text
    assert "| memory of the API, MiB | 120.0 | 120.0 | 0.0 | 6.0 |" in text
    assert "Nothing was wrong." in text


def test_report_lists_faults() -> None:
    assert "- a file is left: x" in lines(Outcome(1, 6, faults=["a file is left: x"]))
