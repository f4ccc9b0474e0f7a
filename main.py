"""`python main.py` serves."""

import sys

from app.factory import create_app
from app.server import serve
from app.services.machine import check_machine
from app.settings import SettingsError, load_settings


def main() -> None:
    """Serve until told to stop. Settings that cannot be met are printed; the exit status is 2."""
    try:
        settings = load_settings()
        check_machine(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    serve(create_app(settings), settings)


if __name__ == "__main__":
    main()
