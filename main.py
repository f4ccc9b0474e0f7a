"""`python main.py` serves; with a command it is `hotloop`, and `--help` lists them."""

import sys

from app.cli import main

if __name__ == "__main__":
    main(sys.argv[1:] or ["serve"])
