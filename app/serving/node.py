"""A node: executes background tasks of the shared database, and answers no requests."""

from __future__ import annotations

import asyncio
import logging
import signal

from hotloop.app.logs.setup import set_up_logging
from hotloop.app.settings.settings import Settings, SettingsError
from hotloop.app.wiring import open_services

logger = logging.getLogger(__name__)


def check_node(settings: Settings) -> None:
    """Raises SettingsError for settings with which a node would do nothing."""
    if settings.background_runs == 0:
        raise SettingsError(
            "HOTLOOP_BACKGROUND_RUNS must be at least 1 for a node (got 0): it would execute "
            "nothing. Unset it for the default, 1."
        )


def run_node(settings: Settings) -> None:
    """Execute tasks until SIGTERM or SIGINT; then what is unfinished is others' to go on with."""
    set_up_logging(settings.log_options, "node", settings.secrets())
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with open_services(settings, role="node") as services:
        logger.info("node %s takes tasks", services.node)
        await stopping.wait()
        logger.info("node %s leaves", services.node)
