"""What the gateway makes of key sets that are not as they should be, and of the keys in them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway import auth
from gateway.auth import Authenticator
from gateway.settings import GatewaySettings
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from tests.support.costs import at_most
from tests.support.http_server import serving

MIB = 2**20
RSA = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
GOOD = jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True) | {"kid": "good"}


def token(key: Any = RSA, algorithm: str = "RS256", key_id: str = "good") -> str:
    return jwt.encode({"sub": "anna", "exp": int(time.time()) + 60}, key, algorithm, headers={"kid": key_id})


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def believing(source: bytes | Answer, **headers: str) -> AsyncIterator[Authenticator]:
    """Somebody who gets their keys from a server that answers so."""

    async def answer(_: web.Request) -> web.Response:
        assert isinstance(source, bytes)
        return web.Response(body=source, headers=headers)

    async with serving(answer if isinstance(source, bytes) else source) as port, aiohttp.ClientSession() as http:
        yield Authenticator(GatewaySettings(auth_jwks_url=f"http://127.0.0.1:{port}/jwks"), http)


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


@pytest.mark.parametrize("unusable", UNUSABLE, ids=lambda key: json.dumps(key)[-40:])
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
