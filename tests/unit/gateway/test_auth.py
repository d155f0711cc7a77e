"""What the gateway makes of key sets that are not as they should be, and of the keys in them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import json
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pydantic import SecretStr
from structlog.testing import capture_logs

from gateway import auth
from gateway.auth import Authenticator
from gateway.settings import GatewaySettings
from services.common.caller import SYSTEM_USER
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from tests.support.costs import at_most
from tests.support.http_server import serving

MIB = 2**20
RSA = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
GOOD = jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True) | {"kid": "good"}
SHARED = b"everybody knows it, for it is published like any other key in the set"


def token(key: Any = RSA, algorithm: str = "RS256", key_id: str | None = "good", **claims: Any) -> str:
    claims = {"sub": "anna", "exp": int(time.time()) + 60} | claims
    return jwt.encode(claims, key, algorithm, headers={"kid": key_id} if key_id is not None else None)


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def believing(
    source: bytes | Answer, *, algorithms: Sequence[str] = ("RS256",), **headers: str
) -> AsyncIterator[Authenticator]:
    """Somebody who gets their keys from a server that answers so."""

    async def answer(_: web.Request) -> web.Response:
        assert isinstance(source, bytes)
        return web.Response(body=source, headers=headers)

    async with serving(answer if isinstance(source, bytes) else source) as port, aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{port}/jwks"
        yield Authenticator(GatewaySettings.model_validate({"auth_jwks_url": url, "auth_algorithms": algorithms}), http)


async def told(authenticator: Authenticator, told: str) -> str | ErrorReason:
    """The user whom a token speaks for, or why nobody."""
    try:
        return await authenticator.user(f"Bearer {told}")
    except ReelwayError as error:
        return error.reason


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no JSON",
        b"\xff",
        b"[]",
        b'"x"',
        b"5",
        b"null",
        b"{}",
        b'{"keys": null}',
        b'{"keys": 5}',
        b'{"keys": "good"}',
        b'{"keys": {"good": 1}}',
        b'{"keys": []}',
        b'{"keys": [5]}',
        b'{"keys": [{"kty": "RSA"}]}',
        b'{"keys": [{"kty": "oct"}]}',
        b"[" * 100_000,
        b'{"keys":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"keys":' + b'{"keys":' * 100_000,
    ],
    ids=lambda body: body[:24].decode("latin-1"),
)
async def test_an_answer_that_is_no_key_set_is_one_that_did_not_come(body: bytes) -> None:
    async with believing(body) as authenticator:
        assert await told(authenticator, token()) is ErrorReason.SERVICE_UNAVAILABLE


async def test_what_a_server_says_of_its_failure_is_no_key_set() -> None:
    async def fail(_: web.Request) -> web.Response:
        return web.Response(status=503, body=key_set(GOOD))

    async with believing(fail) as authenticator:
        assert await told(authenticator, token()) is ErrorReason.SERVICE_UNAVAILABLE


UNUSABLE: list[Any] = [
    5,
    None,
    [],
    {},
    {"kty": "RSA"},
    {"kty": "oct"},
    {"kty": ["RSA"]},
    {"kty": "of tomorrow", "kid": "new"},
    {"kty": "EC", "crv": "P-256", "x": 5, "y": 5},
    {"kty": "OKP", "crv": "X25519", "x": "AA"},
    GOOD | {"n": None},
    GOOD | {"n": "AQAB"},
    GOOD | {"alg": "none"},
    GOOD | {"alg": ["RS256"]},
    GOOD | {"alg": "RSA-OAEP"},
    GOOD | {"alg": "ES256"},
    GOOD | {"kid": ["good"]},
    GOOD | {"kid": None},
]


@pytest.mark.parametrize("unusable", UNUSABLE, ids=range(len(UNUSABLE)))
async def test_a_key_that_cannot_be_used_costs_no_other(unusable: Any) -> None:
    for keys in ([GOOD, unusable], [unusable, GOOD]):
        async with believing(json.dumps({"keys": keys}).encode()) as authenticator:
            assert await told(authenticator, token()) == "anna"


async def test_a_set_that_is_too_long_is_not_read_to_its_end() -> None:
    """Packed, too, where a little is much."""
    much = json.dumps({"keys": [GOOD]}).encode() + b" " * 64 * MIB
    async with believing(much[: 2 * MIB]) as authenticator:
        assert await told(authenticator, token()) is ErrorReason.SERVICE_UNAVAILABLE
    async with believing(zlib.compress(much), **{"Content-Encoding": "deflate"}) as authenticator:
        with at_most(16 * MIB):
            assert await told(authenticator, token()) is ErrorReason.SERVICE_UNAVAILABLE


async def test_a_set_that_does_not_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "_FETCH_SECONDS", 0.2)
    asked = asyncio.Event()

    async def drip(request: web.Request) -> web.StreamResponse:
        asked.set()
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b" ")
            await asyncio.sleep(0.01)

    async with asyncio.timeout(30), believing(drip) as authenticator:
        assert await told(authenticator, token()) is ErrorReason.SERVICE_UNAVAILABLE
    assert asked.is_set()


ALL = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "ES256K", "EdDSA")
FITTING: list[tuple[Any, tuple[str, ...]]] = [
    (RSA, ALL[:6]),
    (ec.generate_private_key(ec.SECP256R1()), ("ES256",)),
    (ec.generate_private_key(ec.SECP384R1()), ("ES384",)),
    (ec.generate_private_key(ec.SECP521R1()), ("ES512",)),
    (ec.generate_private_key(ec.SECP256K1()), ("ES256K",)),
    (ed25519.Ed25519PrivateKey.generate(), ("EdDSA",)),
]


def published(key: Any) -> dict[str, Any]:
    """As a key server tells a key: without `alg`."""
    kinds = {rsa.RSAPublicKey: "RS256", ec.EllipticCurvePublicKey: "ES256", ed25519.Ed25519PublicKey: "EdDSA"}
    kind = next(name for base, name in kinds.items() if isinstance(key.public_key(), base))
    return jwt.get_algorithm_by_name(kind).to_jwk(key.public_key(), as_dict=True) | {"kid": "good"}


def key_set(*members: dict[str, Any]) -> bytes:
    return json.dumps({"keys": members}).encode()


@pytest.mark.parametrize(("key", "fitting"), FITTING, ids=lambda one: "-".join(one) if isinstance(one, tuple) else "")
async def test_a_key_that_names_no_algorithm_checks_all_that_fit_it(key: Any, fitting: tuple[str, ...]) -> None:
    """`alg` is optional (RFC 7517, 4.4). A token whose algorithm is not one for the key is no defect of ours."""
    members = published(key)
    async with believing(key_set(members), algorithms=ALL) as authenticator:
        for signer, theirs in FITTING:
            for algorithm in theirs:
                user = "anna" if signer is key and algorithm in fitting else ErrorReason.UNAUTHENTICATED
                assert (algorithm, await told(authenticator, token(signer, algorithm))) == (algorithm, user)


NAMELESS = {name: value for name, value in GOOD.items() if name != "kid"}
OTHER = jwt.algorithms.ECAlgorithm.to_jwk(FITTING[1][0].public_key(), as_dict=True)


@pytest.mark.parametrize("key", [GOOD, NAMELESS, NAMELESS | {"kid": None}, NAMELESS | {"alg": "RS256"}])
async def test_a_token_without_a_key_id_is_checked_with_the_only_key(key: dict[str, Any]) -> None:
    """`kid` is required where there are several (OpenID Connect Core, 10.1)."""
    for beside in ([], [OTHER | {"use": "enc"}], [{"kty": "oct", "k": "AAAA"}]):
        async with believing(key_set(*beside, key), algorithms=ALL) as authenticator:
            assert await told(authenticator, token(key_id=None)) == "anna"
            for other in (token(FITTING[1][0], "ES256", None), token(SHARED, "HS256", None), token(key_id="other")):
                assert await told(authenticator, other) is ErrorReason.UNAUTHENTICATED


@pytest.mark.parametrize("beside", [OTHER, OTHER | {"kid": "other"}, NAMELESS])
async def test_a_token_without_a_key_id_is_checked_with_none_of_several_keys(beside: dict[str, Any]) -> None:
    for keys in ((NAMELESS, beside), (beside, GOOD)):
        async with believing(key_set(*keys), algorithms=ALL) as authenticator:
            assert await told(authenticator, token(key_id=None)) is ErrorReason.UNAUTHENTICATED
            assert await told(authenticator, token()) == ("anna" if GOOD in keys else ErrorReason.UNAUTHENTICATED)


@pytest.mark.parametrize(
    ("key", "algorithm"), [(FITTING[1][0], "ES256"), (rsa.generate_private_key(65_537, 2048), "RS256")]
)
async def test_the_only_key_may_be_replaced_while_nobody_names_it(
    key: Any, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one of another kind, or of the same."""
    keys = [NAMELESS]

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=key_set(*keys))

    async with believing(answer, algorithms=ALL) as authenticator:
        assert await told(authenticator, token(key_id=None)) == "anna"
        keys[:] = [published(key) | {"kid": None}]
        assert await told(authenticator, token(key, algorithm, None)) is ErrorReason.UNAUTHENTICATED
        monkeypatch.setattr(auth, "_LEAST_SECONDS_BETWEEN_FETCHES", 0.0)
        assert await told(authenticator, token(key, algorithm, None)) == "anna"
        assert await told(authenticator, token(key_id=None)) is ErrorReason.UNAUTHENTICATED


@pytest.mark.parametrize("nothing", [{}, {"alg": ""}, {"alg": None}])
async def test_only_what_is_configured_is_accepted(nothing: dict[str, Any]) -> None:
    async with believing(key_set(GOOD | nothing), algorithms=("RS512", "PS256")) as authenticator:
        taken = [each for each in ALL[:6] if await told(authenticator, token(RSA, each)) == "anna"]
    assert taken == ["RS512", "PS256"]


async def test_a_key_that_names_its_algorithm_checks_no_other() -> None:
    async with believing(key_set(GOOD | {"alg": "PS384"}), algorithms=ALL) as authenticator:
        taken = [each for each in ALL[:6] if await told(authenticator, token(RSA, each)) == "anna"]
    assert taken == ["PS384"]


def unfit() -> dict[str, dict[str, Any]]:
    """Keys that nobody may publish: with each of them anybody could sign."""
    shared = {"kty": "oct", "kid": "good", "k": base64.urlsafe_b64encode(SHARED).decode()}
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    curve, octets = FITTING[1][0], FITTING[-1][0]
    return {
        "shared": shared,
        "shared for HS256": shared | {"alg": "HS256"},
        "shared, with a public key in it": shared | {"k": base64.urlsafe_b64encode(pem).decode()},
        "private": jwt.algorithms.RSAAlgorithm.to_jwk(RSA, as_dict=True) | {"kid": "good"},
        "private for RS256": jwt.algorithms.RSAAlgorithm.to_jwk(RSA, as_dict=True) | {"kid": "good", "alg": "RS256"},
        "private curve": jwt.algorithms.ECAlgorithm.to_jwk(curve, as_dict=True) | {"kid": "good"},
        "private octets": jwt.algorithms.OKPAlgorithm.to_jwk(octets, as_dict=True) | {"kid": "good"},
    }


@pytest.mark.parametrize("key", unfit().values(), ids=unfit())
async def test_a_key_that_is_not_public_checks_nothing(key: dict[str, Any]) -> None:
    tokens = [token(signer, algorithm) for signer, theirs in FITTING for algorithm in theirs]
    async with believing(key_set(key), algorithms=ALL) as authenticator:
        for each in (*tokens, token(SHARED, "HS256"), token(SHARED, "HS512")):
            assert await told(authenticator, each) is ErrorReason.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("claims", "taken"),
    [
        ({"sub": "x" * 255}, True),
        ({"sub": "x" * 256}, False),
        ({"sub": ""}, False),
        ({"sub": 5}, False),
        # Our own loops and workers call in this name, and may do what no user may.
        ({"sub": SYSTEM_USER}, False),
        ({"sub": "x", "more": "x" * 10_000}, True),
        ({"sub": "x", "more": "x" * 20_000}, False),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_whom_a_token_may_speak_for(claims: dict[str, Any], taken: bool) -> None:
    said = claims | {"exp": int(time.time()) + 60}
    head, body = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "HS256"}, said))
    signature = base64.urlsafe_b64encode(hmac.digest(SHARED, head + b"." + body, "sha256")).rstrip(b"=")
    async with aiohttp.ClientSession() as http:
        authenticator = Authenticator(GatewaySettings(auth_jwt_secret=SecretStr(SHARED.decode())), http)
        with capture_logs() as lines:
            found = await told(authenticator, "  " + b".".join((head, body, signature)).decode())
    assert found == (claims["sub"] if taken else ErrorReason.UNAUTHENTICATED)
    assert [line["event"] for line in lines] == ([] if taken else ["token refused"]), "an operator is told why"


async def test_another_scheme_is_a_token_that_is_none() -> None:
    async with aiohttp.ClientSession() as http:
        authenticator = Authenticator(GatewaySettings(auth_jwt_secret=SecretStr(SHARED.decode())), http)
        assert await authenticator.user(f"bEARER {token(SHARED, 'HS256')}") == "anna", "a scheme has no case"
        # As good as it may be, it may be somebody's password.
        for secret in ("YW5uYTpzZWNyZXQ=", token(SHARED, "HS256")):
            with capture_logs() as lines, pytest.raises(ReelwayError) as refused:
                await authenticator.user(f"Basic {secret}")
            assert refused.value.reason is ErrorReason.UNAUTHENTICATED
            (line,) = lines
            assert line["event"] == "token refused"
            assert secret[:4] not in str(line)


async def test_without_a_secret_no_token_is_good() -> None:
    """Not even one that nothing was signed with."""
    head, body = token(SHARED, "HS256").split(".")[:2]
    signature = base64.urlsafe_b64encode(hmac.digest(b"", f"{head}.{body}".encode(), "sha256")).decode().rstrip("=")
    async with aiohttp.ClientSession() as http:
        authenticator = Authenticator(GatewaySettings(), http)
        with capture_logs() as lines:
            assert await told(authenticator, f"{head}.{body}.{signature}") is ErrorReason.UNAUTHENTICATED
    assert "no key is configured" in lines[0]["why"]


async def test_who_leaves_during_a_fetch_takes_the_keys_from_nobody() -> None:
    """Anybody can name a key that is not known, and go."""
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        asked.set()
        await may_answer.wait()
        return web.Response(body=key_set(GOOD))

    async with believing(slow) as authenticator:
        first = asyncio.create_task(authenticator.user(f"Bearer {token()}"))
        await asked.wait()
        second = asyncio.create_task(told(authenticator, token()))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        may_answer.set()
        assert await second == "anna"


@pytest.mark.parametrize("claim, seconds, taken", [("iat", 30, True), ("nbf", 30, False), ("exp", 0, False)])
async def test_a_token_of_a_clock_that_is_ahead_is_taken_from_when_it_says(
    claim: str, seconds: int, taken: bool
) -> None:
    """`iat` says how old a token is, not from when on it is to be taken (RFC 7519, 4.1.6)."""
    async with believing(json.dumps({"keys": [GOOD]}).encode()) as authenticator:
        found = await told(authenticator, token(RSA, "RS256", "good", **{claim: int(time.time()) + seconds}))
    assert found == ("anna" if taken else ErrorReason.UNAUTHENTICATED)
