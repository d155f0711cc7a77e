"""What a request that doesn't fit is told, byte for byte, and what a handler gets of one that fits."""

from __future__ import annotations

import asyncio
import codecs
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from gateway import request_body, validation
from gateway.invalid_request import InvalidRequestError
from gateway.routing import Answer, Routes, register
from tests.support.costs import others_run
from tests.support.http_server import Wire, serving_app, wire

ID = "d7be78a8-9a7a-4f25-8b47-92c8d65e9446"
JSON = "Content-Type: application/json"
URLENCODED = "Content-Type: application/x-www-form-urlencoded"
OK = {200: Answer("Echo")}

routes = Routes("test")


class VideoPath(BaseModel):
    video_id: UUID


class UserPath(BaseModel):
    user_id: str


class Page(BaseModel):
    model_config = ConfigDict(extra="forbid")
    limit: int = Field(default=10, ge=1, le=100)
    next: str | None = None


class Offsets(BaseModel):
    upload_offset: int
    idempotency_key: str


class Title(BaseModel):
    title: str = Field(max_length=5)
    tags: list[str] = []


@routes.post("/both/{video_id:[0-9a-z-]{2}.*}", summary="Path and query", answers=OK)
async def both(_: web.Request, path: VideoPath, query: Page) -> web.Response:
    return web.json_response({"path": str(path.video_id), **query.model_dump()})


@routes.post("/user/{user_id}", summary="Path of any text", answers=OK)
async def of_user(_: web.Request, path: UserPath) -> web.Response:
    return web.json_response(path.model_dump())


@routes.post("/with-json/{video_id}", summary="Path and JSON", answers=OK)
async def path_and_json(_: web.Request, path: VideoPath, json: Title) -> web.Response:
    return web.json_response({"path": str(path.video_id), **json.model_dump()})


@routes.post("/headers", summary="Headers", answers=OK)
async def with_headers(_: web.Request, headers: Offsets) -> web.Response:
    return web.json_response(headers.model_dump())


@routes.post("/json", summary="JSON", answers=OK, aliases=["/as/json"])
async def with_json(_: web.Request, json: Title) -> web.Response:
    return web.json_response(json.model_dump())


@routes.post("/body", summary="Any", answers=OK)
async def with_body(_: web.Request, body: Title) -> web.Response:
    return web.json_response(body.model_dump())


@routes.get("/own", summary="The handler finds fault", answers=OK, head=True)
async def own(_: web.Request) -> web.Response:
    raise InvalidRequestError.missing("body", "video")


@routes.get("/", summary="The root", answers=OK)
async def root(_: web.Request) -> web.Response:
    return web.json_response({})


other_dialect = Routes(
    "other", on_invalid=lambda error: web.json_response({"errors": [str(e.loc) for e in error.errors]}, status=400)
)


@other_dialect.post("/other", summary="Other words", answers=OK)
async def other(_: web.Request, json: Title) -> web.Response:
    return web.json_response({})


@pytest.fixture
async def connection() -> AsyncIterator[Wire]:
    app = web.Application(client_max_size=10_000)
    register(app.router, [*routes, *other_dialect])
    async with serving_app(app) as port, wire(port) as opened:
        yield opened


async def ask(connection: Wire, path: str, *headers: str, body: bytes = b"") -> tuple[int, Any]:
    answer = await connection.ask("POST", path, *headers, f"Content-Length: {len(body)}", body=body)
    return answer.status, json.loads(answer.body)


def wrong(*items: tuple[list[str | int], str, str]) -> tuple[int, Any]:
    return 422, {"detail": [{"loc": loc, "msg": msg, "type": kind} for loc, msg, kind in items]}


async def test_everything_wrong_is_named_at_once(connection: Wire) -> None:
    assert await ask(connection, "/both/zz?limit=0&color=red") == wrong(
        (["path", "video_id"], "Input should be a valid UUID, invalid character: found `z` at 0", "uuid_parsing"),
        (["query", "limit"], "Input should be greater than or equal to 1", "greater_than_equal"),
        (["query", "color"], "Extra inputs are not permitted", "extra_forbidden"),
    )


async def test_a_body_that_cannot_be_read_hides_nothing_else(connection: Wire) -> None:
    status, answer = await ask(connection, "/with-json/zz", "Content-Type: text/plain", body=b"{}")
    assert (status, [item["loc"] for item in answer["detail"]]) == (
        422,
        [["path", "video_id"], ["header", "content-type"]],
    )


async def test_path_and_query(connection: Wire) -> None:
    assert await ask(connection, f"/both/{ID}?limit=1&limit=7") == (200, {"path": ID, "limit": 7, "next": None})


@pytest.mark.parametrize("user_id", ["{5f0c1f6e-7d0e-4a8e-9d58-0b6f1f7f2a11}", "auth0|a/b", "%41", "?", "é", "\n"])
@pytest.mark.parametrize("end", ["", "/"])
async def test_any_text_in_a_path(connection: Wire, user_id: str, end: str) -> None:
    assert await ask(connection, f"/user/{quote(user_id, safe='')}{end}") == (200, {"user_id": user_id})


async def test_headers(connection: Wire) -> None:
    assert await ask(connection, "/headers", "UPLOAD-offset: 7", "idempotency-key: j", "Idempotency-Key: k") == (
        200,
        {"upload_offset": 7, "idempotency_key": "k"},
    )
    assert await ask(connection, "/headers", "Idempotency-Key: k") == wrong(
        (["header", "upload-offset"], "Field required", "missing")
    )


@pytest.mark.parametrize(("path", "content_type"), [("/json", JSON), ("/body", URLENCODED)])
async def test_a_body_that_is_not_encoded_as_it_says(connection: Wire, path: str, content_type: str) -> None:
    refused = await ask(connection, path, content_type, "Content-Encoding: gzip", body=b'{"title": "a", "tags": ["x"]}')
    assert refused == wrong((["body"], "The body cannot be decoded", "body_encoding"))


@pytest.mark.parametrize(
    ("path", "content_type", "body"),
    [("/json", JSON, b'{"title": "a"}'), ("/body", URLENCODED, b"title=a"), ("/body", JSON, b'{"title": "a"}')],
)
async def test_a_compressed_body(connection: Wire, path: str, content_type: str, body: bytes) -> None:
    packed = gzip.compress(body)
    assert (await ask(connection, path, content_type, "Content-Encoding: gzip", body=packed))[0] == 200
    refused = await ask(connection, path, content_type, "Content-Encoding: gzip", body=packed[:-1])
    assert refused == wrong((["body"], "The body cannot be decoded", "body_encoding"))


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("path", ["/json", "/json/", "/as/json", "/as/json/"])
async def test_json(connection: Wire, path: str, mark: bytes) -> None:
    body = mark + b'{"title": "a", "tags": ["x"]}'
    assert await ask(connection, path, JSON, body=body) == (200, {"title": "a", "tags": ["x"]})


@pytest.mark.parametrize("path", ["/json", "/body"])
@pytest.mark.parametrize(
    ("body", "item"),
    [
        (b"{", (["body"], "Invalid JSON: EOF while parsing an object at line 1 column 1", "json_invalid")),
        (b"{}", (["body", "title"], "Field required", "missing")),
        (b'{"title": 1}', (["body", "title"], "Input should be a valid string", "string_type")),
        (
            b'{"title": "123456"}',
            (["body", "title"], "String should have at most 5 characters", "string_too_long"),
        ),
        (
            b'{"title": "", "tags": ["", 1]}',
            (["body", "tags", 1], "Input should be a valid string", "string_type"),
        ),
    ],
)
async def test_bad_json(connection: Wire, path: str, body: bytes, item: tuple[list[str | int], str, str]) -> None:
    assert await ask(connection, path, JSON, body=body) == wrong(item)


@pytest.mark.parametrize("path", ["/json", "/body"])
async def test_more_wrong_values_than_an_answer_names(connection: Wire, path: str) -> None:
    status, answer = await ask(connection, path, JSON, body=b'{"title": "", "tags": [%s]}' % b",".join([b"0"] * 50))
    assert (status, len(answer["detail"])) == (422, 50)
    refused = await ask(connection, path, JSON, body=b'{"title": "", "tags": [%s]}' % b",".join([b"0"] * 51))
    assert refused == wrong((["body"], "Too many errors to name: 51", "too_many_errors"))


async def test_json_of_too_many_values_is_not_parsed(connection: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "_MOST_JSON_VALUES", 1000)
    body = b'{"title": "a", "other": [%s]}'
    assert (await ask(connection, "/json", JSON, body=body % b",".join([b"[]"] * 499)))[0] == 200
    refused = await ask(connection, "/json", JSON, body=body % b",".join([b"[]"] * 500))
    assert refused == wrong((["body"], "Too many values", "json_invalid"))


async def test_a_long_name_is_not_repeated_whole(connection: Wire) -> None:
    name = "n" * 5000
    assert await ask(connection, f"/both/{ID}?{name}=x") == wrong(
        (["query", f"{name[:200]}…"], "Extra inputs are not permitted", "extra_forbidden")
    )


@pytest.mark.parametrize("body", [b"[" * 9000, b'{"title": "\xff"}', b"\0", b"[1]", b"null", b"NaN"])
async def test_worse_json(connection: Wire, body: bytes) -> None:
    status, answer = await ask(connection, "/json", JSON, body=body)
    assert status == 422
    assert answer["detail"][0]["loc"] == ["body"]
    assert answer["detail"][0].keys() == {"loc", "msg", "type"}


async def test_json_by_another_name_is_refused(connection: Wire) -> None:
    for content_type in ("Content-Type: text/plain", "X: y"):
        for path, expected in (("/json", "application/json"), ("/body", "application/json or a form's")):
            assert await ask(connection, path, content_type, body=b'{"title": "a"}') == wrong(
                (["header", "content-type"], f"Content-Type should be {expected}", "content_type")
            )
    status, _ = await ask(connection, "/json", "Content-Type: application/merge-patch+json", body=b'{"title": "a"}')
    assert status == 200


async def test_a_request_of_nothing_is_told_what_is_missing(connection: Wire) -> None:
    """An empty form leaves many clients without a type, and some with one that means nothing."""
    for content_type in ("X: y", "Content-Type: application/octet-stream", JSON):
        assert await ask(connection, "/json", content_type) == wrong((["body"], "Field required", "missing"))
        assert await ask(connection, "/body", content_type) == wrong((["body", "title"], "Field required", "missing"))


async def test_forms(connection: Wire) -> None:
    path = "/body"
    multipart = "Content-Type: multipart/form-data; boundary=B"
    part = b'--B\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    body = part % (b"title", b"a") + part % (b"other", b"x") + part % (b"title", b"b") + b"--B--\r\n"
    expected = (200, {"title": "b", "tags": []})
    assert await ask(connection, path, multipart, body=body) == expected
    assert await ask(connection, path, URLENCODED, body=b"title=a&other=x&title=b") == expected
    assert await ask(connection, path, URLENCODED, body=b"other=x&title=b\r\n") == expected, "as some tools end it"
    assert await ask(connection, path, URLENCODED, body=b"title=") == (200, {"title": "", "tags": []})
    assert await ask(connection, path, URLENCODED, body=b"") == wrong((["body", "title"], "Field required", "missing"))
    assert await ask(connection, path, multipart, body=b"--B") == wrong(
        (["body"], "The form ends without its closing boundary", "multipart_invalid")
    )


@pytest.mark.parametrize(
    ("charset", "body"),
    [
        ("utf-8", b"title=\xff"),
        ("utf-8", b"\xff=a"),
        ("utf-8", b"title=%E9"),
        ("utf-8", b"title=%ED%A0%80"),
        ("utf-8", b"title=a&%FF=a"),
        ("ascii", b"title=%C3%A9"),
        ("utf-16", b"title=\xff"),
        ("nonsense", b"title=a"),
        ("hex", b"a"),
        # Python's decoder takes minutes for a MiB of it.
        ("punycode", b"title=a-"),
    ],
)
async def test_a_form_that_is_no_text(connection: Wire, charset: str, body: bytes) -> None:
    refused = await ask(connection, "/body", f"{URLENCODED}; charset={charset}", body=body)
    assert refused == wrong((["body"], "Not text of its charset", "string_unicode"))


@pytest.mark.parametrize("odd", ["; x*", ";" * 4000 + "x*", "; x=" + "(" * 4000, "; x*=y", "; x*0*=y''%zz", '; x="'])
async def test_a_type_with_parameters_that_are_none(connection: Wire, odd: str) -> None:
    """Python's parser of mails, which is aiohttp's, breaks on them."""
    for path, known, body in (
        ("/json", JSON, b'{"title": "a"}'),
        ("/body", JSON, b'{"title": "a"}'),
        ("/body", URLENCODED, b"title=a"),
    ):
        assert await ask(connection, path, known + odd, body=body) == (200, {"title": "a", "tags": []})
        status, answer = await ask(connection, path, f"Content-Type: a/b{odd}", body=body)
        assert (status, answer["detail"][0]["loc"]) == (422, ["header", "content-type"])


async def test_a_charset_that_nobody_knows_is_not_looked_for(connection: Wire) -> None:
    """Python keeps the name of each for ever."""
    looked_for: list[str] = []
    search = looked_for.append
    codecs.register(search)
    try:
        status, _ = await ask(connection, "/body", f"{URLENCODED}; charset=nobodys", body=b"title=a")
    finally:
        codecs.unregister(search)
    assert (status, looked_for) == (422, [])


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        *[(name, "é") for name in ("utf-8", "UTF8", "ISO-8859-1", "iso_8859_1", "iso8859-1", "Latin1", "latin-1")],
        *[(name, "a") for name in ("us-ascii", "ascii")],
        *[(name, "€") for name in ("windows-1252", "cp1252")],
    ],
)
async def test_a_form_in_a_charset_that_is_in_use(connection: Wire, charset: str, text: str) -> None:
    body = "title=" + quote(text, encoding=charset)
    status, echo = await ask(connection, "/body", f"{URLENCODED}; charset={charset}", body=body.encode())
    assert (status, echo["title"]) == (200, text)


async def test_too_much_of_it(connection: Wire) -> None:
    for content_type in (JSON, URLENCODED):
        answer = await connection.ask("POST", "/body", content_type, "Content-Length: 10001", body=b"x" * 10_001)
        assert answer.status == 413
    fields = b"&".join([b"title=a"] * 1001)
    refused = await ask(connection, "/body", URLENCODED, body=fields)
    assert refused == wrong((["body"], "The form has too many fields", "form_invalid"))


@pytest.mark.parametrize("fields", [1, 64])
async def test_others_run_while_a_form_is_decoded(fields: int) -> None:
    app = web.Application(client_max_size=2**20)
    register(app.router, routes)
    body = b"&".join([b"title=" + b"%41" * (2**18 // fields)] * fields)
    async with serving_app(app) as port, wire(port) as opened:
        status, _ = await others_run(lambda: ask(opened, "/body", URLENCODED, body=body))
    assert status == 422, "the title is too long"


async def test_a_client_that_waits_to_be_asked(connection: Wire) -> None:
    await connection.send("POST", "/json", JSON, "Content-Length: 14", "Expect: 100-continue")
    assert (await connection.head()).status == 100
    connection.writer.write(b'{"title": "a"}')
    assert (await connection.head()).status == 200


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/own", 405)])
async def test_nobody_is_asked_for_what_no_route_takes(connection: Wire, path: str, status: int) -> None:
    await connection.send("POST", path, "Content-Length: 14", "Expect: 100-continue")
    assert (await connection.head()).status == status


@pytest.mark.parametrize("content_type", [JSON, URLENCODED, "Content-Type: multipart/form-data; boundary=B"])
async def test_a_body_that_does_not_come_is_given_up(
    connection: Wire, content_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_body, "WHOLE_BODY_S", 0.2)
    await connection.send("POST", "/body", content_type, "Content-Length: 100", body=b"{")
    async with asyncio.timeout(30):
        assert (await connection.head()).status == 408


async def test_the_handlers_own_refusal(connection: Wire) -> None:
    answer = await connection.ask("GET", "/own/")
    expected = {"detail": [{"loc": ["body", "video"], "msg": "Field required", "type": "missing"}]}
    assert (answer.status, json.loads(answer.body)) == (422, expected)
    assert (await connection.ask("HEAD", "/own")).status == 422


async def test_another_dialects_words(connection: Wire) -> None:
    assert await ask(connection, "/other/", JSON, body=b"{}") == (400, {"errors": ["['body', 'title']"]})


async def test_methods(connection: Wire) -> None:
    assert (await connection.ask("GET", "/")).status == 200
    answer = await connection.ask("GET", "/json/")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_signatures_that_cannot_be_bound() -> None:
    with pytest.raises(TypeError, match="'title' must be a model"):

        @routes.get("/x", summary="", answers=OK)
        async def unknown(_: web.Request, title: Title) -> web.Response:
            return web.Response()

    with pytest.raises(TypeError, match="one body"):

        @routes.get("/x", summary="", answers=OK)
        async def two(_: web.Request, json: Title, body: Title) -> web.Response:
            return web.Response()
