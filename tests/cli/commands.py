"""All commands, with the examples of their help."""

from hotloop.app.cli import (
    checking,
    comparing,
    listing,
    new_package,
    recommending,
    running,
    serving,
    task_commands,
)

EXAMPLES: dict[str, tuple[str, ...]] = {
    "serve": serving.SERVE_EXAMPLES,
    "node": serving.NODE_EXAMPLES,
    "key": serving.KEY_EXAMPLES,
    "new": new_package.EXAMPLES,
    "check": checking.EXAMPLES,
    "kernels": listing.EXAMPLES,
    "run": running.EXAMPLES,
    "compare": comparing.EXAMPLES,
    "recommend": recommending.RECOMMEND_EXAMPLES,
    "calibrate": recommending.CALIBRATE_EXAMPLES,
    **{f"tasks {name}": examples for name, examples in task_commands.EXAMPLES.items()},
}

COMMANDS = list(EXAMPLES)
