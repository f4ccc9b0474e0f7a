"""The backup in docs/operations.md works as written."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.server import ROOT, running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

BODY = {"items_count": 40, "batch_size": 10, "db": "none", "cache": "none", "kernel": "python"}


def test_copy_of_the_store_that_is_made_while_it_is_used_is_a_store(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    (command,) = re.findall(r"```text\n(python3 -c .*VACUUM.*)\n```", page)
    words = shlex.split(command)
    data = tmp_path / "data"
    data.mkdir()
    with running_server(data, run_hosts=1) as server:
        url = "/api/v1/tasks/background"
        accepted = server.client.post(url, json=BODY | {"strategy": "sequential"}).json()
        status = f"/api/v1/tasks/status/{accepted['task_id']}"
        wait_until(lambda: server.client.get(status).json()["status"] == "completed", "it ends")
        results = server.client.get(f"/api/v1/tasks/results/{accepted['task_id']}").content
        subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, check=True)
    shutil.rmtree(data)
    data.mkdir()
    (tmp_path / "copy.sqlite3").rename(data / "hotloop.sqlite3")
    with running_server(data, run_hosts=1) as server:
        assert server.client.get(status).json()["status"] == "completed"
        again = server.client.get(f"/api/v1/tasks/results/{accepted['task_id']}").content
        assert again == results
        assert len(again.splitlines()) == 40
        answer = server.client.post(url, json=BODY | {"strategy": "sequential"})
        assert answer.status_code == 202
