"""`pip install -r requirements.txt` and `uvicorn main:app`, as the README has them; and what is
installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import setuptools

from tests.fixtures.server import ROOT, server_of
from tests.test_docs import SERVERS

REQUIREMENTS = (ROOT / "requirements.txt").read_text()
LITTLE = {"items_count": 10, "db": "none", "cache": "none", "kernel": "cython"}


def _names(lines: list[str]) -> set[str]:
    """The packages of requirements or constraints, as the registry compares their names."""
    found = (re.match(r"[A-Za-z0-9._-]+", line) for line in lines)
    return {re.sub(r"[-_.]+", "-", match[0]).lower() for match in found if match is not None}


def test_requirements_are_the_project_with_pinned_versions() -> None:
    lines = [line for line in REQUIREMENTS.splitlines() if not line.startswith("#")]
    assert lines == ["--constraint constraints.txt", "--editable ."]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    assert _names(project["dependencies"]) <= _names([line for line in pinned if "==" in line])


def test_every_package_of_the_code_is_installed() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    found = {
        ".".join(("hotloop", *path.parent.relative_to(ROOT).parts))
        for folder in ("app", "kernels")
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(tool["setuptools"]["packages"]) == {"hotloop", *found}


@pytest.mark.long
def test_readme_installs_the_service_and_serves_it(tmp_path: Path) -> None:
    """Install in a copy of the checkout without a registry, with packages of this environment."""
    (commands,) = (c.text.splitlines() for c in SERVERS if c.page == "README.md")
    install, serve = (command.split() for command in commands)
    copy = tmp_path / "copy"
    ignored = (".*", "build", "data", "tests", "__pycache__", "*.so", "*.egg-info")
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*ignored))
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "needed.pth").write_text(f"{Path(setuptools.__file__).parents[1]}\n")
    assert install[0] == "pip"
    pip = (sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"))
    offline = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation")
    subprocess.run([*pip, *install[1:], *offline], cwd=copy, check=True)
    assert list((copy / "kernels" / "loops").glob("_cython*.so"))
    assert serve[0] == "uvicorn"
    command = (str(venv / "bin" / "python"), "-m", *serve, "--port", "0")
    with server_of(command, tmp_path / "data", {"run_hosts": 1}, cwd=copy) as server:
        done = server.run("sequential", **LITTLE)
        assert done.json()["status"] == "completed", done.text
        (host,) = server.run_hosts()
        assert Path(host.cwd()) == copy
