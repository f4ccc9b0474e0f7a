"""The rules of imports."""

from __future__ import annotations

import subprocess
import sys

from tests.fixtures.server import ROOT


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
        "print(sorted({'fastapi', 'nanoarrow', 'numba', 'psycopg', 'pydantic', "
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
    # process that forks workers, with inner libraries on one thread; names of modules, for tests.
    assert readers == {
        "app/cli/exits.py",
        "app/cli/screen.py",
        "app/settings/environment.py",
        "app/observability/metrics_folder.py",
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
