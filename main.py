"""`python main.py` serves."""

import math
import sys

import uvicorn

from app.factory import create_app
from app.settings import SettingsError, load_settings


def main() -> None:
    """Serve until told to stop. Wrong settings are printed, and the exit status is 2."""
    try:
        settings = load_settings()
        app = create_app(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        timeout_graceful_shutdown=math.ceil(settings.shutdown_seconds),
    )


if __name__ == "__main__":
    main()
