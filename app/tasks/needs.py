"""Abilities that shards need and that nodes have, and how the two are compared.

An ability is a text such as `kernel:loops/numba`, `strategy:hybrid`, `db:pinot`, or, for a version
of a user's code, `workload:american_put@3f9c2e8b01da`. A node of an older version lacks every
ability that it does not know, so it leaves such shards to other nodes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from hotloop.app.names import TaskKind
from hotloop.app.sources.rows import MEDIA_TYPES
from hotloop.app.tasks.spec import NEEDS_KEY, SPEC_VERSION, VERSION_KEY
from hotloop.kernels.contract import WorkloadSource

A_RUN_HOST: Final = "a run host"
A_NODE: Final = "a node that executes background tasks"

WORKLOAD_VERSION_KEY: Final = "workload_version"
"""Key among the stored needs of the version of a user's code, of 12 digits."""

_ANY_BYTES: Final = 1 << 62
_WORDS: Final = {
    "kind": "support for tasks of the kind {}",
    "strategy": "the strategy {}",
    "db": "the database source {}",
    "cache": "the cache source {}",
    "workload": "the workload {}",
    "upload": "pyarrow, which reads {}",
    "spec": "a newer version of the service, which reads stored requests of version {}",
}


@dataclass(frozen=True)
class Needs:
    """The abilities and memory that a node must have for every shard of a task."""

    abilities: frozenset[str]
    memory_bytes: int | None = None
    """Memory of the run host and all processes below it; None where it is not known."""

    @cached_property
    def text(self) -> str:
        """The abilities as text for the store; equal abilities give equal texts."""
        return json.dumps(sorted(self.abilities))


@dataclass(frozen=True, slots=True)
class Abilities:
    """The abilities of a node; by default all."""

    names: frozenset[str] | None = None
    """None stands for every ability."""
    run_bytes: int = _ANY_BYTES
    """Memory that one run may use."""
    unfit: set[str] = field(default_factory=set, compare=False)
    """Texts of needs that the node cannot meet; the queue skips their rows."""

    def has(self, needs: str | None) -> bool:
        """Return True if the node has all abilities in a stored text of needs."""
        if needs is None or self.names is None:
            return True
        if needs not in self.unfit and read_needs(needs) <= self.names:
            return True
        self.unfit.add(needs)
        return False

    def fits(self, needs: Needs) -> bool:
        """Return True if the node has all abilities and the memory."""
        return self.has(needs.text) and (needs.memory_bytes or 0) <= self.run_bytes

    def to_json(self) -> dict[str, Any]:
        return {"names": sorted(self.names or ()), "run_bytes": self.run_bytes}

    @classmethod
    def from_json(cls, stored: Any) -> Abilities:
        """Read what a node has published. Text that cannot be read counts as no ability."""
        try:
            return cls(frozenset(map(str, stored["names"])), int(stored["run_bytes"]))
        except (TypeError, KeyError, ValueError):
            return NOTHING


NOTHING: Final = Abilities(frozenset(), 0)
"""Published by a process that executes no background tasks."""


def needs_of(kind: str, workload: str, kernel: str, strategy: str, spec: Any) -> Needs:
    """Work out what a task needs. `spec` may be of any version; a missing entry needs nothing."""
    spec = spec if isinstance(spec, Mapping) else {}
    version, known = spec.get(VERSION_KEY, 0), spec.get(NEEDS_KEY)
    if isinstance(version, int) and version > SPEC_VERSION:
        return Needs(frozenset({f"kind:{kind}", f"spec:{version}"}))
    known = known if isinstance(known, Mapping) else {}
    names = {f"kind:{kind}", f"workload:{workload}"}
    if kind == TaskKind.COMPARISON:
        kernels = known.get("kernels")
        names |= {f"kernel:{workload}/{k}" for k in (kernels if isinstance(kernels, list) else ())}
    elif kind == TaskKind.RUN:
        names |= {f"kernel:{workload}/{kernel}", f"strategy:{strategy}"}
    names |= {f"{s}:{spec[s]}" for s in ("db", "cache") if isinstance(spec.get(s), str)}
    if (code := stored_version(spec)) is not None:
        names.add(version_ability(workload, code))
    asked = spec.get("input")
    media_type = asked.get("media_type") if isinstance(asked, Mapping) else None
    if media_type not in (None, *MEDIA_TYPES):  # every version reads these
        names.add(f"upload:{media_type}")
    memory = known.get("bytes")
    is_size = isinstance(memory, int) and 0 < memory < _ANY_BYTES
    return Needs(frozenset(names), memory if is_size else None)


def version_ability(workload: str, version: str) -> str:
    """Name the ability to execute a version of a user's code, of 12 digits."""
    return f"workload:{workload}@{version}"


def version_needs(source: WorkloadSource | None) -> dict[str, Any]:
    """Return the part of the stored needs about the version of a user's code."""
    return {} if source is None else {WORKLOAD_VERSION_KEY: source.short_version}


def stored_version(spec: Any) -> str | None:
    """Return the version of a user's code in a stored spec; None for a built-in workload."""
    known = spec.get(NEEDS_KEY) if isinstance(spec, Mapping) else None
    found = known.get(WORKLOAD_VERSION_KEY) if isinstance(known, Mapping) else None
    return found if isinstance(found, str) else None


def read_needs(text: str) -> frozenset[str]:
    """Read the abilities in a stored text. Unknown text is an ability that no node has."""
    try:
        names = json.loads(text)
    except ValueError:
        return frozenset({text})
    return frozenset(map(str, names)) if isinstance(names, list) else frozenset({text})


def waiting_for(needs: Needs, living: Collection[Abilities | None]) -> str | None:
    """Say in words what a waiting shard waits for; None if a living node can execute it. In
    `living`, None stands for a node without a run host.
    """
    nodes = [abilities for abilities in living if abilities is not None]
    if not living or any(node.fits(needs) for node in nodes):
        return None
    if len(nodes) < len(living):
        return A_RUN_HOST
    nodes = [node for node in nodes if node.names != frozenset()]
    if not nodes:
        return A_NODE
    missing = needs.abilities.difference(*(node.names or needs.abilities for node in nodes))
    if missing:
        return f"a node with {_joined(_without_parts(missing))}{_other_versions(missing, nodes)}"
    able = [node for node in nodes if node.has(needs.text)]
    if able:
        most = max(node.run_bytes for node in able)
        return (
            f"a node where a run may use {(needs.memory_bytes or 0) >> 20:,} MiB of memory; those "
            f"that are up allow {most >> 20:,} MiB, see HOTLOOP_MEMORY_BUDGET_BYTES"
        )
    return f"a single node with {_joined(needs.abilities)}"


def _joined(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(_in_words, names)))


def _without_parts(names: frozenset[str]) -> frozenset[str]:
    """Leave out what a node has anyway that has the missing version of a user's code."""
    known = {name.partition("@")[0] for name in names if _is_version(name)}
    kernels = tuple(f"kernel:{name.partition(':')[2]}/" for name in known & names)
    return frozenset(n for n in names if n not in known and not (kernels and n.startswith(kernels)))


def _other_versions(missing: frozenset[str], nodes: Collection[Abilities]) -> str:
    """Say which versions the nodes have of the workload whose version is missing, if any."""
    wanted = next((name.partition("@")[0] for name in missing if _is_version(name)), None)
    names = frozenset[str]().union(*(node.names or () for node in nodes))
    found = sorted(n.partition("@")[2] for n in names if n.startswith(f"{wanted}@"))
    return f"; those that are up have version {', '.join(found)}" if found else ""


def _is_version(name: str) -> bool:
    return name.startswith("workload:") and "@" in name


def _in_words(name: str) -> str:
    key, _, value = name.partition(":")
    if _is_version(name):
        workload, _, version = value.partition("@")
        return f"version {version} of the workload {workload}"
    if key == "kernel":
        workload, _, kernel = value.rpartition("/")
        return f"the kernel {kernel} of the workload {workload}"
    return _WORDS[key].format(value) if key in _WORDS else f"the ability {name!r}"
