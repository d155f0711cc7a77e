"""Dialect 000, uploading, over the started system: real processes, real clips, real HTTP.

Each rule of the contract, and the test that fails without it:

| rule | test |
|---|---|
| one object, one uuid, one number; there for all at once | test_an_upload_is_there_at_once |
| POST /videos 201; url, key, created_at | test_upload |
| extension and type follow the sniffed container | test_a_clip_of_every_kind |
| missing field, empty, not a video: 422 | test_what_is_refused |
| over the limit: 413 before the body is read | test_too_large_is_told_before_the_body_is_read |
| a client that vanishes leaves nothing | test_a_client_that_vanishes_leaves_nothing |
"""

import asyncio
import gzip
import hashlib
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from reelway.v1 import media_pb2

from services.common.containers import KINDS
from services.common.s3_objects import S3Objects
from tests.support.clips import Clip, described, mp4_of
from tests.support.system import RunningSystem
from tests.support.videos_api import (
    BOUNDARY,
    FORM,
    Raw,
    VideosApi,
    file_part,
    form,
    is_under_way,
    more,
    multiparts,
    none_under_way,
    video_ids,
    videos_api,
)
from tests.support.waiting import until


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
    assert described(tmp_path / name, "-show_streams")["streams"][0]["width"] == 128


async def test_an_upload_is_there_at_once(system: RunningSystem, mp4: bytes) -> None:
    """Read your own writes, through another connection, as often as one likes."""
    async with videos_api(system.base_url) as writer, videos_api(system.base_url) as reader:
        for _ in range(5):
            video_id = await writer.new_video(mp4)
            assert (await reader.get(f"/videos/{video_id}/stream")).body == mp4


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
        (gzip.compress(form(file_part(mp4_of(5000))))[:-1], {**FORM, "Content-Encoding": "gzip"}),
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
    # A form without fields, as most clients send it: nothing.
    nothing = await api.call("POST", "/videos")
    assert (nothing.status, nothing.json) == (422, reply.json)


def head_of(size: int, *more_headers: str) -> bytes:
    lines = ["POST /videos HTTP/1.1", "Host: test", f"Content-Type: {FORM['Content-Type']}", f"Content-Length: {size}"]
    return "\r\n".join([*lines, *more_headers, "", ""]).encode()


@pytest.mark.parametrize("expecting", [True, False])
async def test_too_large_is_told_before_the_body_is_read(system: RunningSystem, expecting: bool) -> None:
    raw = await Raw.open(system.base_url)
    raw.send(head_of(60 * 2**30, *(["Expect: 100-Continue"] if expecting else [])))
    assert await raw.status() == 413, "told although not a byte of the body was sent"
    raw.reset()


@pytest.mark.parametrize("path", ["/health", "/nowhere"])
async def test_an_expectation_that_nobody_knows(system: RunningSystem, path: str) -> None:
    async with videos_api(system.base_url) as api:
        reply = await api.call("GET", path, {"Expect": "tea"})
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
        await until(lambda: none_under_way(store))


@pytest.mark.parametrize("sent", [3000, 9_000_000])
async def test_a_client_that_vanishes_leaves_nothing(system: RunningSystem, store: S3Objects, sent: int) -> None:
    before = await video_ids(store)
    raw = await Raw.open(system.base_url)
    raw.send(head_of(30_000_000) + f"--{BOUNDARY}\r\n".encode() + file_part(mp4_of(sent)))
    await raw.writer.drain()
    if sent > 4096:
        await until(lambda: is_under_way(store))
    raw.reset()
    await until(lambda: none_under_way(store))
    assert await video_ids(store) == before


async def test_a_form_that_ends_too_early_leaves_nothing(system: RunningSystem, store: S3Objects) -> None:
    """The connection is closed in order, half way: not a video that is half as long."""
    before = await video_ids(store)
    raw = await Raw.open(system.base_url)
    raw.send(head_of(20_000_000) + f"--{BOUNDARY}\r\n".encode() + file_part(mp4_of(500_000)))
    raw.writer.write_eof()
    await asyncio.wait_for(raw.reader.read(), 30)
    await until(lambda: none_under_way(store))
    assert await video_ids(store) == before


def test_every_kind_has_its_clip(clips: dict[str, Clip]) -> None:
    assert {clip.container for clip in clips.values()} == set(KINDS) - {media_pb2.CONTAINER_UNSPECIFIED}
