"""Rules that a setting's value must meet beyond its type and its bounds.

A function named like a setting, or like its kind of value, returns the value, or raises the error
that `refuse` makes. No text shows the value: it may be a secret, or contain one.
"""

from __future__ import annotations

import importlib
import importlib.util
import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr
from pydantic_core import PydanticCustomError

from hotloop.app.names import JwtAlgorithm
from hotloop.app.wording import RULE

if TYPE_CHECKING:  # takes long to import, and only a service with tokens needs it
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    TokenKey = bytes | RSAPublicKey | EllipticCurvePublicKey

PREFIX: Final = "HOTLOOP_"

RESERVED_SOURCES: Final = frozenset({"simulated", "none", "redis", "pinot"})

MIN_SECRET_BYTES: Final = 32
"""Bytes of a SHA-256, as RFC 7518, section 3.2, asks for."""

MIN_RSA_BITS: Final = 2_048
"""The least that RFC 7518, section 3.3, allows."""

_RATE: Final = re.compile(
    r"[1-9][0-9]{0,8}/([1-9][0-9]{0,3} ?)?(second|minute|hour|day)s?", re.IGNORECASE
)
_LIMIT: Final = re.compile(r"\blimit\b", re.IGNORECASE)


def refuse(text: str) -> PydanticCustomError:
    """Return the error to raise; its text follows the name of the variable in the message."""
    return PydanticCustomError(RULE, "{text}", {"text": text})


def _split(url: str) -> SplitResult:
    """Return a URL's parts, all empty if it cannot be read. (urlsplit's errors show the URL.)"""
    try:
        parts = urlsplit(url)
        if parts.port != 0:
            return parts
    except ValueError:
        pass
    return SplitResult("", "", "", "", "")


@lru_cache
def is_loopback(host: str) -> bool:
    """Return True if a name or address (`[::1]`, `::1`) means this machine. Resolves no names."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def host_of(authority: str) -> str:
    """Return the host in `authority`, without the port and in small letters."""
    text = authority.strip().lower()
    if text.startswith("["):
        return text[: text.find("]") + 1]
    return text.partition(":")[0]


def is_named(host: str, names: Collection[str]) -> bool:
    """Return True if a host, in small letters, is one of these names, or below one with `*.`."""
    parents = (f"*.{host.split('.', cut)[-1]}" for cut in range(1, host.count(".") + 1))
    return host in names or any(parent in names for parent in parents)


def load_factory(target: str) -> Callable[..., Any]:
    """Import the callable that `module:callable` names. Raises ImportError, AttributeError,
    ValueError or TypeError if there is none.
    """
    module, _, name = target.partition(":")
    factory = getattr(importlib.import_module(module), name)
    if not callable(factory):
        raise TypeError(f"{target} cannot be called")
    made: Callable[..., Any] = factory
    return made


def load_key(text: str, algorithm: JwtAlgorithm) -> TokenKey:
    """Return the key that tokens are checked with. Raises ValueError, without the key in its text,
    for a key of another algorithm: everybody would know a public key used as a secret.
    """
    if algorithm is JwtAlgorithm.HS256:
        if "-----BEGIN" in text:
            raise ValueError("must be a secret for HS256; PEM keys are for RS256 and ES256")
        if len(text.encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"must be a secret of at least {MIN_SECRET_BYTES} bytes for HS256")
        return text.encode()
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(text.encode())
    except Exception:  # there are several kinds, and they may quote the key
        raise ValueError(f"must be a public key in PEM for {algorithm}") from None
    if algorithm is JwtAlgorithm.RS256 and isinstance(key, RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise ValueError(f"must have at least {MIN_RSA_BITS:,} bits for RS256")
        return key
    if algorithm is JwtAlgorithm.ES256 and isinstance(key, EllipticCurvePublicKey):
        if isinstance(key.curve, SECP256R1):
            return key
        raise ValueError("must be on the curve P-256 for ES256")
    raise ValueError(f"must be a public key for {algorithm}; this one is for another algorithm")


def absolute_path(value: Path) -> Path:
    if "\0" in str(value):
        raise refuse("must not contain a null character")
    return value.expanduser().absolute()


def absolute_folder(value: Path | None) -> Path | None:
    return None if value is None else absolute_path(value)


def split_targets(value: Any) -> Any:
    """Part the text of the environment at its commas; leave what is a list already."""
    if not isinstance(value, str):
        return value
    return tuple(target.strip() for target in value.split(",") if target.strip())


def postgresql_url(value: SecretStr | None) -> SecretStr | None:
    if value is not None:
        parts = _split(value.get_secret_value())
        if parts.scheme != "postgresql" or len(parts.path) < 2 or parts.fragment:
            raise refuse(
                "must be like postgresql://user:password@host:5432/name; write each character of "
                "the password that is not a letter or digit as % and two hexadecimal digits"
            )
    return value


def node_name(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[A-Za-z0-9._-]+", value):
        raise refuse("must consist of letters, digits, dots, - and _")
    return value


def readable_file(value: Path | None) -> Path | None:
    if value is None:
        return None
    found = absolute_path(value)
    if not found.is_file():
        raise refuse("must be a file that exists")
    return found


def collector_url(value: str | None) -> str | None:
    if value is not None:
        parts = _split(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in value:
            raise refuse(
                "must be like http://host:4318/v1/traces, without user and password; set "
                "OTEL_EXPORTER_OTLP_HEADERS to the headers that the collector needs"
            )
        if importlib.util.find_spec("opentelemetry.exporter") is None:
            raise refuse("needs the extra otel; run: pip install 'hotloop[otel]'")
    return value


def key_digest(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
        raise refuse(
            "must be the SHA-256 of a key, 64 digits 0-9a-f, not the key itself and not a "
            "password; `hotloop key NAME` makes a key and "
            "prints this entry"
        )
    return value


def long_secret(value: SecretStr | None) -> SecretStr | None:
    if value is not None and len(value.get_secret_value().encode()) < MIN_SECRET_BYTES:
        raise refuse(f"must have at least {MIN_SECRET_BYTES} bytes; choose a longer random text")
    return value


def host_names(value: tuple[str, ...]) -> tuple[str, ...]:
    for name in value:
        if not re.fullmatch(r"(\*\.)?[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]", name):
            raise refuse("must be names without scheme and port, like hotloop.example")
    return tuple(name.lower() for name in value)


def origins(value: tuple[str, ...]) -> tuple[str, ...]:
    for origin in value:
        parts = _split(origin)
        is_whole = f"{parts.scheme}://{parts.netloc}" == origin
        if not is_whole or parts.scheme not in ("http", "https") or not parts.hostname:
            raise refuse(
                "must be origins like https://app.example or http://localhost:3000, without a "
                "path; `*` is refused because it would admit every page on the internet"
            )
        if parts.username is not None or "*" in origin:
            raise refuse("must be origins without a user name and without `*`")
    return tuple(origin.lower() for origin in value)


def rate(value: str | None) -> str | None:
    if value is not None and not _RATE.fullmatch(value):
        raise refuse("must be like 600/minute, 20/second or 5000/2 hours")
    return value


def rate_storage_url(value: SecretStr | None) -> SecretStr | None:
    if value is not None:
        parts = _split(value.get_secret_value())
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise refuse("must be like redis://host:6379/1 or rediss://…")
    return value


def redis_url(value: SecretStr | None) -> SecretStr | None:
    if value is not None:
        parts = _split(value.get_secret_value())
        where = parts.path if parts.scheme == "unix" else parts.hostname
        if parts.scheme not in ("redis", "rediss", "unix") or not where:
            raise refuse("must be like redis://host:6379/0, rediss://… or unix:///path")
        options = [option.partition("=")[0] for option in parts.query.split("&") if option]
        if any(name != "db" and not name.startswith("ssl_") for name in options):
            raise refuse("may only have the options db and ssl_…; remove the others")
    return value


def redis_key(value: str) -> str:
    if value.count("{id}") != 1:
        raise refuse("must have {id} exactly once, where the item's id goes")
    return value


def pinot_url(value: str | None) -> str | None:
    if value is not None:
        parts = _split(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise refuse("must be like http://broker:8099 or https://…")
        if parts.username is not None or parts.password is not None:
            raise refuse(f"must not contain credentials; set {PREFIX}PINOT_AUTHORIZATION instead")
        if parts.query or parts.fragment:
            raise refuse("must end with the host, the port or a path; remove what follows")
    return value


def pinot_authorization(value: SecretStr | None) -> SecretStr | None:
    if value is not None and not re.fullmatch("(Basic|Bearer) [!-~]+", value.get_secret_value()):
        raise refuse("must be one line, like Basic … or Bearer …")
    return value


def pinot_sql(value: str) -> str:
    if value.count("{ids}") != 1:
        raise refuse("must have {ids} exactly once, like: WHERE item_id IN ({ids})")
    if _LIMIT.search(value) or ";" in value:
        raise refuse("must be one query without LIMIT and semicolon; LIMIT is added to it")
    return value.strip()


def own_sources(value: dict[str, str]) -> dict[str, str]:
    for name, target in value.items():
        if not re.fullmatch("[a-z][a-z0-9_-]{0,63}", name) or name in RESERVED_SOURCES:
            raise refuse(
                "must have names of small letters, digits, - and _, except "
                f"{', '.join(sorted(RESERVED_SOURCES))}"
            )
        try:
            load_factory(target)
        except (ImportError, AttributeError, ValueError, TypeError) as error:
            raise refuse(
                f"must have a module:callable for {name} that can be imported "
                f"({type(error).__name__}: {error})"
            ) from error
    return value


def secrets_in(value: object) -> Iterator[str]:
    """Yield the text of every secret in a value, however deep."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, Mapping):
        yield from secrets_in(list(value.values()))
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for part in value:
            yield from secrets_in(part)
