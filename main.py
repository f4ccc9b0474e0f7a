"""`python main.py` serves; with a command it is `hotloop`, and `--help` lists them. `main:app` is
the service for other servers: `uvicorn main:app`.
"""

import sys

from app.asgi import LazyApplication

app = LazyApplication()

if __name__ == "__main__":
    from app.cli import main

    main(sys.argv[1:] or ["serve"])
