"""Targets become declarations, or reasons that name the place; none of them delays another.

app/workloads/describer.py, app/workloads/describing.py, app/workloads/declarations.py and
app/workloads/places.py, with real child processes.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from hotloop.app.workloads import describer
from hotloop.app.workloads.declarations import from_json, to_json
from hotloop.app.workloads.describing import reason_of
from hotloop.app.workloads.places import is_users, place_of
from hotloop.kernels import Workload, get_workload
from hotloop.kernels.functions.loading import load_target, parse_target
from tests.fixtures.own_modules import (
    AREA,
    ENDLESS,
    HOSTILE_IMPORTS,
    described,
    leaving_no_process,
    reason_for,
    start_child,
    write,
)

EVERYTHING = """
import hotloop

@hotloop.workload(
    columns={
        "a": hotloop.Float(-1.5, 2.5, unit="m", sample=lambda ids: ids * 0.0),
        "b": hotloop.Integer(0, 2**64 - 1, dtype="uint64"),
        "c": hotloop.Bool(),
        "d": hotloop.Float(width=3, dtype="float32"),
    },
    parameters={
        "n": hotloop.Integer(1, 9, default=3),
        "kind": hotloop.Choice("put", "call"),
        "flag": hotloop.Bool(default=True),
        "x": hotloop.Float(0, 1, default=0.5),
    },
    outputs={"y": hotloop.Float(ulp=2), "z": hotloop.Integer()},
    scratch={"s": hotloop.Scratch("float64", "n + 1", "2")},
    cost={"first": "n ** 2", "second": "n"},
)
def everything(a, b, c, d, n, kind, flag, x, s):
    return 1.0, 2
"""


def test_declaration_survives_json(tmp_path: Path) -> None:
    (function,) = load_target(parse_target(str(write(tmp_path, "everything", EVERYTHING))))
    wanted = function.declaration
    found = from_json(json.loads(json.dumps(to_json(wanted))))
    assert isinstance(found, Workload)
    assert found == wanted
    assert hash(found.columns_in) == hash(wanted.columns_in)
    assert found.columns_in[0].sampler is None
    assert found.columns_in[0].sample is not None
    assert from_json(json.loads(json.dumps(to_json(get_workload("loops"))))) == get_workload(
        "loops"
    )
    with pytest.raises((TypeError, ValueError, KeyError)):
        from_json({"name": "nothing else"})


def test_reasons_name_what_is_wrong_and_where(tmp_path: Path) -> None:
    paths = [write(tmp_path, name, text) for name, (text, _) in HOSTILE_IMPORTS.items()]
    paths.append(write(tmp_path, "good", AREA))
    with leaving_no_process():
        found = described(*paths)
    assert [each.name for each in found.pop("good").workloads] == ["area"]
    for name, (_, pattern) in HOSTILE_IMPORTS.items():
        outcome = found.pop(name)
        assert outcome.workloads == ()
        assert outcome.reason is not None
        assert outcome.reason.startswith(reason_for(name, pattern)), outcome
        assert str(tmp_path / f"{name}.py") in outcome.files
    assert not found


def test_one_that_hangs_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describer, "PATIENT_SECONDS", 0.3)
    monkeypatch.setattr(describer, "IMPORT_SECONDS", 4.0)
    paths = [
        write(tmp_path, "before", AREA),
        write(tmp_path, "hangs", ENDLESS),
        write(tmp_path, "slow", f"import time\ntime.sleep(1.0)\n{AREA}"),
        write(tmp_path, "behind", AREA),
    ]
    order: list[str] = []

    async def told(place: int, outcome: describer.Described) -> None:
        order.append(f"{paths[place].stem}: {outcome.reason or outcome.workloads[0].name}")

    targets = [(place, parse_target(str(path))) for place, path in enumerate(paths)]
    with leaving_no_process():
        asyncio.run(describer.describe(targets, start_child, told))
    assert order[0] == "before: area"
    assert order.index("behind: area") < 3
    assert order[-1].startswith("hangs: it did not end within 4 s; it was at hangs.py:")
    assert set(order[1:3]) == {"behind: area", "slow: area"}


def test_files_are_those_whose_change_would_change_the_outcome(tmp_path: Path) -> None:
    write(tmp_path, "helper_of_area", "FACTOR = 3.0\n")
    text = AREA.replace("import hotloop", "import hotloop\nimport json\nimport helper_of_area")
    broken = text.replace("import helper_of_area", "import helper_of_area\nhelper_of_area.NOTHING")
    found = described(write(tmp_path, "uses", text), write(tmp_path, "broken", broken))
    helper = str(tmp_path / "helper_of_area.py")
    assert found["uses"].files == {str(tmp_path / "uses.py"), helper}
    assert {str(tmp_path / "broken.py")} <= found["broken"].files


def test_numba_is_not_imported_for_a_description(tmp_path: Path) -> None:
    text = f"import atexit, sys\n{AREA}\nassert 'numba' not in sys.modules, 'numba is here'\n"
    spy = write(tmp_path, "spy", "import sys\nassert 'numba' not in sys.modules, 'numba is here'")
    found = described(write(tmp_path, "area", text), spy)
    assert found["area"].reason is None
    assert "has no workload" in (found["spy"].reason or "")


def test_error_whose_words_fail_has_a_reason() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert reason_of(MuteError()) == "MuteError: "
    assert reason_of(ValueError("one\ntwo   three")) == "ValueError: one two three"
    assert len(reason_of(ValueError("x" * 10_000))) < 1_000


def test_places_are_the_users() -> None:
    assert is_users("/home/me/prices.py")
    for file in (os.__file__, "<frozen runpy>", "/x/site-packages/numpy/core.py"):
        assert not is_users(file)
    assert not is_users(sys.modules[Workload.__module__].__file__ or "")
    assert place_of([(os.__file__, 3)]) == ""
