"""Dialect 001 through the whole system: create_video, append_video, get_video."""

import asyncio
import base64
import gzip
import hashlib
import random
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import pytest

from tests.support.clips import Clip, mp4_of
from tests.support.system import RunningSystem

FIRST = {"message": "Video added successfully"}
LATER = {"message": "Video appended and joined successfully"}


async def create(http: aiohttp.ClientSession, **headers: str) -> int:
    async with http.post("/create_video/", headers=headers) as answer:
        assert answer.status == 201
        body = await answer.json()
    assert set(body) == {"video_id"}
    number: int = body["video_id"]
    return number


async def append(http: aiohttp.ClientSession, number: int | str, data: object, **headers: str) -> tuple[int, object]:
    async with http.post(f"/append_video/{number}/", data=data, headers=headers) as answer:
        return answer.status, await answer.json()


async def test_create_append_get_with_the_documents_words(http: aiohttp.ClientSession, clips: dict[str, Clip]) -> None:
    clip = clips["clip.mp4"].data
    number = await create(http)
    async with http.get(f"/get_video/{number}/") as answer:
        assert (answer.status, await answer.json()) == (
            400,
            {"error": "No video data associated with this video ID"},
        )
    third = len(clip) // 3
    assert await append(http, number, clip[:third]) == (200, FIRST)
    async with http.get(f"/get_video/{number}/") as answer:
        assert answer.status == 200
        assert await answer.read() == clip[:third]
        first_etag = answer.headers["ETag"]
    assert await append(http, number, clip[third:-third]) == (200, LATER)
    # curl's own type for --data-binary, and no trailing slash.
    async with http.post(
        f"/append_video/{number}", data=clip[-third:], headers={"Content-Type": "application/x-www-form-urlencoded"}
    ) as answer:
        assert (answer.status, await answer.json()) == (200, LATER)
        assert answer.headers["Upload-Offset"] == str(len(clip))
        appended_etag = answer.headers["ETag"]
    async with http.get(f"/get_video/{number}") as answer:
        assert answer.status == 200
        assert answer.content_type == "video/mp4"
        assert answer.headers["Content-Disposition"] == f'attachment; filename="video_{number}.mp4"'
        assert answer.headers["ETag"] == appended_etag != first_etag
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert await answer.read() == clip
        etag = answer.headers["ETag"]
    async with http.head(f"/get_video/{number}/") as answer:
        assert (answer.status, answer.content_length, answer.headers["ETag"]) == (200, len(clip), etag)
    async with http.get(f"/get_video/{number}/", headers={"Range": "bytes=5-9"}) as answer:
        assert (answer.status, await answer.read()) == (206, clip[5:10])
        assert answer.headers["Content-Range"] == f"bytes 5-9/{len(clip)}"
    # Resumed with the tag of what it was before the last chunk: the whole new one.
    async with http.get(f"/get_video/{number}/", headers={"Range": "bytes=5-", "If-Range": first_etag}) as answer:
        assert (answer.status, await answer.read()) == (200, clip)
    async with http.get(f"/get_video/{number}/", headers={"If-None-Match": etag}) as answer:
        assert answer.status == 304


async def test_refusals_have_the_documents_words(http: aiohttp.ClientSession) -> None:
    number = await create(http)
    nothing = (400, {"error": "No video data provided"})
    assert await append(http, number, b"") == nothing
    for boundary in ("; boundary=x", ""):
        assert await append(http, number, b"", **{"Content-Type": f"multipart/form-data{boundary}"}) == nothing
    no_file = aiohttp.FormData({"name": "no file"}, default_to_multipart=True)
    assert await append(http, number, no_file) == nothing
    empty = aiohttp.FormData()
    empty.add_field("video", b"", filename="a.mp4")
    assert await append(http, number, empty) == nothing
    for unknown in (10**9, 0, "abc", "-1", 10**30):
        status, body = await append(http, unknown, b"x")
        assert (status, body) == (404, {"detail": "Video not found"})
        async with http.get(f"/get_video/{unknown}/") as answer:
            assert (answer.status, await answer.json()) == (404, {"detail": "Video not found"})


async def test_a_compressed_chunk_is_as_long_as_it_comes_out(http: aiohttp.ClientSession) -> None:
    number = await create(http)
    # Longer than its Content-Length, by little and by much.
    for index, data in enumerate((mp4_of(5000), mp4_of(100)[8:] + bytes(3_000_000))):
        body = gzip.compress(data)
        answer = await append(http, number, body, **{"Content-Encoding": "gzip"})
        assert answer == (200, FIRST if index == 0 else LATER)
    async with http.head(f"/get_video/{number}/") as head:
        assert head.content_length == 5000 + 92 + 3_000_000


@pytest.mark.parametrize("missing", [1, 2000])
async def test_a_compressed_chunk_that_is_cut_off_adds_nothing(http: aiohttp.ClientSession, missing: int) -> None:
    """Its Content-Length is right: whoever compressed it broke off, not the connection."""
    number = await create(http)
    await append(http, number, b"whole")
    cut_off = gzip.compress(random.Random(0).randbytes(500_000))[:-missing]
    status, refused = await append(http, number, cut_off, **{"Content-Encoding": "gzip"})
    assert (status, refused) == (
        422,
        {"detail": [{"loc": ["body"], "msg": "The body cannot be decoded", "type": "body_encoding"}]},
    )
    async with http.get(f"/get_video/{number}/") as answer:
        assert await answer.read() == b"whole"


async def test_a_form_with_any_file_field_is_taken(http: aiohttp.ClientSession) -> None:
    number = await create(http)
    data = mp4_of(200_000)
    for index, (name, piece) in enumerate((("video", data[:70_000]), ("whatever", data[70_000:]))):
        form = aiohttp.FormData()
        form.add_field("comment", "before")
        form.add_field(name, piece, filename="chunk.bin")
        form.add_field("after", "behind")
        assert await append(http, number, form) == (200, FIRST if index == 0 else LATER)
    async with http.get(f"/get_video/{number}/") as answer:
        assert await answer.read() == data


async def test_a_body_that_breaks_off_adds_nothing(system: RunningSystem, http: aiohttp.ClientSession) -> None:
    number = await create(http)
    await append(http, number, b"whole")
    address = urlsplit(system.base_url)
    for head in ("Content-Length: 100000", "Transfer-Encoding: chunked"):
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(f"POST /append_video/{number}/ HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode())
        body = b"half of it" * 3000
        writer.write(body if "Length" in head else f"{len(body):x}\r\n".encode() + body + b"\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    assert await append(http, number, b" and more") == (200, LATER)
    async with http.get(f"/get_video/{number}/") as answer:
        assert await answer.read() == b"whole and more"


async def test_many_small_chunks(http: aiohttp.ClientSession) -> None:
    number, data = await create(http), mp4_of(100 * 1024)
    for start in range(0, len(data), 1024):
        assert (await append(http, number, data[start : start + 1024]))[0] == 200
    async with http.get(f"/get_video/{number}/") as answer:
        assert await answer.read() == data


async def test_guards_in_headers(http: aiohttp.ClientSession) -> None:
    number = await create(http)
    data = mp4_of(3000)
    digest = "sha-256=:" + base64.b64encode(hashlib.sha256(data).digest()).decode() + ":"
    for _ in range(2):
        headers = {"Idempotency-Key": "chunk 1", "Content-Digest": digest}
        assert await append(http, number, data, **headers) == (200, FIRST)
    # A key may have any length.
    for key in ("k" * 5000, "k" * 5000, "k" * 4999 + "j"):
        assert await append(http, number, b"more", **{"Idempotency-Key": key}) == (200, LATER)
    status, refused = await append(http, number, b"less", **{"Idempotency-Key": "chunk 1"})
    place = ["header", "idempotency-key"]
    wrong = {"loc": place, "msg": "was used for a chunk of another length", "type": "value_error"}
    assert (status, refused) == (422, {"detail": [wrong]})
    status, _ = await append(http, number, data, **{"Content-Digest": digest[:12] + "A" * 43 + "=:"})
    assert status == 422
    for malformed in ("sha-256=:short:", "sha-256=nothing", "SHA-256=::", "sha-512=:AAAA:, sha-256=:%:"):
        assert (await append(http, number, data, **{"Content-Digest": malformed}))[0] == 422
    async with http.post(f"/append_video/{number}/", data=data, headers={"Upload-Offset": "17"}) as answer:
        assert (answer.status, await answer.json()) == (409, {"detail": "The video ends at offset 3008"})
        assert answer.headers["Upload-Offset"] == "3008"
    assert (await append(http, number, data, **{"Upload-Offset": "x"}))[0] == 422
    assert await append(http, number, b"end", **{"Upload-Offset": "3008"}) == (200, LATER)
    async with http.get(f"/get_video/{number}/") as answer:
        assert await answer.read() == data + b"moremoreend"


async def test_a_key_that_is_no_text_is_refused(system: RunningSystem, http: aiohttp.ClientSession) -> None:
    number = await create(http)
    address = urlsplit(system.base_url)
    form = f"video_id={number}&video_chunck=x"
    for start, body, status in (
        (f"POST /append_video/{number}/", "x", 422),
        ("PATCH /api/record/videos/update_video_chunck", form, 400),
    ):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        head = f"{start} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        head += f"Content-Length: {len(body)}\r\nIdempotency-Key: \xff\r\n\r\n"
        writer.write((head + body).encode("latin-1"))
        answer = await asyncio.wait_for(reader.readuntil(b"}"), 30)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"idempotency-key" in answer
        writer.close()


async def test_a_refusal_does_not_wait_for_the_body(system: RunningSystem, http: aiohttp.ClientSession) -> None:
    number = await create(http)
    await append(http, number, b"whole")
    address = urlsplit(system.base_url)
    raw, form = "X-No: 1", "Content-Type: multipart/form-data; boundary=x"
    part = b'--x\r\nContent-Disposition: form-data; name="video"; filename="a"\r\n\r\n'
    for length, header, begin, status in (
        (10**8, "Upload-Offset: 7", b"", 409),
        (2**30 + 1, raw, b"", 413),
        # No field of a message holds it.
        (2**63, raw, b"", 413),
        (2**63, form, part, 413),
    ):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        head = f"POST /append_video/{number}/ HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{header}\r\n\r\n"
        # A little of it, and then nothing: the client is slow.
        writer.write(head.encode() + begin + bytes(300_000))
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), 30)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        writer.close()


async def test_who_asks_first_is_told_before_the_body(
    system: RunningSystem, http: aiohttp.ClientSession, clips: dict[str, Clip]
) -> None:
    number = await create(http)
    await append(http, number, clips["clip.webm"].data)
    async with http.post("/api/record/videos/finalize_video_upload", json={"video_id": number}) as answer:
        assert answer.status == 200
    address = urlsplit(system.base_url)
    for asked, status in ((number, 409), (10**9, 404), (await create(http), 100)):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        head = (
            f"POST /append_video/{asked}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
        )
        writer.write(head.encode())
        told = await asyncio.wait_for(reader.readuntil(b"\r\n"), 30)
        assert told.startswith(f"HTTP/1.1 {status} ".encode())
        writer.close()


async def test_only_the_owner_appends(system: RunningSystem, http: aiohttp.ClientSession) -> None:
    alice = system.authorization(uuid4())
    number = await create(http, **alice)
    assert await append(http, number, mp4_of(100), **alice) == (200, FIRST)
    for headers in ({}, system.authorization(uuid4())):
        assert (await append(http, number, b"x", **headers))[0] == 403
    assert (await append(http, number, b"x", Authorization="Bearer nonsense"))[0] == 401
    # Whoever has its number reads it.
    async with http.get(f"/get_video/{number}/") as answer:
        assert await answer.read() == mp4_of(100)


async def test_a_long_list_comes_in_pages(system: RunningSystem, http: aiohttp.ClientSession) -> None:
    """More than the catalogue gives at once, as one answer that nobody holds whole."""
    anna, long = system.authorization(uuid4()), "\N{CLAPPER BOARD}" * 10_000
    made = []
    for number in range(110):
        new = {"title": str(number), "description": long}
        async with http.post("/api/record/videos/", json=new, headers=anna) as answer:
            made.append((await answer.json())["video_id"])
    async with http.get("/api/record/videos/", headers=anna) as answer:
        assert answer.headers["Transfer-Encoding"] == "chunked"
        whole = await answer.json()
    assert [video["id"] for video in whole if video["description"] == long] == made
    async with http.get(f"/api/record/videos/?offset={len(whole) - 108}&limit=106", headers=anna) as answer:
        assert await answer.json() == whole[-108:-2]


async def test_a_video_of_another_dialect_is_there_and_takes_no_chunks(
    http: aiohttp.ClientSession, clips: dict[str, Clip]
) -> None:
    async def numbers() -> set[int]:
        return {video["id"] for video in await (await http.get("/api/record/videos/")).json()}

    before = await numbers()
    form = aiohttp.FormData()
    form.add_field("video", clips["clip.webm"].data, filename="clip.webm")
    async with http.post("/videos", data=form) as answer:
        assert answer.status == 201
    (number,) = await numbers() - before
    async with http.head(f"/get_video/{number}/") as answer:
        assert (answer.content_length, answer.content_type) == (len(clips["clip.webm"].data), "video/webm")
    assert (await append(http, number, b"x"))[0] == 409
