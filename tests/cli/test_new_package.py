"""`hotloop new` (app/cli/new_package.py, app/cli/package_template.py): its files and refusals."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from hotloop.app.cli.package_template import files_of
from tests.fixtures.command_line import here
from tests.fixtures.server import plain_environment, server_of
from tests.fixtures.waiting import wait_until

LONGEST = "a" * 30


def made(folder: Path, name: str) -> Path:
    done = here("new", name, "--folder", str(folder))
    assert done.returncode == 0, done.stderr
    return folder / name


def ruff(*arguments: str, folder: Path) -> str:
    command = [sys.executable, "-m", "ruff", *arguments, "--isolated", "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_package_has_these_files_and_the_next_commands_are_told(tmp_path: Path) -> None:
    (tmp_path / "own" / "braking").mkdir(parents=True)  # an empty folder is used
    done = here("new", "braking", "--folder", str(tmp_path / "own"))
    folder = tmp_path / "own" / "braking"
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert found == {"README.md", "braking.py", "pyproject.toml", "tests/test_braking.py"}
    assert f"cd {folder}" in done.stdout
    assert "hotloop check braking:braking" in done.stdout


@pytest.mark.parametrize("name", ["braking", LONGEST])
def test_package_is_in_order_for_a_linter(name: str, tmp_path: Path) -> None:
    folder = made(tmp_path, name)
    assert ruff("check", "--extend-select", "I", folder=folder) == ""
    if name != LONGEST:  # a name decides where lines are broken
        assert ruff("format", "--check", "--diff", folder=folder) == ""


def test_template_has_no_word_left_over() -> None:
    assert not [path for path, text in files_of("braking").items() if "NAME" in path + text]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("My-Prices", "write my_prices"),
        ("2d", "write d"),
        ("", "1 to 30 small letters"),
        (LONGEST + "a", "1 to 30 small letters"),
        ("pri/ces", "write pri_ces"),
        ("class", "a word of Python"),
        ("test_prices", "the name of a test"),
        ("loops", "none of conftest, loops"),
        ("json", "there is a module json already"),
        ("numpy", "there is a module numpy already"),
    ],
)
def test_name_that_cannot_be_one_is_refused(name: str, words: str, tmp_path: Path) -> None:
    done = here("new", name, "--folder", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "braking").mkdir()
    (tmp_path / "braking" / "notes").write_text("mine")
    (tmp_path / "pendulum").write_text("a file")
    for name in ("braking", "pendulum"):
        done = here("new", name, "--folder", str(tmp_path))
        assert done.returncode == 2
        assert "is there already" in done.stderr
    assert [p.name for p in (tmp_path / "braking").iterdir()] == ["notes"]


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = here("new", "braking", "--folder", str(tmp_path / "file"))
    assert done.returncode == 2
    assert "cannot be written" in done.stderr


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("own"), "braking")


@pytest.fixture(scope="module")
def python(package: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Install the package to be edited, as its README says, in a new environment. The packages that
    it needs are those of this one. Returns the environment's Python.
    """
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    needed = sysconfig.get_paths()["purelib"]
    (site / "needed.pth").write_text(f"import site; site.addsitedir({needed!r})\n")
    python = str(environment / "bin" / "python")
    pip = (sys.executable, "-m", "pip", "--python", python)
    install = ("install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation")
    subprocess.run([*pip, *install, "--editable", str(package)], check=True)
    return python


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("pytest", "-p", "no:cacheprovider"), " passed"),
        (("mypy", "--strict", "--cache-dir", "mypy", "braking.py", "tests"), "no issues found"),
        (("hotloop", "check", "braking:braking", "--seconds", "15"), "braking: passed"),
    ],
    ids=["pytest", "mypy", "check"],
)
def test_package_passes_as_it_comes(
    package: Path, python: str, command: tuple[str, ...], words: str
) -> None:
    done = subprocess.run(
        [python, "-m", *command],
        cwd=package,
        env=plain_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert words in done.stdout


@pytest.mark.long
def test_installed_package_is_served_without_being_named(python: str, tmp_path: Path) -> None:
    command = (python, "-m", "hotloop", "serve")
    with server_of(command, tmp_path / "data", {"run_hosts": 1}, cwd=tmp_path) as server:
        server.wait_ready()

        def own() -> Any:
            return server.client.get("/api/v1/tasks/kernels").json()["own_workloads"]

        wait_until(lambda: [each["state"] for each in own()] == ["available"], "it is known")
        assert own()[0]["target"] == "braking:braking"
        done = server.run("threading", workload="braking", items_count=100)
        assert done.json()["failed_items"] == 0, done.text
