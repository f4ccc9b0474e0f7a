"""`python -m hotloop` is the command `hotloop`."""

from hotloop.app.cli import main

if __name__ == "__main__":
    main()
