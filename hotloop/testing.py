"""Tests of your kernels with pytest: one for each kernel and each point of its certificate.

In a file of tests, which runs with the others:

    from hotloop.testing import certificate_tests

    test_certificate = certificate_tests("prices:american_put")

or without one, on the command line:

    pytest --hotloop prices:american_put

The check runs once for all of these tests, in child processes, when the first of them runs; each
then tells what was found at its point, with the smallest example and what to do. A point that has
no meaning for a kernel, or that there was no time for, is skipped. What the check looks at is in
docs/check.md.

pytest imports this module in every run, by an entry point: nothing else is imported before there
is something to check.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from hotloop.app.check import Certificate

__all__ = ["certificate_tests"]

_SECONDS: Final = 60.0
_IMPORT: Final = "import"
"""The test that stands for all, where the workload cannot be imported."""

_certificates: Final[dict[tuple[str, float, Path], Certificate]] = {}


def certificate_tests(
    target: str, *, seconds: float = _SECONDS, folder: Path | None = None
) -> Callable[..., None]:
    """Return a test that pytest runs for each kernel of a workload and each point.

    `target` is `module:function` or `file.py:function`, looked for where pytest imports from, and
    in `folder` (else in the current one). `seconds` is the time for the whole check.
    """
    place = (folder or Path.cwd()).absolute()

    @pytest.mark.parametrize(("kernel", "point"), _cases(target, place))
    def test(kernel: str, point: str) -> None:
        _judge(target, seconds, place, kernel, point)

    test.__doc__ = f"Each kernel of {target} has every property of a certificate."
    return test


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of this plugin."""
    group = parser.getgroup("hotloop", "the check of kernels")
    group.addoption(
        "--hotloop",
        action="append",
        default=[],
        metavar="TARGET",
        help="check the kernels of module:function, or file.py:function, too; may be repeated",
    )
    group.addoption(
        "--hotloop-seconds",
        type=float,
        default=_SECONDS,
        metavar="SECONDS",
        help="time for the check of a workload; default 60",
    )


def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add a test for each point of each kernel of the workloads that --hotloop names."""
    seconds = config.getoption("--hotloop-seconds")
    for target in config.getoption("--hotloop"):
        parent = _Workload.from_parent(session, name=target, nodeid=target)
        parent.seconds = seconds
        items += parent.collect()


class _Workload(pytest.Collector):
    """The tests of one workload that --hotloop names."""

    seconds: float

    def collect(self) -> Iterator[_PointTest]:
        for kernel, point in _cases(self.name, Path.cwd()):
            made = _PointTest.from_parent(self, name=f"{kernel}-{point}")
            made.kernel, made.point = kernel, point
            yield made


class _PointTest(pytest.Item):
    """The test of one point of one kernel."""

    kernel: str
    point: str

    def runtest(self) -> None:
        parent = self.parent
        assert isinstance(parent, _Workload)
        _judge(parent.name, parent.seconds, Path.cwd(), self.kernel, self.point)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"{self.parent.name if self.parent else ''}: {self.name}"


def _cases(target: str, folder: Path) -> list[tuple[str, str]]:
    """Return kernels and points, each pair of them."""
    from hotloop.app.check import POINTS, UnloadableError, describe

    try:
        found = describe(target, folder=folder, environment=_environment())
    except UnloadableError:
        return [(_IMPORT, _IMPORT)]  # the test says why
    return [(kernel, point.name) for kernel in found.kernels for point in POINTS]


def _judge(target: str, seconds: float, folder: Path, kernel: str, point: str) -> None:
    """Fail, skip or pass as the certificate says."""
    from hotloop.app.check import Status, UnloadableError

    try:
        certificate = _certificate(target, seconds, folder)
    except UnloadableError as error:
        pytest.fail(f"{target} cannot be imported: {error}", pytrace=False)
    for finding in certificate.findings:
        if (finding.kernel, finding.point) == (kernel, point):
            example = "" if finding.example is None else f"\nwith {_words(finding.example)}"
            pytest.fail(f"{finding.seen}{example}\nTo do: {finding.advice}.", pytrace=False)
    reasons = {each.name: each.reason for each in certificate.kernels}
    if reasons.get(kernel) is not None:
        pytest.skip(f"{kernel} cannot be used here: {reasons[kernel]}")
    for each in certificate.points:
        if (each.kernel, each.point) == (kernel, point) and each.status is not Status.PASSED:
            pytest.skip(f"{each.status}: {each.words}")


def _certificate(target: str, seconds: float, folder: Path) -> Certificate:
    """Return the certificate, which is made once in this process."""
    from hotloop.app.check import certify

    key = target, seconds, folder
    if key not in _certificates:
        _certificates[key] = certify(
            target, seconds=seconds, folder=folder, environment=_environment()
        )
    return _certificates[key]


def _environment() -> dict[str, str]:
    """Return an environment in which modules are found as pytest finds them."""
    installed = (sys.prefix, sys.base_prefix)
    folders = [path for path in sys.path if path and not path.startswith(installed)]
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = os.pathsep.join(dict.fromkeys(filter(None, [*inherited, *folders])))
    return {**os.environ, "PYTHONPATH": path}


def _words(example: Any) -> str:
    """Return an example in one line."""
    groups = (example.get(name, {}) for name in ("columns", "parameters"))
    shown = [", ".join(f"{name} = {value}" for name, value in each.items()) for each in groups]
    return "; ".join(filter(None, shown))
