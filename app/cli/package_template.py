"""The files of a package that `hotloop new` makes. The word NAME stands for the package's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_PROJECT: Final = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "NAME"
version = "0.1.0"
description = "A workload for Hotloop."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["hotloop"]

[project.optional-dependencies]
test = ["pytest"]

# Where the package is installed, `hotloop serve` finds the workload by itself.
[project.entry-points."hotloop.workloads"]
NAME = "NAME:NAME"

[tool.setuptools]
py-modules = ["NAME"]
package-dir = { "" = "." }  # an editable install then puts this folder on the path

[tool.pytest.ini_options]
pythonpath = ["."]
testpaths = ["tests"]
"""

_WORKLOAD: Final = '''\
"""The workload `NAME`: how far cars go until they stand."""

import hotloop

GRAVITY = 9.81
DRAG = 0.4  # half the density of the air, times the area and the drag of a car's front


@hotloop.workload(
    columns={
        "speed": hotloop.Float(0, 100, unit="m/s", description="speed at the start"),
        "mass": hotloop.Float(500, 5_000, unit="kg", description="mass of the car"),
    },
    parameters={
        "friction": hotloop.Float(0.05, 1.5, default=0.7, description="of the tyres"),
        "steps": hotloop.Integer(1, 100_000, default=1_000, description="of the sum"),
    },
    outputs={"distance": hotloop.Float(unit="m", description="until the car stands")},
    cost={"steps": "steps"},
)
def NAME(speed: float, mass: float, friction: float, steps: int) -> float:
    """Distance that a car needs to stop, braked by its tyres and by the air.

    It is the sum of `speed * change / deceleration` over equal changes of the speed.
    """
    change = speed / steps
    distance = 0.0
    for step in range(steps):
        middle = (step + 0.5) * change
        deceleration = friction * GRAVITY + DRAG * middle * middle / mass
        distance += middle * change / deceleration
    return distance
'''

_TEST: Final = '''\
"""The function against the exact answer, and the kernels made from it."""

import math

import pytest
from hotloop.testing import certificate_tests

from NAME import DRAG, GRAVITY, NAME

test_certificate = certificate_tests("NAME:NAME", seconds=20)


@pytest.mark.parametrize("speed", [0.0, 1.0, 30.0, 100.0])
def test_distance_is_the_exact_one(speed: float) -> None:
    mass, friction = 1_500.0, 0.7
    ratio = DRAG * speed**2 / (mass * friction * GRAVITY)
    exact = mass / (2 * DRAG) * math.log1p(ratio)
    assert NAME(speed, mass, friction, 1_000) == pytest.approx(exact, rel=1e-6)
'''

_README: Final = """\
# NAME

A workload for Hotloop. `NAME.py` has a function for one item. Hotloop compiles it, serves it, runs
it over millions of items, and says which way is the fastest.

```sh
pip install -e '.[test]'
pytest
hotloop check NAME:NAME
hotloop serve
```

The service finds the workload by its entry point in `pyproject.toml`. In another shell:

```sh
curl -s localhost:8001/api/v1/tasks/threading -H 'Content-Type: application/json' \\
  -d '{"workload": "NAME", "items": [{"item_id": 1, "speed": 30.0, "mass": 1500.0}]}'
hotloop run --workload NAME --items 100000 --url http://localhost:8001
hotloop compare --workload NAME --items 10000 --budget 20 --url http://localhost:8001
hotloop recommend --workload NAME --items 1000000 --url http://localhost:8001
```

While you change the function, `hotloop serve --reload` takes each change as you save it.
"""


def files_of(name: str) -> Mapping[str, str]:
    """Return the texts of a package's files by their paths in its folder."""
    texts = {
        "pyproject.toml": _PROJECT,
        "README.md": _README,
        f"{name}.py": _WORKLOAD,
        f"tests/test_{name}.py": _TEST,
    }
    return {path: text.replace("NAME", name) for path, text in texts.items()}
