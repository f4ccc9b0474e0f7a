"""The structure of the code: imports, its picture, and the walks in CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from tests.fixtures.server import ROOT
from tests.house.__main__ import PICTURE
from tests.house.code import House, circles
from tests.house.figures import FORMS, figures
from tests.house.picture import picture

LINK = re.compile(r"\[([\w/]+\.py)\]\((\S+?)\)")
WALK = re.compile(r"\[([\w/]+\.py)\]\(\S+?\)((?:,?\s+`[\w.]+`)+)")


@pytest.fixture(scope="module")
def house() -> House:
    return House()


def test_contracts_of_the_import_linter_hold() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_run_host_and_workers_load_nothing_heavy() -> None:
    """Processes that are started by the dozen must not load the web framework or the store."""
    code = (
        "import sys, hotloop.app.runhost.host, hotloop.app.strategies.worker_process; "
        "print(sorted({'fastapi', 'nanoarrow', 'numba', 'psycopg', 'pyarrow', 'pydantic', "
        "'sqlalchemy', 'starlette', 'uvicorn'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_environment_is_read_in_one_place() -> None:
    readers = {
        path.relative_to(ROOT).as_posix()
        for folder in ("app", "kernels")
        for path in (ROOT / folder).rglob("*.py")
        if "os.environ" in path.read_text() or "getenv" in path.read_text()
    }
    # None of the others reads a setting: the width and the kind of the terminal; a variable of
    # prometheus-client that is handed down to the processes of one port; all of them, handed to the
    # processes that fork workers and that read Arrow, with inner libraries on one thread, to those
    # that run kernels which are checked, and to drivers, which need the engine's own variables and
    # set some; names of modules, for tests; the key of a client.
    assert readers == {
        "app/check/certifying.py",
        "app/client/client.py",
        "app/cli/exits.py",
        "app/cli/screen.py",
        "app/settings/environment.py",
        "app/observability/metrics_folder.py",
        "app/sources/arrow_process.py",
        "app/strategies/cluster/driver.py",
        "app/strategies/cluster/driver_process.py",
        "app/strategies/nursery.py",
        "kernels/registry.py",
    }


def test_files_stay_small() -> None:
    large = {
        path.relative_to(ROOT).as_posix(): count
        for folder in ("app", "kernels", "benchmarks", "tests")
        for path in (ROOT / folder).rglob("*.py*")
        if path.suffix in (".py", ".pyx") and (count := len(path.read_text().splitlines())) > 450
    }
    assert large == {}


def test_picture_is_the_one_of_the_code(house: House) -> None:
    assert PICTURE.read_text(encoding="utf-8") == picture(house), "run: make house"


def test_no_wing_and_no_file_is_in_a_circle(house: House) -> None:
    assert circles(house.wing_imports) == []
    assert circles(house.imports) == []


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}
    assert circles(graph) == [{"b", "c"}]


def test_figures_can_be_counted(house: House) -> None:
    assert len(figures(house)) == 10
    for form in FORMS:
        module, name = form.split(":")
        assert name in defined(house.modules[module].text), form


def test_walks_lead_to_what_they_name() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    walks = text[text.index("## The walk") : text.index("## Commands")]
    for shown, target in LINK.findall(walks):
        assert shown == target
        assert (ROOT / target).is_file(), target
    found = WALK.findall(walks)
    assert len(found) > 20
    for target, names in found:
        known = defined((ROOT / target).read_text(encoding="utf-8"))
        for name in re.findall(r"`([\w.]+)`", names):
            assert name in known, f"{name} is not in {target}"


def defined(source: str) -> set[str]:
    """Names of what a module defines, methods as `Class.method`."""
    found: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}" for each in node.body if hasattr(each, "name")}
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Assign):
            found |= {each.id for each in node.targets if isinstance(each, ast.Name)}
    return found
