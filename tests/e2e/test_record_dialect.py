"""Dialect 002 through the whole system: the recorder's three phases, lists, playing."""

import base64
import gzip
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_from_bytes
from uuid import uuid4

import aiohttp
import pytest

from services.common.containers import KINDS
from tests.support.clips import Clip, mp4_of
from tests.support.system import RunningSystem
from tests.support.videos_api import more

BASES = ("/api/record/videos", "/record/videos")
UPLOADED = (200, {"message": "Chunk uploaded successfully"})
INITIATED = (200, {"message": "Transcription task initiated"})
NOT_FOUND = (404, {"detail": "Not found."})


async def begin(http: aiohttp.ClientSession, base: str = BASES[0], **headers: str) -> int:
    body = {"title": "A screen", "description": "What was done"}
    async with http.post(f"{base}/", json=body, headers=headers) as answer:
        assert answer.status == 201
        found = await answer.json()
    assert set(found) == {"video_id"}
    number: int = found["video_id"]
    return number


def form(video_id: object, chunk: bytes, *, name: str = "video_chunck", id_first: bool = True) -> aiohttp.FormData:
    found = aiohttp.FormData()
    if id_first:
        found.add_field("video_id", str(video_id))
    found.add_field(name, chunk, filename="blob", content_type="video/webm")
    if not id_first:
        found.add_field("video_id", str(video_id))
    return found


async def send(http: aiohttp.ClientSession, base: str = BASES[0], **request: Any) -> tuple[int, Any]:
    async with http.patch(f"{base}/update_video_chunck", **request) as answer:
        return answer.status, await answer.json()


async def finish(http: aiohttp.ClientSession, number: object, headers: Mapping[str, str] | None = None) -> Any:
    url = f"{BASES[0]}/finalize_video_upload"
    async with http.post(url, json={"video_id": number}, headers=headers) as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.avi"])
async def test_three_phases(
    system: RunningSystem, http: aiohttp.ClientSession, clips: dict[str, Clip], name: str
) -> None:
    clip = clips[name].data
    before = datetime.now(UTC)
    number = await begin(http)
    begun = datetime.now(UTC)
    async with http.get(f"{BASES[0]}/{number}") as answer:
        new = await answer.json()
    assert before <= datetime.strptime(new["created_at"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC) <= begun
    assert new == {
        "id": number,
        "title": "A screen",
        "description": "What was done",
        "video_file": f"{system.base_url}{BASES[0]}/{number}/stream_video/",
        "created_at": new["created_at"],
        "transcription": None,
        "transcription_status": "pending",
        "transcription_error": None,
    }
    step = len(clip) // 4 + 1
    for start in range(0, len(clip), step):
        assert await send(http, data=form(number, clip[start : start + step])) == UPLOADED
        # It plays while it is recorded.
        async with http.get(f"{BASES[0]}/{number}/stream_video/") as answer:
            assert (answer.status, await answer.read()) == (200, clip[: start + step])
    assert await finish(http, number) == INITIATED
    assert await finish(http, str(number)) == INITIATED
    assert (await send(http, data=form(number, b"more")))[0] == 409
    for base in BASES:
        async with http.get(f"{base}/{number}") as answer:
            assert answer.status == 200
            video = await answer.json()
        # What is heard is tests/e2e/test_transcripts.py's business.
        assert video.keys() == new.keys()
        assert {name for name in new if new[name] != video[name]} <= {"transcription_status", "transcription_error"}
        async with http.get(video["video_file"]) as answer:
            kind = KINDS[clips[name].container]
            assert answer.content_type == kind.content_type
            assert answer.headers["Content-Disposition"] == f'inline; filename="video_{number}.{kind.extension}"'
            assert await answer.read() == clip
        async with http.get(base) as answer:
            assert number in [one["id"] for one in await answer.json()]
    async with http.get(f"{BASES[1]}/{number}/stream_video", headers={"Range": "bytes=0-1"}) as answer:
        assert (answer.status, await answer.read()) == (206, clip[:2])


async def test_every_kind_of_body_and_both_spellings(http: aiohttp.ClientSession) -> None:
    data = bytes(range(256)) * 20
    encoded = base64.b64encode(data).decode()
    for base in BASES:
        for begun in (
            {"json": {"title": "t", "description": ""}},
            {"data": {"title": "t", "description": "d"}},
            {"data": aiohttp.FormData({"title": "t", "description": "d"}, default_to_multipart=True)},
        ):
            async with http.post(base, **begun) as answer:
                assert answer.status == 201, await answer.text()
                number = (await answer.json())["video_id"]
    bodies: list[dict[str, Any]] = [
        {"data": form(number, mp4_of(5000))},
        {"data": form(number, data, name="video_chunk")},
        {"data": form(number, data, id_first=False)},
        {"json": {"video_id": number, "video_chunck": encoded}},
        {"json": {"video_id": str(number), "video_chunk": f"data:video/webm;codecs=vp8;base64,{encoded}"}},
        {
            "data": f"video_id={number}&video_chunck={quote_from_bytes(data)}",
            "headers": {"Content-Type": "application/x-www-form-urlencoded"},
        },
    ]
    for body in bodies:
        assert await send(http, BASES[1], **body) == UPLOADED, body
    for base in BASES:
        async with http.patch(f"{base}/update_video_chunk/", data=form(number, b"end")) as answer:
            assert answer.status == 200
            offset, etag = answer.headers["Upload-Offset"], answer.headers["ETag"]
    async with http.get(f"{BASES[0]}/{number}/stream_video") as answer:
        assert await answer.read() == mp4_of(5000) + 5 * data + 2 * b"end"
        assert (answer.headers["Content-Length"], answer.headers["ETag"]) == (offset, etag)
    urlencoded = {"video_id": str(number)}
    async with http.post(f"{BASES[0]}/finalize_video_upload/", data=urlencoded) as answer:
        assert (answer.status, await answer.json()) == INITIATED


async def test_what_is_held_in_memory_may_be_larger_than_a_message(http: aiohttp.ClientSession) -> None:
    number, data = await begin(http), mp4_of(6 * 2**20)
    encoded = base64.b64encode(data).decode()
    assert await send(http, json={"video_id": number, "video_chunck": encoded}) == UPLOADED
    # No clip of its own: without the signature that the first begins with.
    assert await send(http, data=form(number, data[64:], id_first=False)) == UPLOADED
    async with http.patch(f"{BASES[0]}/update_video_chunck", json={"x": "y" * 17 * 2**20}) as answer:
        assert answer.status == 413
    # Nobody knows where it belongs, and there is a limit to what waits for that.
    status, refused = await send(http, data=form(number, bytes(17 * 2**20), id_first=False))
    assert (status, refused["message"], set(refused["errors"])) == (400, "Invalid request", {"body"})
    async with http.get(f"{BASES[0]}/{number}/stream_video", headers={"Range": "bytes=-5"}) as answer:
        assert answer.headers["Content-Range"].endswith(f"/{2 * len(data) - 64}")


async def test_a_key_that_another_chunk_had_is_refused(http: aiohttp.ClientSession) -> None:
    number, key = await begin(http), {"Idempotency-Key": "slice-1"}
    assert await send(http, data=form(number, mp4_of(100)), headers=key) == UPLOADED
    errors = {"idempotency-key": "was used for a chunk of another length"}
    wrong = {"message": "Invalid request", "errors": errors}
    assert await send(http, data=form(number, mp4_of(200)), headers=key) == (400, wrong)
    assert await send(http, data=form(number, mp4_of(100)), headers=key) == UPLOADED


async def test_the_id_may_come_behind_the_chunk_or_in_the_query(http: aiohttp.ClientSession) -> None:
    number, data = await begin(http), mp4_of(17 * 2**20)
    late = aiohttp.FormData()
    late.add_field("index", "3")
    late.add_field("video_chunck", data[:1000], filename="blob")
    late.add_field("video_id", str(number))
    assert await send(http, data=late) == UPLOADED
    alone = aiohttp.FormData()
    alone.add_field("video_chunck", data[1000:], filename="blob")
    # More than is held in memory.
    assert await send(http, data=alone, params={"video_id": number}) == UPLOADED
    async with http.get(f"{BASES[0]}/{number}/stream_video") as answer:
        assert await answer.read() == data


async def test_refusals(http: aiohttp.ClientSession) -> None:
    for body, fields in (
        ({}, {"title", "description"}),
        ({"title": "t"}, {"description"}),
        ({"title": "", "description": ""}, {"title"}),
        ({"title": "t" * 256, "description": ""}, {"title"}),
        ({"title": 7, "description": ""}, {"title"}),
        ({"title": "t", "description": "d" * 10_001}, {"description"}),
    ):
        async with http.post(BASES[0], json=body) as answer:
            assert answer.status == 400
            refused = await answer.json()
        assert (refused["message"], set(refused["errors"])) == ("Invalid request", fields)
    for method, path, fields in (
        ("POST", "", {"title", "description"}),
        ("PATCH", "/update_video_chunck", {"video_chunck", "video_id"}),
        ("POST", "/finalize_video_upload", {"video_id"}),
    ):
        # A form without fields, as most clients send it: nothing.
        for content_type in ({}, {"Content-Type": "multipart/form-data; boundary=x"}):
            async with http.request(method, BASES[0] + path, headers=content_type) as answer:
                assert (answer.status, set((await answer.json())["errors"])) == (400, fields)
    async with http.post(BASES[0], json={"title": "t" * 255, "description": ""}) as answer:
        assert answer.status == 201, "the longest title there may be"
    large = aiohttp.FormData({"title": "t", "description": ""})
    large.add_field("file", bytes(2**21), filename="a")
    async with http.post(BASES[0], data=large) as answer:
        assert answer.status == 413, "two MiB with its boundaries, though the file would be skipped"
    async with http.post(BASES[0], data=b"{", headers={"Content-Type": "application/json"}) as answer:
        assert (answer.status, (await answer.json())["message"]) == (400, "Invalid request")
    number = await begin(http)
    for request, field in (
        ({"json": {"video_id": number}}, "video_chunck"),
        ({"json": {"video_chunck": "AAAA"}}, "video_id"),
        ({"json": {"video_id": True, "video_chunck": "AAAA"}}, "video_id"),
        ({"json": {"video_id": number, "video_chunck": "%%%"}}, "video_chunck"),
        ({"data": aiohttp.FormData({"video_id": str(number)}, default_to_multipart=True)}, "video_chunck"),
        ({"data": form(number, b"")}, "video_chunck"),
    ):
        status, refused = await send(http, **request)
        assert (status, refused["message"], set(refused["errors"])) == (400, "Invalid request", {field}), request
    for text in ("[]", "nothing"):
        status, refused = await send(http, data=text, headers={"Content-Type": "application/json"})
        assert (status, refused["message"]) == (400, "Invalid request")
    cut_off = gzip.compress(f"video_id={number}&video_chunck=x".encode())[:-1]
    packed = {"Content-Type": "application/x-www-form-urlencoded", "Content-Encoding": "gzip"}
    status, refused = await send(http, data=cut_off, headers=packed)
    assert (status, refused["errors"]) == (400, {"body": "The body cannot be decoded"})
    # A form that was not filled in sends its field empty.
    for nothing, why in (
        ({}, "Field required"),
        ({"video_id": ""}, "String should have at least 1 character"),
        ({"video_id": True}, "Input should be a valid string"),
    ):
        async with http.post(f"{BASES[0]}/finalize_video_upload", json=nothing) as answer:
            assert (answer.status, (await answer.json())["errors"]) == (400, {"video_id": why})
    for unknown in (10**9, "nonsense", "0"):
        assert await send(http, data=form(unknown, b"x")) == NOT_FOUND
        assert await finish(http, unknown) == NOT_FOUND
        for path in ("", "/stream_video/", "/captions.vtt"):
            async with http.get(f"{BASES[0]}/{unknown}{path}") as answer:
                assert (answer.status, await answer.json()) == NOT_FOUND
    for path in ("/stream_video/", "/captions.vtt"):
        async with http.get(f"{BASES[0]}/{number}{path}") as answer:
            assert (answer.status, await answer.json()) == NOT_FOUND, "there is nothing of it yet"


async def test_what_is_no_video_is_not_finalized_and_stays_open(
    http: aiohttp.ClientSession, clips: dict[str, Clip]
) -> None:
    others = [clips[name].data for name in ("clip.mkv", "clip.mov", "clip.ogv", "clip.ts", "clip.mpg")]
    for first in (None, b"plain text, no video at all", *others):
        number = await begin(http)
        if first is not None:
            assert await send(http, data=form(number, first)) == UPLOADED
        status, refused = await finish(http, number)
        assert status == 422
        assert refused["detail"][0]["msg"]
        assert await send(http, data=form(number, b"still open")) == UPLOADED


async def test_lists_are_per_caller_newest_last_and_paged(system: RunningSystem, http: aiohttp.ClientSession) -> None:
    alice, bob = system.authorization(uuid4()), system.authorization(uuid4())
    mine = [await begin(http, **alice) for _ in range(3)]
    theirs, nobody_s = await begin(http, **bob), await begin(http)

    async def listed(query: str = "", **headers: str) -> list[int]:
        async with http.get(f"{BASES[0]}/{query}", headers=headers) as answer:
            assert answer.status == 200
            return [video["id"] for video in json.loads(await answer.text())]

    everything = await listed(**alice)
    assert everything == sorted(everything)
    assert [number for number in everything if number in {*mine, theirs, nobody_s}] == [*mine, nobody_s]
    assert await listed(f"?offset={len(everything) - 2}", **alice) == [mine[-1], nobody_s]
    assert await listed(f"?limit=1&offset={len(everything) - 4}", **alice) == mine[:1]
    assert await listed("?limit=0", **alice) == []
    assert not {*mine, theirs} & set(await listed())
    async with http.get(f"{BASES[0]}?limit=-1") as answer:
        assert answer.status == 400
    assert (await send(http, data=form(mine[0], b"x"), headers=bob))[0] == 403
    assert (await finish(http, mine[0], bob))[0] == 403


async def test_addresses_are_those_that_clients_are_told_to_use(system: RunningSystem) -> None:
    """Behind a proxy that ends TLS the request itself does not say how it came."""
    async with (
        more(system, "gateway", PUBLIC_URL="https://video.example/") as gateway,
        aiohttp.ClientSession(f"http://{gateway.listen}") as http,
    ):
        number = await begin(http)
        async with http.get(f"{BASES[0]}/{number}") as answer:
            told = (await answer.json())["video_file"]
    assert told == f"https://video.example{BASES[0]}/{number}/stream_video/"


@pytest.mark.parametrize("host", ["a:b", "foo:99999", "h:80:80", "", 'h"', "user@h"])
async def test_a_host_that_is_none_is_in_no_address(http: aiohttp.ClientSession, host: str) -> None:
    number = await begin(http)
    for path in (BASES[0], f"{BASES[0]}/{number}", f"/get_video/{number}/", "/health"):
        async with http.get(path, headers={"Host": host}) as answer:
            assert (answer.status, await answer.json()) == (400, {"detail": "The Host is not valid"})
    async with http.get(f"{BASES[0]}/{number}", headers={"Host": "h:8"}) as answer:
        assert (await answer.json())["video_file"] == f"http://h:8{BASES[0]}/{number}/stream_video/"


async def test_a_browser_extension_may_patch(http: aiohttp.ClientSession) -> None:
    ask = {
        "Origin": "chrome-extension://abcdefghijklmnop",
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "content-type,idempotency-key",
    }
    async with http.options(f"{BASES[0]}/update_video_chunck", headers=ask) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] in ("*", ask["Origin"])
        assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
        allowed = answer.headers["Access-Control-Allow-Headers"].lower()
        assert "content-type" in allowed
        assert "idempotency-key" in allowed
