"""Dialect 000, streaming and downloading, over the started system: real processes, real HTTP.

Each rule of the contract, and the test that fails without it:

| rule | test |
|---|---|
| GET and HEAD of bytes | test_head_tells_what_get_gives |
| Accept-Ranges, ETag, Last-Modified | test_stream_without_a_range |
| If-None-Match, If-Modified-Since, If-Match, If-Range | test_conditions |
| single and multiple ranges, `bytes=0-1` | test_ranges, test_several_ranges |
| 416 with Content-Range | test_a_range_outside_the_video |
| memory per viewer is bounded | tests/faults/test_memory.py |
| stream 206 and 200, inline, type | test_stream_without_a_range, test_ranges |
| download octet-stream, attachment, resumes | test_download, test_a_download_resumes |
"""

import asyncio
import hashlib
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.system import RunningSystem
from tests.support.videos_api import Raw, VideosApi, videos_api


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
    """It takes a little at a time, and then nothing for a while. tests/integration/test_slow_viewer.py is slower."""
    raw = await Raw.open(system.base_url)
    raw.send(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
    digest, size, rested = hashlib.sha256(), 0, 0
    await raw.reader.readuntil(b"\r\n\r\n")
    while chunk := await raw.reader.read(65_536):
        digest.update(chunk)
        size += len(chunk)
        if size - rested > 2**18:
            rested = size
            await asyncio.sleep(0.02)
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
