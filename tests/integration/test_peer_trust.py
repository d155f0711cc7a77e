"""How processes know each other: call tokens, certificates, and the health port beside them."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import jwt
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from reelway.v1 import stream_pb2, stream_pb2_grpc

from deploy.local.ports import free_port
from services.common.call_token import CallTokens
from services.common.error_catalog import ErrorReason
from services.common.error_translator import from_rpc_error
from services.common.errors import ReelwayError
from tests.support.authority import Authority
from tests.support.forked import Forked
from tests.support.waiting import until

SECRET = "s" * 32
VIDEO = "6a2f41a3-c54c-4b01-90e6-d701748f0851"


@dataclass
class Running:
    target: str
    health: str
    authority: Authority
    log: Path

    def channel(self, authority: Authority | None) -> grpc.aio.Channel:
        key, certificate = authority.issue() if authority else (None, None)
        return grpc.aio.secure_channel(self.target, grpc.ssl_channel_credentials(self.authority.pem, key, certificate))


@pytest.fixture(scope="module")
async def stream(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A stream process that wants certificates and tokens; nothing is behind it."""
    folder, authority = tmp_path_factory.mktemp("tls"), Authority()
    key, certificate = authority.issue()
    files = {"KEY": key, "CERT": certificate, "CA": authority.pem}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    running = Running(f"localhost:{free_port()}", f"127.0.0.1:{free_port()}", authority, folder / "log")
    env = {
        "GRPC_LISTEN": running.target,
        "HEALTH_LISTEN": running.health,
        "SERVICE_TOKEN_SECRET": SECRET,
        "S3_BUCKET": "none",
        "S3_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}",
        "CATALOG_TARGET": f"localhost:{free_port()}",
        "DRAIN_NOTICE_SECONDS": "0",
    }
    env |= {f"GRPC_TLS_{name}_FILE": str(folder / name) for name in files}
    process = Forked("stream", [sys.executable, "-m", "services.stream"], env, running.log)
    await process.start()
    try:
        async with grpc.aio.insecure_channel(running.health) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            live = await stub.Check(health_pb2.HealthCheckRequest(service="live"), wait_for_ready=True, timeout=60)
            assert live.status == health_pb2.HealthCheckResponse.SERVING
        yield running
        process.signal(signal.SIGTERM)
        assert await process.wait() == 0
    finally:
        await process.kill()


async def _stat(channel: grpc.aio.Channel, token: str | None, request_id: str = "") -> ReelwayError:
    metadata = [("reelway-request-id", request_id)]
    metadata += [("authorization", f"Bearer {token}")] if token is not None else []
    stub: stream_pb2_grpc.StreamServiceAsyncStub = stream_pb2_grpc.StreamServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Stat(stream_pb2.StatRequest(video_id=VIDEO), timeout=15, metadata=metadata)
    return from_rpc_error(caught.value)


def _token(secret: str = SECRET, algorithm: str = "HS256", seconds: float = 60, **claims: object) -> str:
    return jwt.encode({"aud": "reelway", "sub": "u", "exp": time.time() + seconds, **claims}, secret, algorithm)


@pytest.mark.parametrize(
    "make",
    [
        lambda: None,
        lambda: "",
        lambda: "nonsense",
        # Made when they are sent: by then one of the tests' collection would have expired.
        partial(_token, secret="t" * 32),
        partial(_token, seconds=-1),
        partial(_token, seconds=3600),
        partial(_token, aud="somebody else"),
        partial(_token, secret="", algorithm="none"),
    ],
    ids=["none", "empty", "nonsense", "wrong secret", "expired", "lives too long", "wrong audience", "alg none"],
)
async def test_a_call_without_a_good_token_is_refused(stream: Running, make: Callable[[], str | None]) -> None:
    async with stream.channel(stream.authority) as channel:
        assert (await _stat(channel, make())).reason is ErrorReason.CALL_TOKEN_REFUSED


@pytest.mark.parametrize(
    ("token", "why"),
    [(_token(secret="t" * 32), "InvalidSignatureError"), (_token(seconds=-1), "ExpiredSignatureError")],
    ids=["another secret", "another clock"],
)
async def test_the_log_says_why_a_peer_s_call_is_refused(stream: Running, token: str, why: str) -> None:
    """Every request then fails, and no user is to blame: each would be told that its own token is bad."""
    async with stream.channel(stream.authority) as channel:
        error = await _stat(channel, token, request_id := uuid4().hex)
    assert error.kind.http_status == 503
    line = next(json.loads(line) for line in stream.log.read_text().splitlines() if request_id in line)
    assert (line["event"], line["level"]) == ("call refused", "warning")
    assert why in line["why"]


async def test_a_call_with_a_token_is_let_in(stream: Running) -> None:
    async with stream.channel(stream.authority) as channel:
        error = await _stat(channel, CallTokens(SECRET).make("somebody"))
    # It gets as far as the catalog, which is not there.
    assert error.reason is ErrorReason.SERVICE_UNAVAILABLE


@pytest.mark.parametrize("foreign", [False, True], ids=["no certificate", "a foreign CA's certificate"])
async def test_a_peer_without_our_certificate_is_not_connected(stream: Running, foreign: bool) -> None:
    async with stream.channel(Authority() if foreign else None) as channel:
        # Whoever is let in is told so before anything else: with a token the answer would be that of a call that
        # found no catalog.
        error = await _stat(channel, None)
    assert error.reason is ErrorReason.SERVICE_UNAVAILABLE


def test_a_token_is_made_for_its_user_and_checked_by_the_same_secret() -> None:
    tokens = CallTokens(SECRET)
    assert tokens.user(tokens.make("ünï")) == "ünï"
    assert tokens.user(tokens.make("")) == ""
    with pytest.raises(ReelwayError):
        CallTokens("t" * 32).user(tokens.make("ünï"))


async def test_a_token_that_was_good_once_is_refused_when_it_is_old() -> None:
    """What was checked is remembered, and with it how long it is good."""
    tokens, token = CallTokens(SECRET), _token(exp=int(time.time()) + 2)
    assert tokens.user(token) == "u"

    def is_refused() -> bool:
        try:
            return tokens.user(token) == "nobody"
        except ReelwayError as error:
            return error.reason is ErrorReason.CALL_TOKEN_REFUSED

    await until(is_refused, 10)
