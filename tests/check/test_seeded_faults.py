"""The check against modules whose faults its author did not know: what is found, who is accused."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from hotloop.app.check import Certificate, Status, certify
from tests.check.correct_kernels import correct_kernels
from tests.check.seeded_faults import OF_EACH, Fault, seeded_faults

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

SECONDS: Final = (4.0, 20.0, 60.0)
"""The time for a module: more is given if nothing was found and not everything was checked."""

AT_ONCE: Final = 2

KINDS: Final = tuple(dict.fromkeys(fault.kind for fault in seeded_faults()))

LEAST: Final = 0.98
"""The share of the faults that must be found."""


def certified(folder: Path, modules: Iterable[tuple[str, str, str]]) -> dict[str, Certificate]:
    """Check modules, each a name, a workload and a text; some at once."""

    def check(module: tuple[str, str, str]) -> tuple[str, Certificate]:
        name, workload, text = module
        path = folder / f"{name}.py"
        path.write_text(text, encoding="utf-8")
        for seconds in SECONDS:
            certificate = certify(f"{path}:{workload}", seconds=seconds)
            if certificate.findings or is_complete(certificate):
                break
        return name, certificate

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(pool.map(check, modules))


def is_complete(certificate: Certificate) -> bool:
    """Return whether there was time for every point."""
    return all(point.status is not Status.NOT_CHECKED for point in certificate.points)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("modules")


def found(fault: Fault, certificate: Certificate) -> bool:
    """Return whether a fault is found: in its kernel, or anywhere if it is in the declaration."""
    if fault.in_declaration:
        return not certificate.passed
    return certificate.kernel_passed("batch") is False


@cache
def missed(kind: str, folder: Path) -> tuple[Fault, ...]:
    """Return the faults of a class that the check has not found."""
    faults = [fault for fault in seeded_faults() if fault.kind == kind]
    certificates = certified(folder, [(f.name, f.base.name, f.text) for f in faults])
    return tuple(fault for fault in faults if not found(fault, certificates[fault.name]))


def shown(faults: Iterable[Fault]) -> str:
    return "\n".join(f"{fault.name}: {fault.words}" for fault in faults)


@pytest.mark.parametrize("kind", KINDS)
def test_faults_of_a_class_are_found(kind: str, folder: Path) -> None:
    left = missed(kind, folder)
    print(f"{kind}: {OF_EACH - len(left)} of {OF_EACH} found\n{shown(left)}")
    assert len(left) <= OF_EACH // 10, shown(left)


def test_nearly_all_faults_are_found(folder: Path) -> None:
    left = [fault for kind in KINDS for fault in missed(kind, folder)]
    count = len(seeded_faults())
    print(f"{count - len(left)} of {count} found")
    assert count - len(left) >= LEAST * count, shown(left)


def test_correct_kernels_are_not_accused(folder: Path) -> None:
    modules = correct_kernels()
    certificates = certified(folder, [(c.name, c.base.name, c.text) for c in modules])
    accused = [
        f"{correct.name}: {correct.words}: {finding.kernel} {finding.point}: {finding.seen}"
        for correct in modules
        for finding in certificates[correct.name].findings
    ]
    assert not accused, "\n".join(accused)
