"""How requests to the store are signed, as the store sees them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
from aiobotocore.session import AioSession
from aiohttp import web
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import MetadataRetrievalError

from services.common import tasks
from services.common.backoff import Backoff
from services.common.caller import NOBODY, Caller, set_caller
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.common.settings import S3Settings
from tests.support.chaos_proxy import silent_address
from tests.support.http_server import serving
from tests.support.servers import S3Server
from tests.support.waiting import until


async def test_temporary_credentials_go_with_their_token_everywhere() -> None:
    """Without it a store knows no such key."""
    seen: list[tuple[str, str]] = []

    async def missing(request: web.Request) -> web.Response:
        seen.append((request.headers.get("X-Amz-Security-Token", ""), request.headers["Authorization"]))
        return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")

    async with serving(missing) as port:
        settings = S3Settings.model_validate(
            {
                "s3_endpoint_url": f"http://127.0.0.1:{port}",
                "S3_BUCKET": "bucket",
                "aws_access_key_id": "ASIAKEY",
                "aws_secret_access_key": "secret",
                "aws_session_token": "for an hour",
            }
        )
        async with S3Objects.open(settings) as objects, S3Bytes.open(settings) as data:
            assert await objects.head("key") is None
            with contextlib.suppress(ReelwayError):
                [piece async for piece in data.read("key", 0, 1)]
            url = await objects.presign_get("key", 60, "", "")
            _, fields = await objects.presign_post("key", "video/mp4", 10, 60)
    assert len(seen) >= 2
    assert all(token == "for an hour" and "x-amz-security-token" in signed for token, signed in seen)
    assert parse_qs(urlsplit(url).query)["X-Amz-Security-Token"] == ["for an hour"]
    assert fields["x-amz-security-token"] == "for an hour"


async def test_a_signature_and_its_credentials_are_used_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read is signed once for its many ranges; those of a role end, and S3 takes no signature of yesterday."""
    now, keys = 1000.0, iter(("KEY1", "KEY2", "KEY3"))
    signed: list[str] = []
    sign, made = S3Bytes._sign, list[str]()

    async def counted(self: S3Bytes, method: str, url: str, headers: dict[str, str]) -> dict[str, str]:
        made.append(url)
        return await sign(self, method, url, headers)

    class Role:
        async def get_frozen_credentials(self) -> ReadOnlyCredentials:
            return ReadOnlyCredentials(next(keys), "secret", "token")

    async def role(session: AioSession) -> Role:
        return Role()

    async def missing(request: web.Request) -> web.Response:
        signed.append(request.headers["Authorization"].partition("Credential=")[2].partition("/")[0])
        return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")

    monkeypatch.setattr(AioSession, "get_credentials", role)
    monkeypatch.setattr("services.common.s3_bytes.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(S3Bytes, "_sign", counted)
    async with serving(missing) as port:
        settings = S3Settings(
            S3_BUCKET="b", s3_endpoint_url=f"http://127.0.0.1:{port}", aws_access_key_id="", aws_secret_access_key=""
        )
        async with S3Bytes.open(settings) as data:
            for seconds in (0, 59, 2, 59, 2):
                now += seconds
                for key in ("key", "other"):
                    with pytest.raises(ReelwayError) as raised:
                        [piece async for piece in data.read(key, 0, 1)]
                    assert raised.value.reason is ErrorReason.VIDEO_NOT_FOUND
    assert signed == ["KEY1"] * 4 + ["KEY2"] * 4 + ["KEY3"] * 2
    assert len(made) == 6, "once for each key and minute"


async def test_a_role_whose_credentials_cannot_be_had_is_a_store_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the way of the bytes, too: the machine's own service for them stumbles now and then."""

    async def stumbles(session: AioSession) -> None:
        raise MetadataRetrievalError(error_msg="the metadata service does not answer")

    monkeypatch.setattr(AioSession, "get_credentials", stumbles)
    settings = S3Settings(S3_BUCKET="b", aws_access_key_id="", aws_secret_access_key="")
    async with S3Bytes.open(settings) as data:
        with pytest.raises(ReelwayError) as read:
            [piece async for piece in data.read("key", 0, 1)]
        with pytest.raises(ReelwayError) as written:
            await data.put("key", "video/mp4", 1, b"x")
    assert {raised.value.reason for raised in (read, written)} == {ErrorReason.STORE_UNAVAILABLE}


@pytest.mark.parametrize(
    ("endpoint", "host", "path"),
    [
        ("http://127.0.0.1:80", "127.0.0.1", "/bucket/videos/a.mp4"),
        ("https://s3.example.com:443/", "s3.example.com", "/bucket/videos/a.mp4"),
        ("https://S3.example.com:443/at/store/", "s3.example.com", "/at/store/bucket/videos/a.mp4"),
        ("http://s3.example.com:9000", "s3.example.com:9000", "/bucket/videos/a.mp4"),
        ("http://[::1]:80", "[::1]", "/bucket/videos/a.mp4"),
    ],
)
async def test_an_endpoint_may_name_its_port_and_have_a_path(endpoint: str, host: str, path: str) -> None:
    settings = S3Server.at(endpoint).settings
    async with S3Bytes.open(settings) as data:
        lines = (await data._range_request("videos/a.mp4", 0, 10)).decode().split("\r\n")
    assert lines[:2] == [f"GET {path} HTTP/1.1", f"Host: {host}"]


async def test_what_has_an_end_of_line_in_it_makes_no_header() -> None:
    set_caller(Caller("anna", "an-id\r\nHost: elsewhere"))
    try:
        async with S3Bytes.open(S3Server.at("http://127.0.0.1:80").settings) as data:
            with pytest.raises(ReelwayError) as raised:
                await data._range_request("videos/a.mp4", 0, 10)
    finally:
        set_caller(NOBODY)
    assert raised.value.reason is ErrorReason.INTERNAL


@contextlib.asynccontextmanager
async def stuck_store() -> AsyncIterator[tuple[S3Settings, list[asyncio.StreamWriter]]]:
    """Settings of a store that reads the head of each request and does nothing more; the connections to it so far.

    Its kernel goes on saying that it is there.
    """
    connections: list[asyncio.StreamWriter] = []

    async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        await leave.wait()
        writer.transport.abort()

    leave = asyncio.Event()
    server = await asyncio.start_server(stuck, "127.0.0.1", 0, limit=2**16)
    port = server.sockets[0].getsockname()[1]
    settings = S3Settings.model_validate(
        {
            "s3_endpoint_url": f"http://127.0.0.1:{port}",
            "S3_BUCKET": "bucket",
            "aws_access_key_id": "abc",
            "aws_secret_access_key": "secret",
            "s3_read_seconds": 0.2,
        }
    )
    try:
        async with asyncio.timeout(20):
            yield settings, connections
    finally:
        leave.set()
        server.close()


async def test_a_store_that_takes_nothing_more_is_one_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    # The kernel gives up each try at its next probe, some 0.7 s on.
    monkeypatch.setattr("services.common.s3_bytes._WRITES", Backoff(attempts=2, longest_seconds=0.01))

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(16):
            yield bytes(2**20)

    async with stuck_store() as (settings, _), S3Bytes.open(settings) as data:
        with pytest.raises(ReelwayError) as raised:
            await data.put("key", "video/mp4", 2**24, pieces)
    assert raised.value.reason is ErrorReason.STORE_UNAVAILABLE


@pytest.mark.usefixtures("hasty_writes")
async def test_a_store_that_cannot_be_reached_is_one_that_is_away() -> None:
    with silent_address() as (host, port):
        settings = S3Server.at(f"http://{host}:{port}").settings.model_copy(update={"s3_connect_seconds": 0.02})
        async with asyncio.timeout(10), S3Bytes.open(settings) as data:
            with pytest.raises(ReelwayError) as raised:
                await data.put("key", "video/mp4", 1, b"x")
    assert raised.value.reason is ErrorReason.STORE_UNAVAILABLE


@pytest.mark.parametrize("size", [2, 2**24])
async def test_a_record_that_a_store_never_takes_is_sent_again(size: int) -> None:
    """The SDK would have its HTTP client wait for a "100 Continue", and counts no time meanwhile."""
    async with stuck_store() as (settings, connections), S3Objects.open(settings) as objects:
        put = asyncio.create_task(objects.put("catalog/id.json", bytes(size), "application/json"))
        await until(lambda: len(connections) == 2)
        await tasks.end(put)
