"""A wheel, built from a source distribution and installed apart from the checkout, serves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.fixtures.server import ROOT, listening_url

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(
        ROOT,
        source,
        symlinks=True,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns(".*", "build", "data", "__pycache__", "*.so", "*.egg-info"),
    )
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)],
        capture_output=True,
        check=True,
    )
    (path,) = out.glob("*.whl")
    return path


def test_wheel_contains_packages_and_no_generated_source(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    packages = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert packages == {"hotloop"}
    assert {"hotloop/py.typed", "hotloop/kernels/loops/_cython.pyi"} <= set(names)
    web = {f"hotloop/app/web/{path.name}" for path in (ROOT / "app" / "web").iterdir()}
    assert {name for name in names if name.startswith("hotloop/app/web/")} == web
    assert not [
        n for n in names if n.endswith((".c", ".pyx")) or (n.endswith(".html") and n not in web)
    ]
    assert any(name.endswith((".so", ".pyd")) for name in names)


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and, by a path file, the packages it needs; the checkout's
    own editable install is not followed from there.
    """
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")),
            *("install", "--quiet", "--no-deps", "--no-index", str(wheel)),
        ],
        check=True,
    )
    for name in ("app", "kernels"):
        (site / name).mkdir()
        (site / name / "__init__.py").write_text(f"NAME = 'a {name} of the user'\n")
    (site / "needed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder


def test_wheel_allows_other_packages_named_app_and_kernels(
    environment: Path, tmp_path: Path
) -> None:
    code = (
        "import app, kernels, hotloop.app.factory, hotloop.kernels as ours; "
        "print(app.NAME, kernels.NAME, *ours.available_kernels('loops'), sep=', ')"
    )
    done = subprocess.run(
        [str(environment / "bin" / "python"), "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "a app of the user, a kernels of the user, python, cython, numba\n"


@pytest.fixture
def url(environment: Path, tmp_path: Path) -> Iterator[str]:
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("HOTLOOP_", "PYTHON"))}
    # Packages of these names in the folder where it is started must not be taken for its own.
    for name in ("app", "kernels"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('not this one')\n")
    log = tmp_path / "log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [str(environment / "bin" / "hotloop"), "serve"],
            cwd=tmp_path,
            env=variables | {"HOTLOOP_PORT": "0", "HOTLOOP_RUN_HOSTS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        ) as process,
    ):
        try:
            yield listening_url(log)
        finally:
            process.terminate()
            process.wait()


def test_installed_wheel_serves_with_all_kernels(url: str, environment: Path) -> None:
    kernels = httpx.get(f"{url}/api/v1/tasks/kernels", timeout=60).json()["kernels"]
    assert [k["kernel"] for k in kernels if k["available"]] == ["python", "cython", "numba"]
    body = {"items_count": 10, "db": "none", "cache": "none", "batch_size": 2, "workers": 2}
    for strategy in ("threading", "multiprocessing"):
        answer = httpx.post(f"{url}/api/v1/tasks/{strategy}", json=body, timeout=60)
        assert answer.json()["status"] == "completed", answer.text
    assert "<title>Hotloop</title>" in httpx.get(f"{url}/dashboard").text
