"""Needs of tasks, abilities of nodes, and the words for what is missing."""

from __future__ import annotations

from typing import Any

import pytest

from hotloop.app.sources.arrow_rows import PARQUET
from hotloop.app.tasks.needs import (
    NOTHING,
    Abilities,
    Needs,
    needs_of,
    read_needs,
    stored_version,
    version_needs,
    waiting_for,
)
from hotloop.app.tasks.spec import SPEC_VERSION
from hotloop.kernels.contract import WorkloadSource

RUN = ("run", "loops", "cython", "hybrid")


def test_run_needs_its_kernel_strategy_sources_and_memory() -> None:
    needs = needs_of(*RUN, {"db": "pinot", "cache": "none", "needs": {"bytes": 7}})
    assert needs == Needs(
        frozenset(
            {"kind:run", "workload:loops", "kernel:loops/cython", "strategy:hybrid"}
            | {"db:pinot", "cache:none"}
        ),
        7,
    )
    assert read_needs(needs.text) == needs.abilities


def test_comparison_needs_the_kernels_of_its_cells() -> None:
    spec = {"needs": {"kernels": ["python", "numba"], "bytes": 7}}
    needs = needs_of("comparison", "loops", "", "", spec)
    kernels = {"kernel:loops/python", "kernel:loops/numba"}
    assert needs.abilities == kernels | {"kind:comparison", "workload:loops"}


PUT = ("run", "put", "numba", "hybrid")
SPEC = {"needs": version_needs(WorkloadSource("prices", "put", "3f9c2e8b01da" + "0" * 52))}


def test_run_of_a_users_code_needs_its_version() -> None:
    needs = needs_of(*PUT, SPEC)
    assert needs.abilities - needs_of(*PUT, {}).abilities == {"workload:put@3f9c2e8b01da"}
    compared = needs_of("comparison", "put", "", "", SPEC)
    assert "workload:put@3f9c2e8b01da" in compared.abilities
    assert stored_version(SPEC) == "3f9c2e8b01da"
    assert version_needs(None) == {}


@pytest.mark.parametrize("spec", [None, {}, {"needs": 3}, {"needs": {"workload_version": 3}}])
def test_spec_without_a_version_has_none(spec: Any) -> None:
    assert stored_version(spec) is None


def test_task_that_waits_says_for_which_version_of_which_workload() -> None:
    needs = needs_of(*PUT, SPEC)
    builtin = Abilities(needs_of("run", "loops", "numba", "hybrid", {}).abilities)
    unversioned = Abilities(needs_of(*PUT, {}).abilities)
    other = Abilities(unversioned.names | {"workload:put@000000000000"})  # type: ignore[operator]
    expected = "a node with version 3f9c2e8b01da of the workload put"
    assert waiting_for(needs, [builtin]) == waiting_for(needs, [unversioned]) == expected
    has = "; those that are up have version 000000000000"
    assert waiting_for(needs, [builtin, other]) == f"{expected}{has}"
    assert waiting_for(needs, [other, Abilities(needs.abilities)]) is None


def test_upload_of_parquet_needs_a_node_that_reads_it() -> None:
    def needs(media_type: str | None) -> Needs:
        return needs_of(*RUN, {"input": {"kind": "upload", "media_type": media_type}})

    assert needs(None) == needs("text/csv") == needs("application/x-ndjson") == needs_of(*RUN, {})
    parquet = needs(PARQUET)
    assert parquet.abilities - needs(None).abilities == {f"upload:{PARQUET}"}
    without = Abilities(needs(None).abilities, 1)
    assert waiting_for(parquet, [without]) == f"a node with pyarrow, which reads {PARQUET}"
    assert waiting_for(parquet, [Abilities(parquet.abilities, 1)]) is None


def test_of_a_newer_spec_only_the_version_is_read() -> None:
    needs = needs_of(*RUN, {"version": SPEC_VERSION + 1, "db": {}, "needs": 3})
    assert needs.abilities == {"kind:run", f"spec:{SPEC_VERSION + 1}"}
    assert needs_of(*RUN, {"version": SPEC_VERSION}) == needs_of(*RUN, {})


@pytest.mark.parametrize(
    "spec",
    [None, [], 7, {"db": 7, "needs": [], "input": 3}, {"needs": {"bytes": "x", "kernels": 3}}],
    ids=str,
)
def test_spec_that_cannot_be_read_needs_nothing_of_its_own(spec: Any) -> None:
    assert needs_of(*RUN, spec) == needs_of(*RUN, {})


def test_unknown_text_of_needs_fits_no_node() -> None:
    assert not Abilities(frozenset({"a"})).has("{newer")
    assert not Abilities(frozenset({"a"})).has('{"newer": 1}')
    assert Abilities(frozenset({"a"})).has('["a"]')
    assert Abilities().has("{newer")


@pytest.mark.parametrize("stored", [7, {}, {"names": 3, "run_bytes": 1}, {"names": ["a"]}], ids=str)
def test_abilities_that_cannot_be_read_are_none(stored: Any) -> None:
    assert Abilities.from_json(stored) == NOTHING
    able = Abilities(frozenset({"a", "b"}), 5)
    assert Abilities.from_json(able.to_json()) == able


def test_waiting_text_names_abilities_that_no_living_node_has() -> None:
    needs = Needs(frozenset({"kernel:loops/cython", "db:pinot"}), 3 << 20)
    cython = Abilities(frozenset({"kernel:loops/cython"}), 1 << 30)
    both, small = (Abilities(needs.abilities, n << 20) for n in (3, 2))
    pinot = Abilities(frozenset({"db:pinot"}), 1 << 30)
    assert waiting_for(needs, []) is None
    assert waiting_for(needs, [cython, both, None]) is None
    assert waiting_for(needs, [cython, None]) == "a run host"
    assert waiting_for(needs, [NOTHING]) == "a node that executes background tasks"
    assert waiting_for(needs, [NOTHING, cython]) == "a node with the database source pinot"
    expected = "a node where a run may use 3 MiB of memory; those that are up allow 2 MiB, see "
    assert waiting_for(needs, [cython, small]) == expected + "HOTLOOP_MEMORY_BUDGET_BYTES"
    expected = "the database source pinot, the kernel cython of the workload loops"
    assert waiting_for(needs, [cython, pinot]) == f"a single node with {expected}"
    assert waiting_for(Needs(frozenset({"gpu:1"})), [both]) == "a node with the ability 'gpu:1'"
