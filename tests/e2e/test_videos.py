"""Dialect 000 and what all dialects share, over the started system: real processes, real clips, real HTTP.

Each rule of the contract, and the test that fails without it:

| rule | test |
|---|---|
| every path with and without its trailing slash, no redirect | test_paths_end_with_a_slash_or_without |
| one object, one uuid, one number; there for all at once | test_an_upload_is_there_at_once |
| a private video is private | test_a_private_video_is_its_owner_s |
| GET and HEAD of bytes | test_head_tells_what_get_gives |
| Accept-Ranges, ETag, Last-Modified, X-Request-Id | test_stream_without_a_range, test_every_answer_has_a_request_id |
| If-None-Match, If-Modified-Since, If-Match, If-Range | test_conditions |
| single and multiple ranges, `bytes=0-1` | test_ranges, test_several_ranges |
| 416 with Content-Range | test_a_range_outside_the_video |
| memory per viewer is bounded | tests/faults/test_memory.py |
| errors are JSON; 422 as documented; nothing internal told | test_errors_are_json, test_no_answer_tells_of_the_inside |
| CORS | test_cors, test_only_pages_of_configured_origins_may_read |
| POST /videos 201; url, key, created_at | test_upload |
| extension and type follow the sniffed container | test_a_clip_of_every_kind |
| missing field, empty, not a video: 422 | test_what_is_refused |
| over the limit: 413 before the body is read | test_too_large_is_told_before_the_body_is_read |
| a client that vanishes leaves nothing | test_a_client_that_vanishes_leaves_nothing |
| stream 206 and 200, inline, type | test_stream_without_a_range, test_ranges |
| download octet-stream, attachment, resumes | test_download, test_a_download_resumes |
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from reelway.v1 import media_pb2

from deploy.local.embedded import find_ffmpeg
from gateway.chunk_body import APPEND_HEADERS
from gateway.range_document import RANGE_REQUEST_HEADERS
from services.common.containers import KINDS
from services.common.s3_objects import S3Objects
from tests.support.clips import Clip, mp4_of
from tests.support.system import RunningSystem
from tests.support.videos_api import (
    BOUNDARY,
    Reply,
    VideosApi,
    catalog_side,
    more,
    multiparts,
    several,
    store_settings,
    video_ids,
    videos_api,
)
from tests.support.waiting import until


@pytest.fixture(scope="module")
async def api(system: RunningSystem) -> AsyncIterator[VideosApi]:
    async with videos_api(system.base_url) as client:
        yield client


@pytest.fixture(scope="module")
async def store(system: RunningSystem) -> AsyncIterator[S3Objects]:
    async with S3Objects.open(store_settings(system)) as objects:
        yield objects


@pytest.fixture(scope="module")
def film() -> bytes:
    """More than a window of bytes, none like its neighbours."""
    return mp4_of(6 * 2**20 + 12_345, seed=7)


@pytest.fixture(scope="module")
async def film_id(api: VideosApi, film: bytes) -> str:
    return await api.new_video(film)


@pytest.fixture(scope="module")
def path(film_id: str) -> str:
    return f"/videos/{film_id}/stream"


# --- uploading


async def test_upload(api: VideosApi, system: RunningSystem, store: S3Objects, mp4: bytes) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    reply = await api.upload(mp4)
    assert reply.status == 201
    assert reply.headers["Content-Type"].startswith("application/json")
    assert set(reply.json) == {"id", "url", "created_at"}
    video_id = reply.json["id"]
    assert str(UUID(video_id)) == video_id
    assert reply.json["url"] == f"{system.s3.endpoint_url}/{system.s3.bucket}/videos/{video_id}.mp4"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", reply.json["created_at"])
    assert before <= datetime.fromisoformat(reply.json["created_at"]) <= datetime.now(UTC)
    assert await store.get(f"videos/{video_id}.mp4") == mp4


@pytest.mark.parametrize(
    "name", ["clip.mp4", "clip.webm", "clip.avi", "clip.ogv", "clip.mov", "clip.mkv", "clip.ts", "clip.mpg"]
)
async def test_a_clip_of_every_kind(
    api: VideosApi, clips: dict[str, Clip], store: S3Objects, tmp_path: Path, name: str
) -> None:
    """Whatever the client claims; what comes back is what went in, and ffprobe finds the picture in it."""
    clip = clips[name]
    kind = KINDS[clip.container]
    reply = await api.upload(clip.data, name="evil.exe", content_type="text/html")
    assert reply.status == 201
    assert reply.json["url"].endswith(f"/videos/{reply.json['id']}.{kind.extension}")
    got = await api.get(f"/videos/{reply.json['id']}/stream")
    assert (got.status, got.headers["Content-Type"], got.body) == (200, kind.content_type, clip.data)
    assert got.headers["Content-Disposition"] == f'inline; filename="{reply.json["id"]}.{kind.extension}"'
    (tmp_path / name).write_bytes(got.body)
    probe = [find_ffmpeg().ffprobe, "-v", "error", "-show_entries", "stream=width", "-of", "csv=p=0"]
    process = await asyncio.create_subprocess_exec(*probe, str(tmp_path / name), stdout=asyncio.subprocess.PIPE)
    found, _ = await asyncio.wait_for(process.communicate(), 30)
    assert found.split()[0].strip(b",") == b"128"


async def test_an_upload_is_there_at_once(system: RunningSystem, mp4: bytes) -> None:
    """Read your own writes, through another connection, as often as one likes."""
    async with videos_api(system.base_url) as writer, videos_api(system.base_url) as reader:
        for _ in range(5):
            video_id = await writer.new_video(mp4)
            assert (await reader.get(f"/videos/{video_id}/stream")).body == mp4


def form(*parts: bytes, end: bytes = f"--{BOUNDARY}--\r\n".encode()) -> bytes:
    return b"".join(f"--{BOUNDARY}\r\n".encode() + part + b"\r\n" for part in parts) + end


def file_part(data: bytes, field: str = "video") -> bytes:
    return f'Content-Disposition: form-data; name="{field}"; filename="a.mp4"\r\n\r\n'.encode() + data


FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
TEXT_PART = b'Content-Disposition: form-data; name="note"\r\n\r\nhello'


@pytest.mark.parametrize("size", [5000, 9_000_000])
@pytest.mark.parametrize("shape", ["no last line break", "a field before", "a field behind", "no length"])
async def test_forms_of_every_shape(api: VideosApi, size: int, shape: str) -> None:
    """The file's size is guessed from the form's; whatever is around the file, all of it and nothing else is kept."""
    data = mp4_of(size, seed=size)
    body: Any = {
        "no last line break": form(file_part(data), end=f"--{BOUNDARY}--".encode()),
        "a field before": form(TEXT_PART, file_part(data)),
        "a field behind": form(file_part(data), TEXT_PART),
        "no length": form(file_part(data)),
    }[shape]
    if shape == "no length":
        whole = body

        async def chunks() -> AsyncIterator[bytes]:
            for at in range(0, len(whole), 100_000):
                yield whole[at : at + 100_000]

        body = chunks()
    reply = await api.call("POST", "/videos", FORM, body)
    assert reply.status == 201
    assert hashlib.sha256((await api.get(f"/videos/{reply.json['id']}/download")).body).hexdigest() == (
        hashlib.sha256(data).hexdigest()
    )


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (form(TEXT_PART), FORM),
        (form(file_part(mp4_of(5000), field="film")), FORM),
        (form(file_part(b"")), FORM),
        (form(file_part(b"\x89PNG\r\n\x1a\n" + bytes(5000))), FORM),
        (form(file_part(b"The free lunch is over.\n" * 300)), FORM),
        (form(), FORM),
        (form(file_part(mp4_of(5000)), end=b""), FORM),
        (b"", FORM),
        (b"garbage", FORM),
        (mp4_of(5000), {"Content-Type": "video/mp4"}),
        (b"{}", {"Content-Type": "application/json"}),
        (form(file_part(mp4_of(5000))), {"Content-Type": "multipart/form-data"}),
        (b"", {}),
    ],
)
async def test_what_is_refused(api: VideosApi, store: S3Objects, body: bytes, headers: dict[str, str]) -> None:
    before = await video_ids(store)
    reply = await api.call("POST", "/videos", headers, body)
    assert reply.status == 422
    assert reply.json["detail"]
    for fault in reply.json["detail"]:
        assert set(fault) == {"loc", "msg", "type"}
        assert isinstance(fault["loc"], list)
    assert await video_ids(store) == before
    assert await multiparts(store) == []


async def test_a_missing_field_is_named_as_documented(api: VideosApi) -> None:
    reply = await api.call("POST", "/videos", FORM, form(TEXT_PART))
    assert reply.json == {"detail": [{"loc": ["body", "video"], "msg": "Field required", "type": "missing"}]}


class Raw:
    """A connection whose every byte is ours."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, base_url: str) -> "Raw":
        host, _, port = base_url.removeprefix("http://").rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def status(self) -> int:
        line = await asyncio.wait_for(self.reader.readline(), 10)
        return int(line.split()[1])

    def reset(self) -> None:
        self.writer.transport.abort()


def head_of(size: int, *more_headers: str) -> bytes:
    lines = ["POST /videos HTTP/1.1", "Host: test", f"Content-Type: {FORM['Content-Type']}", f"Content-Length: {size}"]
    return "\r\n".join([*lines, *more_headers, "", ""]).encode()


@pytest.mark.parametrize("expecting", [True, False])
async def test_too_large_is_told_before_the_body_is_read(system: RunningSystem, expecting: bool) -> None:
    raw = await Raw.open(system.base_url)
    raw.send(head_of(60 * 2**30, *(["Expect: 100-continue"] if expecting else [])))
    assert await raw.status() == 413, "told although not a byte of the body was sent"
    raw.reset()


async def test_an_expectation_that_nobody_knows(system: RunningSystem) -> None:
    async with videos_api(system.base_url) as api:
        reply = await api.call("GET", "/health", {"Expect": "tea"})
    assert reply.status == 417
    assert isinstance(reply.json["detail"], str)
    assert reply.headers["X-Request-Id"]


async def test_the_limit_holds_for_those_who_do_not_tell_their_size(system: RunningSystem, store: S3Objects) -> None:
    limit = 2**20
    async with (
        more(system, "upload", UPLOAD_MAX_BYTES="1MiB") as upload,
        more(system, "gateway", UPLOAD_TARGET=upload.listen, UPLOAD_MAX_BYTES="1MiB") as gateway,
        videos_api(f"http://{gateway.listen}") as api,
    ):
        assert (await api.upload(mp4_of(limit))).status == 201
        before = await video_ids(store)
        sent = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            yield f"--{BOUNDARY}\r\n".encode() + file_part(mp4_of(5000))
            while sent < 200 * 2**20:
                sent += 2**18
                yield bytes(2**18)

        reply = await api.call("POST", "/videos", FORM, endless())
        assert reply.status == 413
        assert isinstance(reply.json["detail"], str)
        assert sent < 100 * 2**20, "it was told long before the end"
        for size in (limit + 1, limit + 100_000, limit + 3 * 2**20):
            assert (await api.upload(mp4_of(size))).status == 413
        assert await video_ids(store) == before
        # The answer goes out first; what was written is given up beside it.
        await until(lambda: _none(store))


@pytest.mark.parametrize("sent", [3000, 9_000_000])
async def test_a_client_that_vanishes_leaves_nothing(system: RunningSystem, store: S3Objects, sent: int) -> None:
    before = await video_ids(store)
    raw = await Raw.open(system.base_url)
    raw.send(head_of(30_000_000) + f"--{BOUNDARY}\r\n".encode() + file_part(mp4_of(sent)))
    await raw.writer.drain()
    if sent > 4096:
        await until(lambda: _some(store))
    raw.reset()
    await until(lambda: _none(store))
    assert await video_ids(store) == before


async def _some(store: S3Objects) -> bool:
    return bool(await multiparts(store))


async def _none(store: S3Objects) -> bool:
    return not await multiparts(store)


async def test_a_form_that_ends_too_early_leaves_nothing(system: RunningSystem, store: S3Objects) -> None:
    """The connection is closed in order, half way: not a video that is half as long."""
    before = await video_ids(store)
    raw = await Raw.open(system.base_url)
    raw.send(head_of(20_000_000) + f"--{BOUNDARY}\r\n".encode() + file_part(mp4_of(500_000)))
    raw.writer.write_eof()
    await asyncio.wait_for(raw.reader.read(), 10)
    await until(lambda: _none(store))
    assert await video_ids(store) == before


# --- reading


async def test_stream_without_a_range(api: VideosApi, path: str, film: bytes, film_id: str) -> None:
    reply = await api.get(path)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "video/mp4")
    assert reply.headers["Content-Disposition"] == f'inline; filename="{film_id}.mp4"'
    assert reply.headers["Accept-Ranges"] == "bytes"
    assert reply.headers["Content-Length"] == str(len(film))
    assert re.fullmatch(r'"[^"]+"', reply.headers["ETag"]), "strong"
    age = datetime.now(UTC) - parsedate_to_datetime(reply.headers["Last-Modified"])
    assert timedelta(seconds=-1) <= age < timedelta(minutes=10)
    assert "Content-Range" not in reply.headers
    assert reply.body == film


@pytest.mark.parametrize(
    ("asked", "edges"),
    [
        ("bytes=0-1", (0, 1)),
        ("bytes=0-", (0, -1)),
        ("bytes=-1", (-1, -1)),
        ("bytes=-70000", (-70_000, -1)),
        ("bytes=1048575-1048576", (1_048_575, 1_048_576)),
        ("bytes=131071-4194305", (131_071, 4_194_305)),
        ("bytes=5000000-99999999999999999999", (5_000_000, -1)),
        ("bytes=6303800-6303800", (6_303_800, 6_303_800)),
        ("BYTES=7-7", (7, 7)),
    ],
)
async def test_ranges(api: VideosApi, path: str, film: bytes, asked: str, edges: tuple[int, int]) -> None:
    first, last = (edge % len(film) for edge in edges)
    reply = await api.get(path, Range=asked)
    assert reply.status == 206
    assert reply.headers["Content-Range"] == f"bytes {first}-{last}/{len(film)}"
    assert reply.headers["Content-Length"] == str(last - first + 1)
    assert reply.headers["Content-Type"] == "video/mp4"
    assert reply.body == film[first : last + 1]


async def test_several_ranges(api: VideosApi, path: str, film: bytes) -> None:
    reply = await api.get(path, Range="bytes=0-9, 5000000-5000099 ,-5")
    assert reply.status == 206
    kind, _, boundary = reply.headers["Content-Type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    assert len(reply.body) == int(reply.headers["Content-Length"])
    opening, *parts, closing = reply.body.split(f"--{boundary}".encode())
    assert (opening, closing.strip()) == (b"", b"--")
    assert len(parts) == 3
    size = len(film)
    for part, (first, last) in zip(parts, [(0, 9), (5_000_000, 5_000_099), (size - 5, size - 1)], strict=True):
        headers, _, content = part.partition(b"\r\n\r\n")
        assert b"Content-Type: video/mp4" in headers
        assert f"Content-Range: bytes {first}-{last}/{size}".encode() in headers
        assert content.removesuffix(b"\r\n") == film[first : last + 1]


@pytest.mark.parametrize("asked", ["bytes=6304000-", "bytes=99999999-", "bytes=-0", "bytes=9999999-,8888888-"])
async def test_a_range_outside_the_video(api: VideosApi, path: str, film: bytes, asked: str) -> None:
    reply = await api.get(path, Range=asked)
    assert reply.status == 416
    assert reply.headers["Content-Range"] == f"bytes */{len(film)}"
    assert isinstance(reply.json["detail"], str)


@pytest.mark.parametrize("asked", ["frames=1-2", "bytes=5-2", "bytes=a-b", "bytes", "bytes=", "bytes=--1"])
async def test_a_range_that_means_nothing_is_ignored(api: VideosApi, path: str, film: bytes, asked: str) -> None:
    reply = await api.get(path, Range=asked)
    assert (reply.status, len(reply.body)) == (200, len(film))


async def test_conditions(api: VideosApi, path: str, film: bytes) -> None:
    head = await api.head(path)
    etag, modified = head.headers["ETag"], head.headers["Last-Modified"]
    at = parsedate_to_datetime(modified)
    earlier = format_datetime(at - timedelta(seconds=1), usegmt=True)

    async def status(**headers: str) -> int:
        return (await api.get(path, **headers)).status

    reply = await api.get(path, If_None_Match=etag)
    assert (reply.status, reply.body, reply.headers["ETag"]) == (304, b"", etag)
    assert await status(If_None_Match=f'"x", W/{etag}') == 304
    assert await status(If_None_Match="*") == 304
    assert await status(If_None_Match='"other"', If_Modified_Since=modified) == 200
    assert await status(If_Modified_Since=modified) == 304
    assert await status(If_Modified_Since=earlier) == 200
    assert await status(If_Match=etag) == 200
    assert await status(If_Match='"other"') == 412
    assert await status(If_Match=f"W/{etag}") == 412
    assert await status(If_Unmodified_Since=earlier) == 412
    assert await status(Range="bytes=0-9", If_Range=etag) == 206
    assert await status(Range="bytes=0-9", If_Range=modified) == 206
    assert await status(Range="bytes=0-9", If_Range='"other"') == 200
    assert await status(Range="bytes=0-9", If_Range=f"W/{etag}") == 200
    assert await status(Range="bytes=0-9", If_Range=earlier) == 200
    assert await status(Range="bytes=99999999-", If_None_Match=etag) == 304


async def test_the_etag_is_of_the_bytes(api: VideosApi, path: str, film: bytes) -> None:
    first = (await api.head(path)).headers["ETag"]
    same = (await api.head(f"/videos/{await api.new_video(film)}/stream")).headers["ETag"]
    other = (await api.head(f"/videos/{await api.new_video(film[:-1])}/stream")).headers["ETag"]
    assert first == same != other


@pytest.mark.parametrize("kind", ["stream", "download"])
async def test_head_tells_what_get_gives(api: VideosApi, film_id: str, kind: str) -> None:
    path = f"/videos/{film_id}/{kind}"
    head, got = await api.head(path), await api.get(path)
    assert (head.status, head.body) == (200, b"")
    own = {"Date", "X-Request-ID"}
    assert {(n, v) for n, v in head.headers.items() if n not in own} == {
        (n, v) for n, v in got.headers.items() if n not in own
    }
    assert (await api.head(f"/videos/{uuid4()}/{kind}")).status == 404
    assert (await api.head(path, If_None_Match=head.headers["ETag"])).status == 304


async def test_download(api: VideosApi, film_id: str, film: bytes) -> None:
    reply = await api.get(f"/videos/{film_id}/download")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/octet-stream")
    assert reply.headers["Content-Disposition"] == f'attachment; filename="{film_id}.mp4"'
    assert reply.headers["Content-Length"] == str(len(film))
    assert reply.body == film


async def test_a_download_resumes(system: RunningSystem, film_id: str, film: bytes, tmp_path: Path) -> None:
    """As curl -C - does it: from where the file ends."""
    target = tmp_path / "film.mp4"
    target.write_bytes(film[:2_345_678])
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "-f", "-C", "-", "-o", str(target), f"{system.base_url}/videos/{film_id}/download"
    )
    assert await asyncio.wait_for(process.wait(), 30) == 0
    assert target.read_bytes() == film


async def test_a_slow_client_gets_every_byte(system: RunningSystem, path: str, film: bytes) -> None:
    """It takes a little at a time; the windows behind it run out meanwhile."""
    raw = await Raw.open(system.base_url)
    raw.writer.transport.set_write_buffer_limits(0)
    raw.send(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
    digest, size = hashlib.sha256(), 0
    await raw.reader.readuntil(b"\r\n\r\n")
    while chunk := await raw.reader.read(65_536):
        digest.update(chunk)
        size += len(chunk)
        if size % 20 == 0:
            await asyncio.sleep(0.01)
    assert (size, digest.digest()) == (len(film), hashlib.sha256(film).digest())


async def test_viewers_who_leave_in_the_middle_disturb_nobody(system: RunningSystem, path: str, film: bytes) -> None:
    for _ in range(10):
        raw = await Raw.open(system.base_url)
        raw.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        await raw.reader.readexactly(100_000)
        raw.reset()
    async with videos_api(system.base_url) as api:
        assert (await api.get(path)).body == film


async def test_viewers_at_once(system: RunningSystem, path: str, film: bytes) -> None:
    async def view(number: int) -> None:
        first = number * 300_000 + number
        async with videos_api(system.base_url) as api:
            reply = await api.get(path, Range=f"bytes={first}-{first + 999_999}")
            assert reply.body == film[first : first + 1_000_000]

    await asyncio.gather(*(view(number) for number in range(16)))


# --- who, and what everything has in common


async def test_a_private_video_is_its_owner_s(api: VideosApi, system: RunningSystem, mp4: bytes) -> None:
    anna, berta = uuid4(), uuid4()
    video_id = await api.new_video(mp4, system.authorization(anna))
    stream, download = f"/videos/{video_id}/stream", f"/videos/{video_id}/download"
    for headers in ({}, system.authorization(berta), system.authorization(anna)):
        assert (await api.call("GET", stream, headers)).status == 200, "whoever has the id"
    async with catalog_side(system) as catalog:
        await catalog.make_private(video_id, str(anna))

        async def hidden() -> bool:
            others = [(path, headers) for path in (stream, download) for headers in ({}, system.authorization(berta))]
            return all([(await api.call("GET", *one)).status == 404 for one in others])

        await until(hidden, 5)  # at once, but for the second that each caller's answer may be old
        for path in (stream, download):
            for headers in ({}, system.authorization(berta)):
                assert (await api.call("GET", path, headers)).status == 404
                assert (await api.call("HEAD", path, headers)).status == 404
                assert (await api.call("GET", path, {**headers, "Range": "bytes=0-1"})).status == 404
            assert (await api.call("GET", path, system.authorization(anna))).body == mp4
        await catalog.delete(video_id, str(anna))

    async def gone() -> bool:
        return (await api.call("GET", stream, system.authorization(anna))).status == 404

    await until(gone, 5)


UNKNOWN = "/videos/4d1c6c5e-5b0f-4c39-9a3d-1f0e8b7a2c64/stream"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", UNKNOWN, 404),
        ("GET", UNKNOWN.replace("stream", "download"), 404),
        ("GET", "/videos/no-uuid/stream", 404),
        ("GET", "/videos/%2e%2e%2fcatalog/stream", 404),
        ("GET", f"/videos/{'x' * 3000}/stream", 404),
        ("GET", "/nothing/here", 404),
        ("GET", "/videos", 405),
        ("DELETE", UNKNOWN, 405),
        ("POST", UNKNOWN, 405),
    ],
)
async def test_errors_are_json(api: VideosApi, method: str, path: str, status: int) -> None:
    reply = await api.call(method, path)
    assert reply.status == status
    assert reply.headers["Content-Type"].startswith("application/json")
    assert set(reply.json) == {"detail"}
    if status == 404 and path.startswith("/videos"):
        assert reply.json == {"detail": "Video not found"}
    if status == 405:
        assert reply.headers["Allow"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: t\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: t\r\nContent-Length: -1\r\n\r\n",
        b"POST /videos HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: t\r\n\r\n",
    ],
)
async def test_what_is_hardly_http_is_refused_in_the_same_way(system: RunningSystem, request_bytes: bytes) -> None:
    raw = await Raw.open(system.base_url)
    raw.send(request_bytes)
    answer = await asyncio.wait_for(raw.reader.read(65_536), 10)
    raw.reset()
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert 400 <= status < 500
    assert b"Traceback" not in answer
    assert b"aiohttp" not in answer
    assert b"Python" not in answer
    assert b"application/json" in head
    assert b"x-request-id" in head.lower()
    assert body.startswith(b'{"detail"')


async def test_every_answer_has_a_request_id(api: VideosApi, system: RunningSystem, path: str) -> None:
    ids = set()
    for reply in (
        await api.get("/health"),
        await api.get("/"),
        await api.get("/openapi.json"),
        await api.get("/docs"),
        await api.get(path, Range="bytes=0-1"),
        await api.get(path, Range="bytes=99999999-"),
        await api.head(path),
        await api.get(UNKNOWN),
        await api.get("/nothing"),
        await api.call("POST", "/videos"),
        await api.call("DELETE", "/videos"),
        await api.call("GET", path, {"Authorization": "Bearer bad"}),
        await api.call("OPTIONS", "/videos", {"Origin": "https://a", "Access-Control-Request-Method": "POST"}),
    ):
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", reply.headers["X-Request-Id"])
        ids.add(reply.headers["X-Request-Id"])
    assert len(ids) == 13
    assert (await api.get("/health", X_Request_Id="mine-17")).headers["X-Request-Id"] == "mine-17"
    assert (await api.get("/health", X_Request_Id="not mine!")).headers["X-Request-Id"] != "not mine!"


async def test_a_request_id_travels_to_every_service(system: RunningSystem, mp4: bytes) -> None:
    """Its logs tell of one request wherever it went; on to the store: tests/integration/test_s3_bytes.py."""
    line = '"request_id": "trace-me-1"'
    async with (
        more(system, "catalog", LOG_LEVEL="DEBUG") as catalog,
        several(
            more(system, "upload", LOG_LEVEL="DEBUG", CATALOG_TARGET=catalog.listen),
            more(system, "stream", LOG_LEVEL="DEBUG", CATALOG_TARGET=catalog.listen),
        ) as (upload, stream),
        more(system, "gateway", UPLOAD_TARGET=upload.listen, STREAM_TARGET=stream.listen) as gateway,
        videos_api(f"http://{gateway.listen}") as api,
    ):
        video_id = await api.new_video(mp4, {"X-Request-Id": "trace-me-1"})
        await api.get(f"/videos/{video_id}/stream", X_Request_Id="trace-me-1")
        for process in (gateway, upload, stream, catalog):
            log = system.log_dir / f"{process.name}.log"
            await until(lambda log=log: line in log.read_text())  # type: ignore[misc]


async def test_cors(api: VideosApi, path: str) -> None:
    origin = {"Origin": "https://player.example"}
    preflight = await api.call("OPTIONS", "/videos", origin | {"Access-Control-Request-Method": "PATCH"})
    assert preflight.status in {200, 204}
    assert preflight.headers["Access-Control-Allow-Origin"] in {"*", origin["Origin"]}
    allowed = {method.strip() for method in preflight.headers["Access-Control-Allow-Methods"].split(",")}
    assert {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} <= allowed
    # Whatever a route looks at, a page may send.
    looked_at = {"Authorization", "Content-Type", *RANGE_REQUEST_HEADERS, *APPEND_HEADERS}
    assert {name.lower() for name in looked_at} <= {
        name.strip().lower() for name in preflight.headers["Access-Control-Allow-Headers"].split(",")
    }
    exposed = {"content-range", "accept-ranges", "etag", "content-length", "x-request-id"}
    for reply in (
        await api.call("GET", path, origin | {"Range": "bytes=0-1"}),
        await api.call("GET", UNKNOWN, origin),
        await api.call("POST", "/videos", origin),
        await api.call("GET", path, origin | {"Authorization": "Bearer bad"}),
    ):
        assert reply.headers["Access-Control-Allow-Origin"] in {"*", origin["Origin"]}
        assert exposed <= {name.strip().lower() for name in reply.headers["Access-Control-Expose-Headers"].split(",")}
    assert "Access-Control-Allow-Origin" not in (await api.get(path, Range="bytes=0-1")).headers


async def test_only_pages_of_configured_origins_may_read(system: RunningSystem) -> None:
    ours, theirs = "https://app.example", "https://evil.example"
    async with (
        more(system, "gateway", CORS_ORIGINS=f"{ours}, https://other.example") as gateway,
        videos_api(f"http://{gateway.listen}") as api,
    ):
        for method, headers in (("GET", {}), ("OPTIONS", {"Access-Control-Request-Method": "PATCH"})):
            told = {
                origin: (await api.call(method, UNKNOWN, headers | {"Origin": origin})).headers
                for origin in (ours, "https://other.example", theirs, "null")
            }
            assert {origin: answer.get("Access-Control-Allow-Origin") for origin, answer in told.items()} == {
                ours: ours,
                "https://other.example": "https://other.example",
                theirs: None,
                "null": None,
            }
            assert not {"Access-Control-Allow-Methods", "Access-Control-Expose-Headers"} & told[theirs].keys()
            # Or a cache would give one page what was said to another.
            assert all("Origin" in answer["Vary"] for answer in told.values())


async def test_paths_end_with_a_slash_or_without(api: VideosApi, film_id: str, mp4: bytes) -> None:
    for end in ("", "/"):
        assert (await api.upload(mp4, path=f"/videos{end}")).status == 201
        for path in (f"/videos/{film_id}/stream{end}", f"/videos/{film_id}/download{end}"):
            assert (await api.get(path, Range="bytes=0-1")).status == 206
            assert (await api.head(path)).status == 200
        assert (await api.get(f"/health{end}")).json == {"status": "ok"}
        assert (await api.get(f"/health_check{end}")).json == {"message": "ok"}
        assert (await api.get(f"/openapi.json{end}")).status == 200
    root = await api.get("/")
    assert (root.status, root.headers["Location"]) == (307, "/health_check")


async def test_no_answer_tells_of_the_inside(api: VideosApi, system: RunningSystem, path: str) -> None:
    inside = [
        system.s3.bucket.encode(),
        system.redis_url.removeprefix("redis://").partition("/")[0].encode(),
        str(system.log_dir.parent).encode(),
        b"Traceback",
        b"/services/",
        *(one.listen.encode() for one in system.processes if one.name != "gateway"),
    ]
    replies: list[Reply] = [
        await api.get(UNKNOWN),
        await api.get("/nothing"),
        await api.get(path, Range="bytes=99999999-"),
        await api.call("POST", "/videos", FORM, b"garbage"),
        await api.call("POST", "/videos", FORM, form(file_part(b"no video" * 1000))),
        await api.call("GET", path, {"Authorization": "Bearer bad"}),
        await api.get(path, Range="bytes=0-1"),
    ]
    for reply in replies:
        told = reply.body + repr(list(reply.headers.items())).encode()
        assert not [word for word in inside if word in told]
        assert "aiohttp" not in reply.headers.get("Server", "")


def test_every_kind_has_its_clip(clips: dict[str, Clip]) -> None:
    assert {clip.container for clip in clips.values()} == set(KINDS) - {media_pb2.CONTAINER_UNSPECIFIED}
