"""The API processes of one socket: a single one, or several below a supervisor.

The supervisor answers no requests itself. It starts the processes, replaces each that ends, and
keeps the socket open, so that new connections meanwhile wait for another process.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import secrets
import signal
import socket
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from hotloop.app.logs.setup import set_up_logging
from hotloop.app.observability.metrics_folder import forget_process, metrics_folder
from hotloop.app.serving.server import address_of, open_listener, serve_app
from hotloop.app.settings.environment import drop_settings
from hotloop.app.settings.rules import MIN_SECRET_BYTES
from hotloop.app.settings.settings import Settings, SettingsError
from hotloop.app.system import end_with_parent

logger = logging.getLogger(__name__)

_SPAWN: Final = multiprocessing.get_context("spawn")

START_SECONDS: Final = 60.0
"""Time that a process may take until it listens."""

PAUSE_SECONDS: Final = 1.0
"""Pause before an ended process is replaced, in case the new one ends at once, too."""

CLOSE_SECONDS: Final = 30.0
"""Time for a process to close its run hosts and its store, after the time for its requests."""

START_FAILED: Final = 3


@dataclass(slots=True)
class _Process:
    process: SpawnProcess
    ready: Connection
    """Gets a byte when the process listens, and is closed when it ends."""
    was_ready: bool = False


class Supervisor:
    """Runs the API processes. SIGTERM and SIGINT end them all; SIGHUP replaces one after the other,
    each when its successor listens.
    """

    def __init__(
        self, settings: Settings, listener: socket.socket, folder: Path, announcement: str
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._folder = folder
        self._announcement = announcement
        self._processes: list[_Process] = []
        self._signals: list[int] = []
        self._wake_up, self._wake = os.pipe()
        self._announced = False

    def run(self) -> None:
        """Return after SIGTERM or SIGINT, when all processes have ended."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note)
        try:
            count = self._settings.api_processes
            self._processes = [self._start(announces=place == 0) for place in range(count)]
            while not self._is_stopping:
                if signal.SIGHUP in self._signals:
                    self._signals.remove(signal.SIGHUP)
                    self._restart_all()
                else:
                    self._look_after()
        finally:
            self._end(self._processes)

    def _note(self, number: int, _: object) -> None:
        self._signals.append(number)
        os.write(self._wake, b"!")

    @property
    def _is_stopping(self) -> bool:
        return signal.SIGTERM in self._signals or signal.SIGINT in self._signals

    def _start(self, *, announces: bool = False) -> _Process:
        ready, theirs = _SPAWN.Pipe(duplex=False)
        process = _SPAWN.Process(
            target=serve_child,
            args=(self._settings, self._listener, theirs, announces),
            name="hotloop-api",
        )
        process.start()
        theirs.close()
        return _Process(process, ready)

    def _look_after(self) -> None:
        """Wait for a signal, or for a process that listens or ends, and react to it."""
        watched: list[Connection | int] = [self._wake_up]
        watched += [p.process.sentinel for p in self._processes]
        watched += [p.ready for p in self._processes if not p.was_ready]
        happened = wait(watched)
        if self._wake_up in happened:
            os.read(self._wake_up, 1_024)
        for place, process in enumerate(self._processes):
            if process.ready in happened and not process.was_ready:
                process.was_ready = _said(process.ready)
            if process.process.sentinel in happened:
                self._replace(place, process)
        if not self._announced and all(p.was_ready for p in self._processes):
            self._announced = True
            logger.info("%s", self._announcement)

    def _replace(self, place: int, ended: _Process) -> None:
        self._bury(ended)
        if self._is_stopping:
            return
        code = ended.process.exitcode
        if not self._announced and not ended.was_ready:
            logger.error("process %d ended with %s before it listened", ended.process.pid, code)
            sys.exit(START_FAILED)
        logger.warning("process %d ended with %s; starting another", ended.process.pid, code)
        self._pause(PAUSE_SECONDS)
        if not self._is_stopping:
            self._processes[place] = self._start()

    def _restart_all(self) -> None:
        for place, old in enumerate(self._processes):
            new = self._start()
            give_up = time.monotonic() + START_SECONDS
            while not self._is_stopping and time.monotonic() < give_up:
                happened = wait([new.ready, self._wake_up], give_up - time.monotonic())
                if self._wake_up in happened:
                    os.read(self._wake_up, 1_024)
                if new.ready in happened:
                    new.was_ready = _said(new.ready)
                    break
            if self._is_stopping or not new.was_ready:
                if not self._is_stopping:
                    logger.error("the new process does not listen; the old ones stay")
                self._end([new])
                return
            self._processes[place] = new
            self._end([old])
            logger.info("process %d answers in place of %d", new.process.pid, old.process.pid)

    def _pause(self, seconds: float) -> None:
        wait([self._wake_up], seconds)

    def _end(self, processes: list[_Process]) -> None:
        """Ask the processes to end, and kill each that does not."""
        for process in processes:
            if process.process.is_alive():
                process.process.terminate()
        settings = self._settings
        give_up = settings.drain_seconds + settings.shutdown_seconds + CLOSE_SECONDS
        give_up += time.monotonic()
        for process in processes:
            process.process.join(max(0.0, give_up - time.monotonic()))
            if process.process.is_alive():
                logger.error("process %d did not end and is killed", process.process.pid)
                process.process.kill()
            self._bury(process)

    def _bury(self, process: _Process) -> None:
        process.process.join()
        process.ready.close()
        if process.process.pid is not None:
            forget_process(self._folder, process.process.pid)


def _said(ready: Connection) -> bool:
    try:
        return bool(ready.recv_bytes())
    except EOFError:
        return False


def serve_child(
    settings: Settings, listener: socket.socket, ready: Connection, announces: bool
) -> None:
    """Serve in an API process until a signal stops it or the supervisor is gone."""
    set_up_logging(settings.log_options, "api", settings.secrets())
    end_with_parent(end=lambda: os.kill(os.getpid(), signal.SIGTERM))
    serve_app(settings, listener, lambda: ready.send_bytes(b"!"), announces=announces)


def _with_one_secret(settings: Settings) -> Settings:
    """Return the settings with one session secret for all processes, so that a browser that signs
    in at one process is signed in at all.
    """
    if settings.session_secret is not None:
        return settings
    made = SecretStr(secrets.token_urlsafe(MIN_SECRET_BYTES))
    return settings.model_copy(update={"session_secret": made})


def serve(settings: Settings) -> None:
    """Serve until a signal stops the service. If the socket cannot be opened, print why and exit
    with status 2.
    """
    try:
        listener = open_listener(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    drop_settings()
    set_up_logging(settings.log_options, "api", settings.secrets())
    if settings.api_processes > 1:
        settings = _with_one_secret(settings)
        with metrics_folder(settings.data_dir) as folder:
            announce = f"running on {address_of(listener)} in {settings.api_processes} processes"
            Supervisor(settings, listener, folder, announce).run()
        return

    def announce_one() -> None:
        logger.info("running on %s (Ctrl-C ends it)", address_of(listener))

    serve_app(settings, listener, announce_one)
