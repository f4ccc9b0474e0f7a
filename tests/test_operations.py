"""The backup in docs/operations.md works as written."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.server import LITTLE, ROOT, running_server

pytestmark = pytest.mark.long


def test_backup_of_a_store_in_use_is_a_valid_store(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    (command,) = re.findall(r"```text\n(python3 -c .*VACUUM.*)\n```", page)
    words = shlex.split(command)
    data = tmp_path / "data"
    data.mkdir()
    with running_server(data, run_hosts=1) as server:
        task_id = server.submit(**LITTLE, strategy="sequential")
        server.ended(task_id)
        results = server.client.get(f"/api/v1/tasks/results/{task_id}").content
        subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, check=True)
    shutil.rmtree(data)
    data.mkdir()
    (tmp_path / "copy.sqlite3").rename(data / "hotloop.sqlite3")
    with running_server(data, run_hosts=1) as server:
        server.ended(task_id)
        again = server.client.get(f"/api/v1/tasks/results/{task_id}").content
        assert again == results
        assert len(again.splitlines()) == LITTLE["items_count"]
        server.submit(**LITTLE, strategy="sequential")
