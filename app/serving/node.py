"""The checks before a process starts, and the node: a process that executes background tasks of the
shared database. At most it answers probes and scrapes of metrics, on a port of its own.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Final

from hotloop import kernels
from hotloop.app.database.engine import lets_nobody_in
from hotloop.app.errors import StoreError, StoreUnavailableError
from hotloop.app.logs.setup import set_up_logging
from hotloop.app.settings.settings import Settings, SettingsError
from hotloop.app.tasks.folder import DataFolder
from hotloop.app.tasks.store import open_store
from hotloop.app.wiring import open_services

logger = logging.getLogger(__name__)

_PAUSE_SECONDS: Final = 0.5
"""Time between two attempts to open the store."""


def check_machine(settings: Settings, is_stopping: Callable[[], bool] = lambda: False) -> None:
    """Check the settings against this machine, before the server starts. Blocks.

    Raises SettingsError for an instruction set that no kernel has here and for a data folder that
    cannot be used, and StoreUnavailableError for a database that could not be reached for
    HOTLOOP_STORE_WAIT_SECONDS, or until `is_stopping`.
    """
    _check_instruction_set(settings)
    try:
        DataFolder(settings.data_dir)
    except StoreError as error:
        raise SettingsError(f"HOTLOOP_DATA_DIR ({settings.data_dir}): {error}") from error
    _await_store(settings, is_stopping)


def _await_store(settings: Settings, is_stopping: Callable[[], bool]) -> None:
    give_up = time.monotonic() + settings.store_wait_seconds
    is_told = False
    while True:
        try:
            open_store(settings.store_location).close()
        except StoreError as error:
            may_pass = isinstance(error, StoreUnavailableError) and not lets_nobody_in(error)
            if not may_pass:
                raise SettingsError(f"{_place(settings)}: {error}") from error
            if not is_told and settings.store_wait_seconds > 0:
                is_told = True
                logger.warning(
                    "%s; waiting for it for up to %g s (HOTLOOP_STORE_WAIT_SECONDS)",
                    error,
                    settings.store_wait_seconds,
                )
            if is_stopping() or time.monotonic() >= give_up:
                raise StoreUnavailableError(f"{_place(settings)}: {error}") from error
        else:
            return
        time.sleep(_PAUSE_SECONDS)


def _place(settings: Settings) -> str:
    """Return the setting that says where the store is."""
    if settings.database_url is None:
        return f"HOTLOOP_DATA_DIR ({settings.data_dir})"
    return "HOTLOOP_DATABASE_URL"


def _check_instruction_set(settings: Settings) -> None:
    wanted = settings.instruction_set
    if wanted is None:
        return
    usable = {
        name
        for workload in kernels.workloads()
        for kernel in kernels.available_kernels(workload)
        for name in kernels.instruction_sets(workload, kernel)
    }
    if wanted not in usable:
        raise SettingsError(
            "HOTLOOP_INSTRUCTION_SET must be one that a kernel has on this machine: "
            f"{', '.join(sorted(usable)) or 'none'} (got {wanted}). Unset it for the best."
        )


def check_node(settings: Settings) -> None:
    """Refuse settings with which a node would execute nothing. Raises SettingsError."""
    if settings.background_runs == 0:
        raise SettingsError(
            "HOTLOOP_BACKGROUND_RUNS must be at least 1 for a node (got 0): it would execute "
            "nothing. Unset it for the default, 1."
        )


def run_node(settings: Settings) -> None:
    """Execute tasks until SIGTERM or SIGINT. Other nodes then continue the unfinished tasks. If the
    port cannot be opened, print why and exit with status 2.
    """
    listener = None
    if settings.node_port is not None:
        # Imported here: a node that answers no requests needs no web framework in its memory.
        from hotloop.app.serving.server import bound_socket

        try:
            listener = bound_socket(settings.host, settings.node_port, "HOTLOOP_NODE_PORT")
        except SettingsError as error:
            print(error, file=sys.stderr)
            sys.exit(2)
    set_up_logging(settings.log_options, "node", settings.secrets())
    asyncio.run(_take_tasks(settings, listener))


async def _take_tasks(settings: Settings, listener: socket.socket | None) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    server, answering = None, None
    async with open_services(settings, role="node") as services:
        logger.info("node %s takes tasks", services.node)
        if listener is not None:
            from hotloop.app.serving.server import node_server

            server = node_server(settings, services, listener)
            answering = asyncio.create_task(server.serve([listener]))
            answering.add_done_callback(lambda _: stopping.set())  # a server that fails ends all
        await stopping.wait()
        logger.info("node %s leaves", services.node)
        if server is not None:
            server.should_exit = True  # the port closes while tasks are handed over
    if answering is not None:
        await answering
