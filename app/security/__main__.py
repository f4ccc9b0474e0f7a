"""Makes an API key: `python -m hotloop.app.security NAME [--scope read|run|admin]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from hotloop.app.names import Scope
from hotloop.app.security.clients import digest_of, new_key
from hotloop.app.settings.settings import ApiKeyEntry
from hotloop.app.wording import describe


def key_texts(name: str, scope: Scope) -> tuple[str, str]:
    """A new key, and its entry in HOTLOOP_API_KEYS as JSON. ValueError for a wrong name."""
    key = new_key()
    entry = {"name": name, "hash": digest_of(key), "scopes": [scope.value]}
    try:
        ApiKeyEntry.model_validate_json(json.dumps(entry))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, fault['loc']))} {describe(fault)}") from None
    return key, json.dumps(entry)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 2 for a name that cannot be one."""
    parser = argparse.ArgumentParser(
        prog="python -m hotloop.app.security", description="Make an API key."
    )
    parser.add_argument("name", help="whose key it is; tasks belong to this name")
    parser.add_argument("--scope", choices=list(Scope), type=Scope, default=Scope.RUN)
    wanted = parser.parse_args(arguments)
    try:
        key, entry = key_texts(wanted.name, wanted.scope)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"The key, shown this once; the service keeps only its hash:\n{key}")
    print(f"Its entry in the list HOTLOOP_API_KEYS:\n{entry}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
