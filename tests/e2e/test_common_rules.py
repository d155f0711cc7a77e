"""What all dialects share, over the started system: real processes, real HTTP.

Each rule of the contract, and the test that fails without it:

| rule | test |
|---|---|
| every path with and without its trailing slash, no redirect | test_paths_end_with_a_slash_or_without |
| a private video is private | test_a_private_video_is_its_owner_s |
| X-Request-Id | test_every_answer_has_a_request_id |
| no shared cache keeps an answer | test_every_answer_says_who_may_keep_it |
| errors are JSON; 422 as documented; nothing internal told | test_errors_are_json, test_no_answer_tells_of_the_inside |
| an id in capitals is the same id | test_an_id_may_come_back_in_capitals |
| CORS | test_cors, test_only_pages_of_configured_origins_may_read |
"""

import asyncio
import itertools
import json
import re
from uuid import uuid4

import pytest

from gateway.chunk_body import APPEND_HEADERS
from gateway.range_document import RANGE_REQUEST_HEADERS
from tests.support.system import RunningSystem
from tests.support.videos_api import (
    FORM,
    Raw,
    Reply,
    VideosApi,
    catalog_side,
    file_part,
    form,
    more,
    several,
    videos_api,
)
from tests.support.waiting import until

JSON = {"Content-Type": "application/json"}


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

        await until(hidden)  # at once, but for the second that each caller's answer may be old
        for path in (stream, download):
            for headers in ({}, system.authorization(berta)):
                assert (await api.call("GET", path, headers)).status == 404
                assert (await api.call("HEAD", path, headers)).status == 404
                assert (await api.call("GET", path, {**headers, "Range": "bytes=0-1"})).status == 404
            assert (await api.call("GET", path, system.authorization(anna))).body == mp4
        await catalog.delete(video_id, str(anna))

    async def gone() -> bool:
        return (await api.call("GET", stream, system.authorization(anna))).status == 404

    await until(gone)


async def test_an_id_may_come_back_in_capitals(api: VideosApi, system: RunningSystem, mp4: bytes) -> None:
    """As Swift writes a UUID, whatever it was read from."""
    anna = uuid4()
    user = system.authorization(anna)
    video_id = (await api.new_video(mp4, user)).upper()
    command = {"ffmpeg_command": "-i in_1 out_1", "output_files": {"out_1": "a.mp4"}}
    task = {**command, "input_files": {"in_1": f"video://{video_id}"}}
    registered = await api.call("POST", "/ffmpeg/register", user | JSON, json.dumps(task))
    edit = json.dumps({"title": "Mine", "description": ""})
    for method, path, status, body in (
        ("GET", f"/videos/{video_id}/stream", 200, None),
        ("PUT", f"/video/my/{video_id}", 204, edit),
        ("GET", f"/video/watch?user_id={anna}&hash_id={video_id}", 200, None),
        ("GET", f"/ffmpeg/status/{registered.json['task_id'].upper()}", 200, None),
        ("GET", f"/videos/{video_id.replace('-', '')}/stream", 404, None),
    ):
        reply = await api.call(method, path, user | JSON, body)
        assert reply.status == status, (path, reply.body)


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
    answer = await asyncio.wait_for(raw.reader.read(65_536), 30)
    raw.reset()
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert 400 <= status < 500
    assert b"Traceback" not in answer
    assert b"aiohttp" not in answer
    assert b"Python" not in answer
    assert b"application/json" in head
    assert b"x-request-id" in head.lower()
    assert b"\r\nCache-Control: no-store\r\n" in head
    assert body.startswith(b'{"detail"')


async def test_head_is_get_without_a_body(api: VideosApi, system: RunningSystem, path: str) -> None:
    """RFC 9110, 9.1: whatever GET answers; a monitor asks so whether a page is there."""
    video_id = path.split("/")[2]
    number = (await api.call("POST", "/create_video")).json["video_id"]
    headers = system.authorization(uuid4())
    for each in (
        "/health", "/ready", "/", "/health_check", "/docs", "/openapi.json", "/video/my", "/video/explore",
        "/api/record/videos", f"/api/record/videos/{number}", "/ffmpeg/tasks", f"/videos/{video_id}/transcript",
        "/nothing",
    ):  # fmt: skip
        # On one connection: a body would be taken for the next answer.
        raw = await Raw.open(system.base_url)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        raw.send(b"".join(f"{verb} {each} HTTP/1.1\r\nHost: t\r\n{lines}\r\n".encode() for verb in ("HEAD", "GET")))
        statuses = []
        for _ in range(2):
            statuses.append(await raw.status())
            await asyncio.wait_for(raw.reader.readuntil(b"\r\n\r\n"), 30)
        raw.reset()
        assert statuses[0] == statuses[1], each
    assert (await api.call("HEAD", "/video/upload", headers)).status == 405, "it would sign one"


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


async def test_every_answer_says_who_may_keep_it(api: VideosApi, system: RunningSystem, path: str) -> None:
    """What says nothing, caches keep for as long as they like (RFC 9111, 4.2.2), and proxies as they are configured."""
    user = system.authorization(uuid4())
    for each, operations in (await api.get("/openapi.json", Accept_Encoding="identity")).json["paths"].items():
        for verb, value in itertools.product(operations, (path.split("/")[2], "1")):
            reply = await api.call(verb.upper(), re.sub(r"\{\w+\}", value, each), user)
            kept = "private, no-cache" if "ETag" in reply.headers else "no-store"
            assert reply.headers.getall("Cache-Control") == [kept], (verb, each, reply.status)
    for status, reply in (
        (401, await api.get(path, Authorization="Bearer bad")),
        (404, await api.get(UNKNOWN)),
        (404, await api.get("/nothing")),
        (405, await api.call("DELETE", "/videos")),
        (413, await api.call("POST", "/api/record/videos", {"Content-Type": "application/json"}, b" " * 2**21)),
        (414, await api.get("/" + "x" * 9000)),
    ):
        assert (reply.status, reply.headers.getall("Cache-Control")) == (status, ["no-store"])


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
    # Whatever a route looks at, a page may send; and what widgets, tracers and frameworks send unasked.
    looked_at = {"Authorization", "Content-Type", "Content-Encoding", "Last-Event-ID"}
    sent = looked_at | RANGE_REQUEST_HEADERS.keys() | APPEND_HEADERS.keys() | {"*"}
    assert {name.lower() for name in sent} <= {
        name.strip().lower() for name in preflight.headers["Access-Control-Allow-Headers"].split(",")
    }
    exposed = {"content-range", "accept-ranges", "etag", "content-length", "x-request-id"}
    # What a recorder in a page goes on by.
    exposed |= {"upload-offset", "retry-after"}
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
