"""Starts that cannot succeed say why in a line."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.server import ROOT, plain_environment, running_server

pytestmark = pytest.mark.long


def failing_start(**settings: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py")],
        env=plain_environment()
        | {f"HOTLOOP_{name.upper()}": value for name, value in settings.items()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_wrong_setting_is_named(tmp_path: Path) -> None:
    text = failing_start(run_hosts="0", data_dir=str(tmp_path))
    assert "HOTLOOP_RUN_HOSTS must be at least 1" in text


def test_open_service_on_a_network_does_not_start(tmp_path: Path) -> None:
    text = failing_start(host="0.0.0.0", data_dir=str(tmp_path))
    assert "HOTLOOP_HOST must be a loopback address" in text
    assert "hotloop key" in text


def test_wrong_source_is_named_without_its_secret(tmp_path: Path) -> None:
    text = failing_start(
        redis_url="redis://:s3cret@[::1", pinot_url="broker:8099", data_dir=str(tmp_path)
    )
    assert "HOTLOOP_REDIS_URL must be like redis://host:6379/0" in text
    assert "HOTLOOP_PINOT_URL must be like http://broker:8099" in text
    assert "s3cret" not in text


def test_data_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert "HOTLOOP_DATA_DIR" in failing_start(data_dir=str(file))


def test_store_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "hotloop.sqlite3").write_bytes(b"no database " * 1_000)
    assert "HOTLOOP_DATA_DIR" in failing_start(data_dir=str(tmp_path))


def test_store_of_a_newer_version_is_named(tmp_path: Path) -> None:
    with running_server(tmp_path, run_hosts=1):
        pass
    with sqlite3.connect(tmp_path / "hotloop.sqlite3") as database:
        ((table,),) = database.execute(
            "select name from sqlite_master where type = 'table' and name like '%schema%'"
        ).fetchall()
        database.execute(f"update {table} set version = 999")
    database.close()
    assert "newer version" in failing_start(data_dir=str(tmp_path))
