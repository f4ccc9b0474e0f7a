"""`settings.environment`: a start that cannot succeed ends with one line that says why."""

from __future__ import annotations

import socket
import sqlite3
from pathlib import Path

import pytest

from tests.fixtures.server import refused_start, running_server

pytestmark = pytest.mark.long


def test_error_names_the_wrong_setting(tmp_path: Path) -> None:
    text = refused_start(run_hosts="0", data_dir=tmp_path)
    assert "HOTLOOP_RUN_HOSTS must be at least 1" in text


def test_open_service_on_a_network_does_not_start(tmp_path: Path) -> None:
    text = refused_start(host="0.0.0.0", data_dir=tmp_path)
    assert "HOTLOOP_HOST must be a loopback address" in text
    assert "hotloop key" in text


def test_error_about_a_source_hides_its_secret(tmp_path: Path) -> None:
    text = refused_start(
        redis_url="redis://:s3cret@[::1", pinot_url="broker:8099", data_dir=tmp_path
    )
    assert "HOTLOOP_REDIS_URL must be like redis://host:6379/0" in text
    assert "HOTLOOP_PINOT_URL must be like http://broker:8099" in text
    assert "s3cret" not in text


def test_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert "HOTLOOP_DATA_DIR" in refused_start(data_dir=file)


def test_store_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hotloop.sqlite3").write_bytes(b"no database " * 1_000)
    assert "HOTLOOP_DATA_DIR" in refused_start(data_dir=tmp_path)


def test_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with running_server(tmp_path, run_hosts=1):
        pass
    with sqlite3.connect(tmp_path / "hotloop.sqlite3") as database:
        ((table,),) = database.execute(
            "select name from sqlite_master where type = 'table' and name like '%schema%'"
        ).fetchall()
        database.execute(f"update {table} set version = 999")
    database.close()
    assert "newer version" in refused_start(data_dir=tmp_path)


@pytest.mark.parametrize("name", ["avx1024", "AVX512F", ""])
def test_unknown_instruction_set_is_refused(name: str, tmp_path: Path) -> None:
    text = refused_start(instruction_set=name, data_dir=tmp_path)
    assert "HOTLOOP_INSTRUCTION_SET" in text


def test_error_about_the_database_hides_its_password(tmp_path: Path) -> None:
    url = "postgresql://me:planted-secret@127.0.0.1:9/none"
    text = refused_start(
        code=3, database_url=url, log_format="json", store_wait_seconds=1, data_dir=tmp_path
    )
    assert "planted-secret" not in text
    assert "cannot be reached" in text


def test_public_socket_is_refused_without_keys(tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as public:
        number = public.fileno()
        text = refused_start(fd=number, data_dir=tmp_path, descriptors=(number,))
    assert "which is not loopback" in text
    assert "HOTLOOP_API_KEYS" in text


@pytest.mark.parametrize("kind", ["closed", "file", "deaf"])
def test_descriptor_that_is_no_listening_socket_is_refused(tmp_path: Path, kind: str) -> None:
    with (
        (tmp_path / "file").open("w") as file,
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as deaf,
    ):
        number = {"closed": 999, "file": file.fileno(), "deaf": deaf.fileno()}[kind]
        passed = () if kind == "closed" else (number,)
        text = refused_start(fd=number, data_dir=tmp_path, descriptors=passed)
    assert f"HOTLOOP_FD = {number}" in text


def test_several_processes_fail_with_one_reason(tmp_path: Path) -> None:
    (tmp_path / "hotloop.sqlite3").write_text("this is no database, and long enough to be read")
    assert "it is no SQLite file" in refused_start(data_dir=tmp_path, port=0, api_processes=2)
