"""`python main.py` serves; `python main.py node` executes background tasks only."""

import argparse
import logging
import sys
from collections.abc import Callable

from app.factory import create_app
from app.node import check_node, run_node
from app.server import serve
from app.services.machine import check_machine
from app.settings import Settings, SettingsError, load_settings


def main() -> None:
    """Run until told to stop. Settings that cannot be met are printed; the exit status is 2."""
    parser = argparse.ArgumentParser(prog="hotloop", description="CPU-heavy work behind FastAPI.")
    parser.add_argument(
        "command",
        nargs="?",
        choices=["serve", "node"],
        default="serve",
        help="serve: the API (the default); node: background tasks of a shared database only",
    )
    command = parser.parse_args().command
    try:
        settings = load_settings()
        check_machine(settings)
        run = _node(settings) if command == "node" else _serve
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    run(settings)


def _serve(settings: Settings) -> None:
    serve(create_app(settings), settings)


def _node(settings: Settings) -> Callable[[Settings], None]:
    check_node(settings)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s:     %(message)s")
    return run_node


if __name__ == "__main__":
    main()
