"""`python main.py` serves; with a command it is `hotloop`, and `--help` lists them. `main:app` is
the service for other servers: `uvicorn main:app`.
"""

import sys

from hotloop.asgi import app

__all__ = ["app"]

if __name__ == "__main__":
    from hotloop.app.cli import main

    main(sys.argv[1:] or ["serve"])
