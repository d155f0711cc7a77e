"""What a chunk in a small form or JSON costs the gateway, over real connections."""

from __future__ import annotations

import base64
import hashlib
import json
from urllib.parse import quote_from_bytes

import pytest
from aiohttp import web

from gateway.chunk_body import read_fields, read_raw_or_file
from gateway.http_errors import record_invalid
from gateway.invalid_request import InvalidRequestError
from gateway.multipart_form import FORM_TYPE
from tests.support.costs import at_most, others_run
from tests.support.http_server import Answer, serving, wire

MIB = 2**20
JSON, URLENCODED = "application/json", "application/x-www-form-urlencoded"


async def echo(request: web.Request) -> web.Response:
    try:
        chunk = await read_fields(request, ("chunk",), "video_id")
        body = b"".join([piece async for piece in chunk.data])
        return web.Response(body=body, headers={"video-id": chunk.target or ""})
    except InvalidRequestError as error:
        return record_invalid(error)


async def ask(content_type: str, body: bytes) -> Answer:
    async with serving(echo) as port, wire(port) as connection:
        return await connection.ask(
            "PATCH", "/", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", body=body
        )


@pytest.mark.parametrize("shift", range(4))
async def test_percent_encoded_bytes_come_out_as_they_went_in(shift: int) -> None:
    # Slices end in all places of an escape.
    data = b"a" * shift + bytes(range(256)) * 512
    answer = await ask(URLENCODED, b"video_id=a+b%21&x=y&chunk=" + quote_from_bytes(data).encode())
    assert (answer.status, answer.body, answer.headers["video-id"]) == (200, data, "a b!")
    answer = await ask(URLENCODED, b"chunk=" + b"%" * 200_000 + b"%4")
    assert answer.body == b"%" * 200_000 + b"%4"


async def test_a_chunk_behind_many_fields() -> None:
    answer = await ask(URLENCODED, b"x=y&" * 500 + b"chunk=a&video_id=1")
    assert (answer.status, answer.body, answer.headers["video-id"]) == (200, b"a", "1")


async def test_bytes_with_the_type_that_curl_gives_them_are_no_chunk() -> None:
    """They are many fields, by their ampersands; it is not their length that is wrong."""
    answer = await ask(URLENCODED, bytes(range(256)) * 4096)
    assert (answer.status, json.loads(answer.body)["errors"]) == (400, {"body": "The form has too many fields"})


async def test_percent_decoding_costs_a_few_times_the_body() -> None:
    body = b"chunk=" + b"%00" * MIB
    with at_most(8 * len(body)):
        assert (await ask(URLENCODED, body)).body == bytes(MIB)


async def test_others_run_while_a_body_is_percent_decoded() -> None:
    answer = await others_run(lambda: ask(URLENCODED, b"chunk=" + b"%00" * (5 * MIB)))
    assert len(answer.body) == 5 * MIB


@pytest.mark.parametrize("value", [b"[[],[]%s]" % (b",[]" * MIB), b"[" * 3 * MIB, b"{" + b'"":{' * MIB, b"0,1" * MIB])
async def test_json_of_many_values_is_refused_before_it_is_parsed(value: bytes) -> None:
    body = b'{"chunk":"AAAA","x":' + value + b"}"
    with at_most(8 * len(body)):
        answer = await ask(JSON, body)
    assert (answer.status, json.loads(answer.body)["errors"]) == (400, {"body": "Too many values"})


async def test_json_of_a_chunk_may_be_escaped_and_have_other_fields() -> None:
    data = bytes(range(256)) * 4096
    # PHP and .NET write characters of Base64 so.
    encoded = base64.b64encode(data).decode().replace("/", "\\/").replace("+", "\\u002B")
    answer = await ask(JSON, f'{{"video_id": "{"a, [b], " * 100}end", "chunk": "{encoded}", "x": [1, 2]}}'.encode())
    assert (answer.status, answer.body) == (200, data)
    assert answer.headers["video-id"].endswith("[b], end")


async def test_a_sum_among_others_counts() -> None:
    async def tell(request: web.Request) -> web.Response:
        return web.Response(body=(await read_raw_or_file(request)).claims.sha256)

    digest = hashlib.sha256(b"x").digest()
    said, other = f"sha-256=:{base64.b64encode(digest).decode()}:", "sha-512=:AAAA:"
    async with serving(tell) as port, wire(port) as connection:
        for values in ((other, said), (f"{said} , {other}",), (f"{said};q=1",)):
            lines = [f"Content-Digest: {value}" for value in values]
            assert (await connection.ask("POST", "/", "Content-Length: 0", *lines)).body == digest


async def raw_or_file(request: web.Request) -> web.Response:
    try:
        chunk = await read_raw_or_file(request)
        return web.Response(body=b"".join([piece async for piece in chunk.data]))
    except InvalidRequestError as error:
        return record_invalid(error)


@pytest.mark.parametrize("content_type", [f"{FORM_TYPE}; boundary=x", FORM_TYPE, URLENCODED, JSON, "X/Y"])
@pytest.mark.parametrize("length", ["Content-Length: 0", "X: no length"])
async def test_a_body_of_nothing_is_nothing_whatever_its_type(content_type: str, length: str) -> None:
    async with serving(raw_or_file) as port, wire(port) as connection:
        answer = await connection.ask("POST", "/", f"Content-Type: {content_type}", length)
    assert (answer.status, answer.body) == (200, b"")
    async with serving(echo) as port, wire(port) as connection:
        answer = await connection.ask("PATCH", "/?video_id=1", f"Content-Type: {content_type}", length)
    assert (answer.status, json.loads(answer.body)["errors"]) == (400, {"chunk": "Field required"})


@pytest.mark.parametrize("behind", ["", "no header\r\n\r\n", "Content-Disposition: form-data; name=a\r\n\r\nend"])
async def test_a_form_that_is_not_whole_has_no_chunk(behind: str) -> None:
    """Nobody can say what else it was to have; its client sends it again."""
    part = 'Content-Disposition: form-data; name="chunk"; filename="a"\r\n\r\nbytes'
    body = f"--x\r\n{part}\r\n--x\r\n{behind}".encode()
    lines = (f"Content-Type: {FORM_TYPE}; boundary=x", f"Content-Length: {len(body)}")
    for handler, path in ((raw_or_file, "/"), (echo, "/?video_id=1"), (echo, "/")):
        async with serving(handler) as port, wire(port) as connection:
            answer = await connection.ask("POST", path, *lines, body=body)
        assert answer.status == 400


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON, b'{"video_id": 1}'),
        (URLENCODED, b"video_id=1"),
        (f"{FORM_TYPE}; boundary=x", b'--x\r\nContent-Disposition: form-data; name="video_id"\r\n\r\n1\r\n--x--\r\n'),
    ],
)
async def test_what_is_there_is_not_named_as_missing(content_type: str, body: bytes) -> None:
    answer = await ask(content_type, body)
    assert (answer.status, json.loads(answer.body)["errors"]) == (400, {"chunk": "Field required"})


@pytest.mark.parametrize("odd", ["; x*", "; x=" + "(" * 4000])
async def test_a_type_with_parameters_that_are_none(odd: str) -> None:
    async with serving(raw_or_file) as port, wire(port) as connection:
        answer = await connection.ask("POST", "/", f"Content-Type: video/webm{odd}", "Content-Length: 1", body=b"a")
    assert (answer.status, answer.body) == (200, b"a")
    assert (await ask(URLENCODED + odd, b"chunk=a&video_id=1")).body == b"a"


async def test_a_raw_body_is_told_what_it_is_to_be() -> None:
    answer = await ask("video/webm", b"\x1aE\xdf\xa3")
    assert (answer.status, json.loads(answer.body)["errors"]) == (400, {"body": "Neither a form nor a JSON object"})


@pytest.mark.parametrize("value", ["AAA", "AA*AAA==", "AAAA AAAA", "\u00e4AAA", "-_-_", 7, ["AAAA"]])
async def test_what_is_no_base64_is_no_chunk(value: object) -> None:
    """What a lenient decoder makes of it are not the bytes that were meant."""
    answer = await ask(JSON, json.dumps({"chunk": value}).encode())
    assert (answer.status, json.loads(answer.body)["errors"]) == (400, {"chunk": "Not Base64"})


@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
async def test_base64_may_be_in_lines(line_break: str) -> None:
    """As Ruby's `encode64`, Android's default and PHP's `chunk_split` have it."""
    data = bytes(range(256))
    value = base64.encodebytes(data).decode().replace("\n", line_break)
    answer = await ask(JSON, json.dumps({"chunk": value}).encode())
    assert (answer.status, answer.body) == (200, data)


DATA_URLS = [
    "data:;base64,",
    "data:video/webm;base64,",
    # Chrome's MediaRecorder says so what is in a chunk with sound.
    "data:video/webm;codecs=vp8,opus;base64,",
    'data:video/mp4;codecs="avc1.42E01E, mp4a.40.2";base64,',
    "DATA:video/webm;BASE64,",
]


@pytest.mark.parametrize("scheme", DATA_URLS)
async def test_a_data_url_in_json_is_the_bytes_in_it(scheme: str) -> None:
    data = bytes(range(256))
    value = scheme + base64.b64encode(data).decode()
    answer = await ask(JSON, json.dumps({"chunk": value}).encode())
    assert (answer.status, answer.body) == (200, data)


@pytest.mark.parametrize(
    "value", ["data:,AAAA", "data:video/webm,AAAA", f"data:{'x' * MIB};base64,AAAA", " data:;base64,AAAA"]
)
async def test_a_data_url_that_is_not_base64_is_no_chunk(value: str) -> None:
    answer = await ask(JSON, json.dumps({"chunk": value}).encode())
    assert (answer.status, json.loads(answer.body)["errors"]) == (400, {"chunk": "Not Base64"})


@pytest.mark.parametrize("scheme", DATA_URLS)
async def test_a_data_url_in_a_urlencoded_form_is_the_bytes_in_it(scheme: str) -> None:
    data = bytes(range(256))
    value = quote_from_bytes(scheme.encode() + base64.b64encode(data))
    answer = await ask(URLENCODED, f"chunk={value}&video_id=1".encode())
    assert (answer.status, answer.body) == (200, data)
    for other in (f"{scheme}*", "data:video/webm,%41%41"):
        answer = await ask(URLENCODED, f"chunk={other}".encode())
        assert (answer.status, json.loads(answer.body)["errors"]) == (400, {"chunk": "Not Base64"})


@pytest.mark.parametrize("path", ["/", "/?video_id=1"], ids=["held", "streamed"])
@pytest.mark.parametrize("cut", [1, 4, 100])
async def test_a_data_url_among_the_parts_of_a_form_is_refused(path: str, cut: int) -> None:
    """It would be stored as the text that it is."""
    value = b"Data:video/webm;codecs=vp8,opus;base64,AAAA"
    head = b'--x\r\nContent-Disposition: form-data; name="chunk"\r\n\r\n'
    body = head + value + b"\r\n--x--\r\n"
    lines = (f"Content-Type: {FORM_TYPE}; boundary=x", f"Content-Length: {len(body)}")
    async with serving(echo) as port, wire(port) as connection:
        await connection.send("PATCH", path, *lines, body=body[: len(head) + cut])
        connection.writer.write(body[len(head) + cut :])
        answer = await connection.head()
        answer.body = await connection.reader.readexactly(int(answer.headers["content-length"]))
    assert (answer.status, json.loads(answer.body)["errors"]) == (400, {"chunk": "A data URL, not what is in it"})
    # What has a file name is a file, whatever it begins with; and text may begin with less.
    for kept in (body.replace(b'"chunk"', b'"chunk"; filename=a'), body.replace(b"Data:", b"data")):
        lines = (f"Content-Type: {FORM_TYPE}; boundary=x", f"Content-Length: {len(kept)}")
        async with serving(echo) as port, wire(port) as connection:
            answer = await connection.ask("PATCH", path, *lines, body=kept)
        assert (answer.status, answer.body[:4].lower()) == (200, b"data")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON, b""),
        (JSON, b"{}"),
        (URLENCODED, b""),
        (URLENCODED, b"x=y"),
        (f"{FORM_TYPE}; boundary=x", b'--x\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n--x--\r\n'),
    ],
)
async def test_all_that_is_missing_is_named(content_type: str, body: bytes) -> None:
    lines = (f"Content-Type: {content_type}", f"Content-Length: {len(body)}")
    for path, missing in (("/", ["chunk", "video_id"]), ("/?video_id=1", ["chunk"])):
        async with serving(echo) as port, wire(port) as connection:
            answer = await connection.ask("PATCH", path, *lines, body=body)
        assert answer.status == 400
        assert json.loads(answer.body)["errors"] == dict.fromkeys(missing, "Field required")


# Two of them are digits that are not ASCII, as UTF-8 on the wire: a superscript and an Arabic one.
@pytest.mark.parametrize(
    "value", ["-1", "+1", "1.0", "1e3", "0x1", "\xb2", "\xc2\xb2", "\xd9\xa3", "", "9" * 19, "9" * 5000]
)
async def test_an_offset_that_is_no_number_of_bytes_is_refused(value: str) -> None:
    async with serving(raw_or_file) as port, wire(port) as connection:
        answer = await connection.ask("POST", "/", "Content-Length: 0", f"Upload-Offset: {value}")
    assert (answer.status, json.loads(answer.body)["errors"]) == (400, {"upload-offset": "Not a number of bytes"})


async def test_of_two_offsets_neither_is_believed() -> None:
    async with serving(raw_or_file) as port, wire(port) as connection:
        answer = await connection.ask("POST", "/", "Content-Length: 0", "Upload-Offset: 0", "Upload-Offset: 5")
    assert (answer.status, json.loads(answer.body)["errors"]) == (400, {"upload-offset": "Not a number of bytes"})


@pytest.mark.parametrize(
    "value", ["", ":", "::", "AAAA", ":AAAA:", ":%s", "%s:", "%s", ":%s*:", "x%sx", ":%sx", "x%s:"]
)
async def test_a_sum_that_is_none_is_refused(value: str) -> None:
    """Taken for none, it would guard nothing."""
    encoded = base64.b64encode(hashlib.sha256(b"").digest()).decode()
    line = f"Content-Digest: sha-256={value.replace('%s', encoded)}"
    async with serving(raw_or_file) as port, wire(port) as connection:
        answer = await connection.ask("POST", "/", "Content-Length: 0", line)
    assert (answer.status, json.loads(answer.body)["errors"]) == (400, {"content-digest": "Not a SHA-256 in Base64"})
