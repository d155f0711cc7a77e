"""What the clients of a store send it, and what they make of answers that only some stores, or none, should give."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp import web
from botocore.exceptions import ClientError, EndpointConnectionError
from structlog.testing import capture_logs

from services.common.backoff import Backoff
from services.common.byte_messages import Buffer
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.s3_bytes import S3Bytes
from services.common.s3_errors import s3_errors
from services.common.s3_objects import S3Objects, Slice
from tests.support.http_server import serving
from tests.support.journal_client import refusal
from tests.support.servers import S3Server

KEY = "videos/00000000-0000-4000-8000-000000000000.mp4"


async def read(store: S3Bytes, key: str, offset: int, length: int) -> bytes:
    return b"".join([chunk async for chunk in store.read(key, offset, length)])


async def _one_piece(data: bytes) -> AsyncIterator[Buffer]:
    yield data


@pytest.mark.parametrize(
    "failure",
    [
        ClientError({"Error": {"Code": "SlowDown"}}, "PutObject"),
        EndpointConnectionError(endpoint_url="http://10.0.0.7:9000"),
        aiohttp.ClientPayloadError("it broke off"),
        TimeoutError(),
        OSError("a long story " * 100),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_whatever_the_store_fails_of_stands_in_the_log_alone(failure: Exception) -> None:
    with capture_logs() as lines, pytest.raises(ReelwayError) as raised, s3_errors("put"):
        raise failure
    assert (raised.value.reason, raised.value.detail) == (ErrorReason.STORE_UNAVAILABLE, "")
    (line,) = lines
    assert line["operation"] == "put"
    assert line["error"] == f"{type(failure).__name__}: {failure}"[:500]


async def test_only_the_store_itself_says_that_there_is_no_such_object() -> None:
    """A proxy in front of it that does not know it yet says 404, too; so does a store that lacks the bucket."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=404, text="default backend - 404")

    async with serving(answer) as port:
        there = S3Server.at(f"http://127.0.0.1:{port}").settings
        async with S3Bytes.open(there) as store, S3Objects.open(there) as objects:
            assert await refusal(read(store, KEY, 0, 10)) is ErrorReason.STORE_UNAVAILABLE
            for call in (
                objects.get(KEY),
                objects.head(KEY),
                objects.copy_part("videos/copy.mp4", "upload", 1, Slice(KEY, 0, 5)),
                objects.copy_if(KEY, "videos/copy.mp4", "video/mp4", '"e"'),
            ):
                assert await refusal(call) is ErrorReason.STORE_UNAVAILABLE


async def test_what_appears_behind_a_head_is_found_by_the_second_look() -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.method == "HEAD":
            return web.Response(status=404)
        headers = {"Content-Range": "bytes 0-0/10", "ETag": '"e"', "Last-Modified": "Mon, 23 Nov 2026 10:00:00 GMT"}
        return web.Response(status=206, body=b"x", headers=headers)

    async with serving(answer) as port, S3Objects.open(S3Server.at(f"http://127.0.0.1:{port}").settings) as objects:
        info = await objects.head(KEY)
    assert info is not None
    assert (info.key, info.size, info.etag) == (KEY, 10, '"e"')


async def test_a_store_that_answers_another_range_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some answer 200 with the whole, or a 206 of another length: none of it may reach a viewer, or the log."""
    answers = [
        web.Response(status=200, body=b"x" * 100),
        web.Response(status=206, body=b"x" * 9),
        web.Response(status=206, body=b"x" * 11),
        web.Response(status=206, body=b"x" * 9, headers={"Content-Range": "bytes 0-9/100"}),
        web.Response(status=206, body=b"x" * 10, headers={"Content-Range": "bytes 1-10/100"}),
        web.Response(status=500, text="sorry"),
        web.Response(status=503, text="slow down"),
        web.Response(status=429, text="slow down"),
    ]
    monkeypatch.setattr("services.common.s3_bytes._READS", Backoff(first_seconds=0))
    for kind in range(len(answers)):
        asked = 0

        async def answer(request: web.Request, kind: int = kind) -> web.Response:
            nonlocal asked
            asked += 1
            made = answers[kind]
            return web.Response(status=made.status, body=made.body, headers=made.headers)

        async with serving(answer) as port, S3Bytes.open(S3Server.at(f"http://127.0.0.1:{port}").settings) as store:
            assert await refusal(read(store, "videos/a.mp4", 0, 10)) is ErrorReason.STORE_UNAVAILABLE
        assert asked == Backoff().attempts
        logged = capsys.readouterr().out
        assert f"{answers[kind].status} " in logged
        assert "xxx" not in logged


async def test_a_store_that_is_asked_whether_it_is_there_has_its_answer_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks waits for five seconds, and would log behind them that there was no answer; retries last a while."""
    pauses: list[float] = []

    async def overloaded(request: web.Request) -> web.Response:
        return web.Response(status=503, text="<Error><Code>SlowDown</Code><Message>less</Message></Error>")

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("aiobotocore.endpoint.asyncio", SimpleNamespace(sleep=pause))
    async with serving(overloaded) as port, S3Objects.open(S3Server.at(f"http://127.0.0.1:{port}").settings) as objects:
        with pytest.raises(ClientError, match="SlowDown"):
            await objects.check()
    assert pauses, "one refusal alone is no reason to serve nobody"
    assert sum(pauses) <= 2


async def test_a_store_that_sends_us_elsewhere_is_not_ready() -> None:
    """Ranges go nowhere else, so nothing else may: a redirect to https would leave uploads that nobody can watch."""
    asked: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.method)
        return web.Response(headers={"ETag": '"e"'})

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=308, headers={"Location": f"http://127.0.0.1:{there}{request.path_qs}"})

    async with serving(elsewhere) as there, serving(answer) as port:
        here = S3Server.at(f"http://127.0.0.1:{port}").settings
        async with S3Bytes.open(here) as store, S3Objects.open(here) as objects:
            with pytest.raises(ClientError, match="308"):
                await objects.check()
            assert await refusal(read(store, "videos/a.mp4", 0, 10)) is ErrorReason.STORE_UNAVAILABLE
            for call in (
                store.put("videos/a.mp4", "video/mp4", 3, b"abc"),
                objects.put("catalog/a.json", b"{}", "a/b"),
            ):
                assert await refusal(call) is ErrorReason.STORE_UNAVAILABLE
    assert asked == []


@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (429, ""), (400, "RequestTimeout"), (408, "")]
)
async def test_a_store_that_is_away_for_seconds_ends_no_upload(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    """An upload of hours would be lost with one part. So it would be where the bytes were slow on their way."""
    pauses: list[float] = []

    async def restarting(request: web.Request) -> web.Response:
        await request.read()
        if sum(pauses) < 3:
            return web.Response(status=status, text=f"<Error><Code>{code}</Code></Error>")
        return web.Response(headers={"ETag": '"e"'})

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("services.common.s3_bytes.asyncio", SimpleNamespace(sleep=pause))
    async with serving(restarting) as port, S3Bytes.open(S3Server.at(f"http://127.0.0.1:{port}").settings) as store:
        assert await store.put_part("videos/a.mp4", "upload", 1, 3, lambda: _one_piece(b"abc")) == '"e"'


async def test_the_id_of_an_upload_comes_as_the_store_gave_it() -> None:
    """Some give Base64."""
    came: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        came.append(request.query["uploadId"])
        return web.Response(headers={"ETag": '"e"'})

    async with serving(answer) as port, S3Bytes.open(S3Server.at(f"http://127.0.0.1:{port}").settings) as store:
        await store.put_part("videos/a.mp4", "a+b/c&d=", 1, 3, lambda: _one_piece(b"abc"))
    assert came == ["a+b/c&d="]


async def test_the_store_is_sent_and_asked_for_no_checksums() -> None:
    """Some refuse those that the SDK would add of its own accord."""
    came: list[list[str]] = []

    async def answer(request: web.Request) -> web.Response:
        came.append([name for name in request.headers if "checksum" in name.lower()])
        return web.Response()

    async with serving(answer) as port, S3Objects.open(S3Server.at(f"http://127.0.0.1:{port}").settings) as objects:
        await objects.put("catalog/a.json", b"{}", "application/json")
        assert await objects.get("catalog/a.json") == b""
    assert came == [[], []]


async def test_no_request_waits_for_the_end_of_others() -> None:
    """A part is sent while it arrives, for as long as its client takes; HTTP clients have 10 or 100 connections."""
    begun, all_there = 0, asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        nonlocal begun
        begun += 1
        if begun == 101 + 64:
            all_there.set()
        await all_there.wait()
        return web.Response(headers={"ETag": '"e"'})

    async with serving(answer) as port:
        here = S3Server.at(f"http://127.0.0.1:{port}").settings
        async with S3Bytes.open(here) as store, S3Objects.open(here) as objects, asyncio.timeout(20):
            puts = [store.put(f"videos/{n}.mp4", "video/mp4", 1, b"x") for n in range(101)]
            await asyncio.gather(*puts, *(objects.delete(f"videos/{n}.mp4") for n in range(64)))
