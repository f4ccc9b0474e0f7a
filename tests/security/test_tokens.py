"""Bearer tokens, signed for real: what is let in, as whom, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from hotloop.app.errors import MissingScopeError, UnauthorizedError
from hotloop.app.names import JwtAlgorithm, Scope
from hotloop.app.security.clients import Client
from hotloop.app.security.gate import Credentials, Gate
from hotloop.app.security.tokens import LEEWAY_SECONDS, TokenCheck
from hotloop.app.settings.environment import load_settings
from hotloop.app.settings.rules import load_key
from hotloop.app.settings.settings import Settings, SettingsError

AUDIENCE = "https://hotloop.example"
SECRET = "s" * 64
RSA, SMALL_RSA = (rsa.generate_private_key(65_537, bits) for bits in (2_048, 1_024))
P256, P384 = (ec.generate_private_key(curve()) for curve in (ec.SECP256R1, ec.SECP384R1))

Claims = dict[str, Any]


def private_pem(key: PrivateKeyTypes) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_pem(key: PrivateKeyTypes) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


KEYS: dict[str, tuple[Any, str]] = {
    "ES256": (P256, public_pem(P256)),
    "HS256": (SECRET, SECRET),
    "RS256": (RSA, public_pem(RSA)),
}
"""The signing and the checking key of each algorithm."""


def claims(**changes: Any) -> Claims:
    """Return the claims of an accepted token; None leaves a claim out."""
    now = int(time.time())
    given = {"sub": "alice", "aud": AUDIENCE, "exp": now + 600, "scope": "openid run"} | changes
    return {name: value for name, value in given.items() if value is not None}


def signed(algorithm: str = "HS256", **changes: Any) -> str:
    return jwt.encode(claims(**changes), KEYS[algorithm][0], algorithm)


def check(algorithm: str = "HS256", issuer: str | None = None) -> TokenCheck:
    return TokenCheck(KEYS[algorithm][1], JwtAlgorithm(algorithm), AUDIENCE, issuer)


def by_hand(header: Claims, payload: Claims, sign: Callable[[bytes], bytes]) -> str:
    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    text = ".".join(part(json.dumps(one).encode()) for one in (header, payload))
    return f"{text}.{part(sign(text.encode()))}"


@pytest.mark.parametrize("algorithm", sorted(KEYS))
def test_signed_token_is_its_subject(algorithm: str) -> None:
    client = check(algorithm).client_of(signed(algorithm))
    assert client == Client("alice", "jwt:alice", Scope.RUN)


@pytest.mark.parametrize(
    ("words", "scope"),
    [("read", Scope.READ), ("admin profile read", Scope.ADMIN), ("run read", Scope.RUN)],
)
def test_highest_scope_counts(words: str, scope: Scope) -> None:
    assert check().client_of(signed(scope=words)).scope is scope


@pytest.mark.parametrize("words", [None, "", "openid", "RUN", "runs", ["run"], 7, {"run": True}])
def test_token_without_a_known_scope_is_refused(words: Any) -> None:
    with pytest.raises(MissingScopeError, match="alice"):
        check().client_of(signed(scope=words))


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": None},
        {"exp": -LEEWAY_SECONDS - 5},
        {"exp": "soon"},
        {"nbf": 3_600},
        {"iat": 3_600},
        {"aud": None},
        {"aud": "https://another.example"},
        {"aud": f"{AUDIENCE}/"},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 201},
        {"sub": "a\x00b"},
        {"sub": " alice"},
        {"sub": "älice"},
    ],
    ids=str,
)
def test_wrong_claims_are_refused(changes: Claims) -> None:
    """Times are seconds from now."""
    for name, value in changes.items():
        if name in ("exp", "nbf", "iat") and isinstance(value, int):
            changes = {name: int(time.time()) + value}
    with pytest.raises(UnauthorizedError, match="the bearer token is refused"):
        check().client_of(by_secret(changes))


def by_secret(changes: Claims) -> str:
    """PyJWT does not sign whatever one wants."""
    digest = lambda text: hmac.new(SECRET.encode(), text, hashlib.sha256).digest()  # noqa: E731
    return by_hand({"alg": "HS256", "typ": "JWT"}, claims(**changes), digest)


def test_manually_signed_token_is_accepted() -> None:
    assert check().client_of(by_secret({})).name == "alice"


def test_issuer_is_required_if_it_is_set() -> None:
    ours = check(issuer="https://id.example")
    assert ours.client_of(signed(iss="https://id.example")).name == "alice"
    for issuer in (None, "https://evil.example", "https://id.example/"):
        with pytest.raises(UnauthorizedError):
            ours.client_of(signed(iss=issuer))
    assert check().client_of(signed(iss="anybody")).name == "alice"


@pytest.mark.parametrize("algorithm", sorted(KEYS))
@pytest.mark.parametrize("name", ["none", "None", "NONE", "", None])
def test_unsigned_token_is_refused(algorithm: str, name: str | None) -> None:
    token = by_hand({"alg": name, "typ": "JWT"}, claims(), lambda text: b"")
    with pytest.raises(UnauthorizedError):
        check(algorithm).client_of(token)


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
@pytest.mark.parametrize("name", ["HS256", "HS384", "HS512"])
def test_public_key_is_no_secret(algorithm: str, name: str) -> None:
    """Algorithm confusion: signed with what everybody has."""
    public = KEYS[algorithm][1].encode()
    hashes = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
    for key in (public, public.strip()):
        token = by_hand(
            {"alg": name, "typ": "JWT"},
            claims(),
            lambda text, key=key: hmac.new(key, text, hashes[name]).digest(),  # type: ignore[misc]
        )
        with pytest.raises(UnauthorizedError):
            check(algorithm).client_of(token)


@pytest.mark.parametrize(
    ("ours", "signer", "algorithm"),
    [
        ("HS256", SECRET, "HS512"),
        ("HS256", RSA, "RS256"),
        ("RS256", P256, "ES256"),
        ("RS256", RSA, "RS512"),
        ("RS256", RSA, "PS256"),
        ("ES256", P384, "ES384"),
        ("HS256", "t" * 64, "HS256"),
        ("RS256", rsa.generate_private_key(65_537, 2_048), "RS256"),
        ("ES256", ec.generate_private_key(ec.SECP256R1()), "ES256"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_other_keys_and_algorithms_are_refused(ours: str, signer: Any, algorithm: str) -> None:
    token = jwt.encode(claims(), signer, algorithm)
    with pytest.raises(UnauthorizedError):
        check(ours).client_of(token)


@pytest.mark.parametrize("key", ["jwk", "jku", "x5u", "kid"])
def test_key_inside_a_token_is_ignored(key: str) -> None:
    other = "t" * 64
    value: Any = {"kty": "oct", "k": base64.urlsafe_b64encode(other.encode()).decode()}
    header = {key: value if key == "jwk" else "../../dev/null"}
    token = jwt.encode(claims(), other, "HS256", headers=header)
    with pytest.raises(UnauthorizedError):
        check().client_of(token)


@pytest.mark.parametrize("token", ["", ".", "a.b", "a.b.c", "é.é.é", "....", "hl_" + "x" * 43])
def test_malformed_token_is_refused(token: str) -> None:
    with pytest.raises(UnauthorizedError):
        check().client_of(token)


def test_changed_token_is_refused() -> None:
    head, _, signature = signed(scope="read").split(".")
    _, body, _ = signed(scope="admin").split(".")
    with pytest.raises(UnauthorizedError):
        check().client_of(f"{head}.{body}.{signature}")


@pytest.mark.parametrize(
    ("key", "algorithm", "words"),
    [
        ("s" * 31, "HS256", "at least 32 bytes"),
        ("", "HS256", "at least 32 bytes"),
        (public_pem(RSA), "HS256", "PEM"),
        (private_pem(RSA), "HS256", "PEM"),
        (SECRET, "RS256", "public key in PEM"),
        (private_pem(RSA), "RS256", "public key in PEM"),
        (public_pem(SMALL_RSA), "RS256", "2,048 bits"),
        (public_pem(P256), "RS256", "another algorithm"),
        (public_pem(RSA), "ES256", "another algorithm"),
        (public_pem(P384), "ES256", "P-256"),
        ("-----BEGIN PUBLIC KEY-----\nxx", "ES256", "public key in PEM"),
    ],
    ids=lambda value: "key" if "\n" in value else value,
)
def test_key_must_fit_the_algorithm(key: str, algorithm: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        load_key(key, JwtAlgorithm(algorithm))
    assert not key or key.splitlines()[-1] not in str(raised.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"jwt_key": SECRET, "jwt_audience": AUDIENCE}, "HOTLOOP_JWT_ALGORITHM must be set"),
        ({"jwt_key": SECRET, "jwt_algorithm": "HS256"}, "HOTLOOP_JWT_AUDIENCE must be set"),
        ({"jwt_audience": AUDIENCE}, "HOTLOOP_JWT_AUDIENCE has no effect without"),
        ({"session_secret": "weak"}, "HOTLOOP_SESSION_SECRET must have at least 32 bytes"),
        ({"jwt_issuer": "x"}, "HOTLOOP_JWT_ISSUER has no effect without"),
        (
            {"jwt_key": "weak", "jwt_algorithm": "HS256", "jwt_audience": AUDIENCE},
            "HOTLOOP_JWT_KEY must be a secret of at least 32 bytes",
        ),
        (
            {"jwt_key": SECRET, "jwt_algorithm": "none", "jwt_audience": AUDIENCE},
            "HOTLOOP_JWT_ALGORITHM must be",
        ),
    ],
)
def test_contradictory_settings_stop_the_start(values: Claims, words: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings(**values)
    assert words in str(raised.value)
    assert "weak" not in str(raised.value)


def test_gate_accepts_tokens_with_and_without_keys() -> None:
    settings = Settings(
        jwt_key=SECRET,  # type: ignore[arg-type]
        jwt_algorithm=JwtAlgorithm.HS256,
        jwt_audience=AUDIENCE,
    )
    gate = Gate(settings)
    assert not gate.is_open
    assert gate.admit(Credentials(bearer=signed())).id == "jwt:alice"
    for shown in (Credentials(), Credentials(key="hl_" + "x" * 43), Credentials(session="x")):
        with pytest.raises(UnauthorizedError):
            gate.admit(shown)
    with pytest.raises(UnauthorizedError, match="Bearer"):
        gate.admit(Credentials())
