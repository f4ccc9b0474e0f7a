"""`python -P -m hotloop.app.workloads.child ORDER`: started by the API process only.

A short-lived process in which users' code is imported. The order is a JSON object: `options` of the
sandbox, the `mode`, and what the mode needs. One JSON object for each finding goes to the API
process; what is under way is always named first, so that the API process knows what ended it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from hotloop.app.system import bound_freed_memory
from hotloop.app.workloads.sandbox import SandboxOptions, Tell, run_in_sandbox


def describe(order: Mapping[str, Any], tell: Tell) -> None:
    """Import targets and tell their declarations."""
    from hotloop.app.workloads.describing import describe_targets

    describe_targets(order["targets"], tell)


def examine(order: Mapping[str, Any], tell: Tell) -> None:
    """Load the kernels of a workload and measure what they cost."""
    from hotloop.app.workloads.examining import Order, examine_kernels

    bound_freed_memory()  # as in a worker process, so that it takes the same time
    examine_kernels(Order.from_json(order), tell)


MODES: Final[Mapping[str, Callable[[Mapping[str, Any], Tell], None]]] = {
    "describe": describe,
    "examine": examine,
}


def main() -> None:
    order = json.loads(sys.argv[1])
    options = SandboxOptions(**order["options"])
    run_in_sandbox(options, lambda tell: MODES[order["mode"]](order, tell))


if __name__ == "__main__":
    main()
