"""Answers to GET and HEAD as they are on the wire."""

from __future__ import annotations

import email
from urllib.parse import unquote

import pytest

from gateway.range_response import Representation, content_disposition
from tests.support.http_server import Answer
from tests.unit.gateway.range_rig import DATA, REPRESENTATION, SIZE, Reader, viewer


def parts_of(answer: Answer) -> list[tuple[str, str, bytes]]:
    """Read multipart/byteranges with the standard library: type, range and bytes of each part."""
    header = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(header + answer.body)
    assert not message.defects
    found = []
    for part in message.get_payload():
        assert isinstance(part, email.message.Message)
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        found.append((part["Content-Type"], part["Content-Range"], payload))
    return found


async def test_whole() -> None:
    reader = Reader()
    async with viewer(reader) as connection:
        answer = await connection.ask("GET")
    assert answer.status == 200
    assert answer.body == DATA
    for name, value in {
        "content-type": "video/mp4",
        "content-length": str(SIZE),
        "content-disposition": 'inline; filename="a.mp4"',
        "accept-ranges": "bytes",
        "etag": '"v1"',
        "last-modified": "Mon, 06 May 2024 07:08:09 GMT",
        "cache-control": "private, no-cache",
        "x-content-type-options": "nosniff",
    }.items():
        assert answer.headers[name] == value
    assert "content-range" not in answer.headers
    assert reader.open == 0


@pytest.mark.parametrize(
    ("asked", "offset", "length"),
    [
        ("0-1", 0, 2),
        ("0-0", 0, 1),
        (f"{SIZE - 1}-", SIZE - 1, 1),
        ("-1", SIZE - 1, 1),
        ("0-", 0, SIZE),
        ("1-65536", 1, 65_536),
        ("1-65537", 1, 65_537),
        ("65535-65538", 65_535, 4),
        ("777-600001", 777, 599_225),
        (f"5-{SIZE * 9}", 5, SIZE - 5),
    ],
)
async def test_one_range(asked: str, offset: int, length: int) -> None:
    reader = Reader()
    async with viewer(reader) as connection:
        answer = await connection.ask("GET", "/", f"Range: bytes={asked}")
    assert answer.status == 206
    assert answer.body == DATA[offset : offset + length]
    assert answer.headers["content-range"] == f"bytes {offset}-{offset + length - 1}/{SIZE}"
    assert answer.headers["content-type"] == "video/mp4"
    assert reader.asked == [(offset, length)], "reads what is sent and nothing else"


async def test_several_ranges() -> None:
    reader = Reader()
    async with viewer(reader) as connection:
        answer = await connection.ask("GET", "/", "Range: bytes=500000-700000, 0-1, -3")
        again = await connection.ask("GET", "/", "Range: bytes=500000-700000, 0-1, -3")
    assert answer.status == 206
    assert "content-range" not in answer.headers
    assert parts_of(answer) == [
        ("video/mp4", f"bytes 500000-700000/{SIZE}", DATA[500_000:700_001]),
        ("video/mp4", f"bytes 0-1/{SIZE}", DATA[:2]),
        ("video/mp4", f"bytes {SIZE - 3}-{SIZE - 1}/{SIZE}", DATA[-3:]),
    ]
    assert answer.headers["content-type"] != again.headers["content-type"], "a boundary nobody can foresee"
    assert reader.open == 0


async def test_only_one_of_several_exists() -> None:
    async with viewer(Reader()) as connection:
        answer = await connection.ask("GET", "/", f"Range: bytes={SIZE}-, 3-4")
    assert (answer.status, answer.body) == (206, DATA[3:5])
    assert answer.headers["content-range"] == f"bytes 3-4/{SIZE}"


@pytest.mark.parametrize("asked", ["frames=0-1", "bytes=2-1", "bytes=x", "bytes=0-9,0-9,0-9"])
async def test_a_range_that_is_ignored(asked: str) -> None:
    async with viewer(Reader()) as connection:
        answer = await connection.ask("GET", "/", f"Range: {asked}")
    assert (answer.status, answer.body) == (200, DATA)


async def test_two_range_lines_are_none() -> None:
    async with viewer(Reader()) as connection:
        answer = await connection.ask("GET", "/", "Range: bytes=0-1", "Range: bytes=3-4")
    assert answer.status == 200


async def test_unsatisfiable() -> None:
    reader = Reader()
    async with viewer(reader) as connection:
        answer = await connection.ask("GET", "/", f"Range: bytes={SIZE}-")
        # The connection is good for more.
        assert (await connection.ask("GET", "/", "Range: bytes=0-1")).status == 206
    assert answer.status == 416
    assert answer.headers["content-range"] == f"bytes */{SIZE}"
    assert {"etag", "last-modified", "accept-ranges", "cache-control"} <= answer.headers.keys()
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.body == b'{"detail": "The range is not inside the file"}'
    assert reader.asked == [(0, 2)]


async def test_head_is_a_get_without_its_body() -> None:
    reader = Reader()
    async with viewer(reader) as connection:
        head = await connection.ask("HEAD")
        get = await connection.ask("GET")
        ranged = await connection.ask("HEAD", "/", "Range: bytes=0-1")
    drop_date = {name: value for name, value in get.headers.items() if name != "date"}
    assert {name: value for name, value in head.headers.items() if name != "date"} == drop_date
    assert head.status == 200
    # Section 14.2 knows ranges of GET only.
    assert (ranged.status, ranged.headers["content-length"]) == (200, str(SIZE))
    assert reader.asked == [(0, SIZE)]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_not_modified(method: str) -> None:
    async with viewer(Reader()) as connection:
        answer = await connection.ask(method, "/", 'If-None-Match: "v1"', "Range: bytes=0-1")
        assert (await connection.ask("GET", "/", "Range: bytes=0-1")).body == DATA[:2]
    assert answer.status == 304
    assert {"etag", "last-modified", "cache-control"} <= answer.headers.keys()
    assert not {"content-length", "content-type", "transfer-encoding"} & answer.headers.keys()


async def test_precondition_failed() -> None:
    async with viewer(Reader()) as connection:
        answer = await connection.ask("GET", "/", 'If-Match: "v0"')
        head = await connection.ask("HEAD", "/", 'If-Match: "v0"')
        assert (await connection.ask("GET", "/", "Range: bytes=0-1")).body == DATA[:2]
    assert (answer.status, answer.body) == (412, b'{"detail": "Precondition failed"}')
    assert {"etag", "last-modified", "cache-control"} <= answer.headers.keys()
    assert head.status == 412


@pytest.mark.parametrize(
    ("if_range", "status"),
    [('"v1"', 206), ('"v0"', 200), ('W/"v1"', 200), ("Mon, 06 May 2024 07:08:09 GMT", 206)],
)
async def test_if_range(if_range: str, status: int) -> None:
    async with viewer(Reader()) as connection:
        answer = await connection.ask("GET", "/", "Range: bytes=0-1", f"If-Range: {if_range}")
    assert (answer.status, answer.body) == (status, DATA[:2] if status == 206 else DATA)


async def test_no_bytes_at_all() -> None:
    empty = Representation(0, '"e"', REPRESENTATION.modify_time, "video/mp4", "inline")
    async with viewer(Reader(), empty) as connection:
        whole = await connection.ask("GET")
        ranged = await connection.ask("GET", "/", "Range: bytes=0-1")
    assert (whole.status, whole.headers["content-length"], whole.body) == (200, "0", b"")
    assert (ranged.status, ranged.headers["content-range"]) == (416, "bytes */0")


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("a.mp4", 'attachment; filename="a.mp4"'),
        ("my video.mp4", 'attachment; filename="my video.mp4"'),
        ('a"b.mp4', "attachment; filename=\"a_b.mp4\"; filename*=UTF-8''a%22b.mp4"),
        ("größe.mp4", "attachment; filename=\"gr__e.mp4\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.mp4"),
        ("100%.mp4", "attachment; filename=\"100%.mp4\"; filename*=UTF-8''100%25.mp4"),
        ("../etc/x\r\nSet-Cookie: a.mp4", 'attachment; filename="etcxSet-Cookie: a.mp4"'),
        ("C:\\x~1.mp4", 'attachment; filename="C:x~1.mp4"'),
        ("", 'attachment; filename="video"'),
        ("\ud800.mp4", 'attachment; filename="mp4"'),
    ],
)
def test_content_disposition(filename: str, expected: str) -> None:
    value = content_disposition("attachment", filename)
    assert value == expected
    assert unquote(value).isprintable()
